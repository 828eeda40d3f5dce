"""The embedded set, which is trained without ``--data``, and sizes and a network that fit it."""

from collections.abc import Mapping
from typing import Any

from engine.config.options import Architecture
from engine.config.presets import data_defaults
from engine.errors import UsageError

# The set that comes with the project, and its largest size.
NAME = 'animals28'
LARGEST = 32
# What ImageNet's sizes are divided by for it.
DIVISOR = 8


def options(values: Mapping[str, Any]) -> dict[str, Any]:
    """Data, sizes and architecture without ``--data``: those of the embedded set.

    Sizes that are meant for ImageNet are divided.

    Raises:
        UsageError: sizes for ImageNet that cannot be divided.
    """
    defaults = data_defaults(values.get('net', Architecture.net), NAME)
    sizes = tuple(values.get('sizes', defaults['sizes']))
    if max(sizes) > LARGEST:
        if any(size % DIVISOR or size < 8 * DIVISOR for size in sizes):
            raise UsageError(
                f'--sizes {" ".join(map(str, sizes))}: without --data, sizes are divided by '
                f'{DIVISOR}; give multiples of {DIVISOR} from {8 * DIVISOR} on, or sizes up to '
                f'{LARGEST}'
            )
        sizes = tuple(size // DIVISOR for size in sizes)
    return {'data': NAME, 'sizes': sizes, 'arch': values.get('arch', defaults['arch'])}


def note(values: Mapping[str, Any], wanted: tuple[int, ...] | None) -> str:
    """A line for the user: what is trained on, and what became of the sizes.

    Args:
        values: ``options``, by name.
        wanted: sizes as they were asked for.
    """
    text = ' '.join(map(str, values['sizes']))
    divided = f' (the published ones divided by {DIVISOR})'
    if wanted and values['sizes'] == tuple(wanted):
        divided = ''
    return f'no --data: the embedded set {NAME} at sizes {text}{divided}, {values["arch"]}'
