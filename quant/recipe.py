"""How a method is trained as published: values of options by name, as flags spell them."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from quant.policy import Rule

# The course of RS-Nets' quantization code, for what no source says a course of.
RSNETS_COURSE: Mapping[str, Any] = {'lr': 0.1, 'schedule': 'step', 'epochs': 120}

# Of shortcuts that stay float.
FLOAT_SHORTCUTS = (Rule(roles=('shortcut',), weight='float'),)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Values of options, which explicit flags beat.

    Attributes:
        values: what it sets.
        expect: the number to expect and where it was read.
        at_bits: what it sets beside at other bits than those of ``values``, such as ``w3a3``.
        stages: bits of a chain of trainings where no flag sets bits; none for one training.
        with_teacher: what it sets beside where there is a teacher.
    """

    values: Mapping[str, Any]
    expect: str
    at_bits: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    stages: tuple[str, ...] = ()
    with_teacher: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def at(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The options that it sets where these, by name, are set by flags."""
        values = {**self.values, **given}
        bits = f'w{values.get("qw")}a{values.get("qa")}'
        found = {**self.values, **self.at_bits.get(bits, {})}
        if given.get('teacher'):
            found |= self.with_teacher
        if given.get('bits'):
            # Several precisions take the place of one.
            found.pop('qw', None)
            found.pop('qa', None)
        return found
