"""Published numbers of quantizers side by side: by network, method and bits, and what is float."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from engine.errors import UsageError
from engine.files import to_json
from engine.quantities import counted
from engine.results import formats, published, rendering
from engine.results.published import Published
from quant.quantizer import FLOAT_BITS

# Of what a source does not say.
UNKNOWN = '?'

# Columns before and behind the numbers.
BEFORE = ('Method', 'Quantizer')
BEHIND = ('stem', 'head', 'shortcuts', 'teacher', 'source')

FIELDS = (
    'arch',
    'system',
    'weight_quantizer',
    'activation_quantizer',
    'qw',
    'qa',
    'top1',
    'top5',
    'stem_bits',
    'head_bits',
    'shortcuts',
    'teacher',
    'table',
)


@dataclasses.dataclass(frozen=True)
class Method:
    """A published table's numbers of one network.

    Attributes:
        rows: its rows at 224 pixels, which differ in bits.
    """

    rows: Sequence[Published]

    @property
    def about(self) -> Published:
        """The first row, for all that the rows have in common."""
        return self.rows[0]

    def cells(self, bits: Sequence[tuple[int, int]]) -> list[str]:
        """Name, quantizers, top-1 at these bits, what is float, teacher, table."""
        about = self.about
        found = dict.fromkeys(bits)
        for row in self.rows:
            found[row.qw, row.qa] = row.top1
        numbers = map(rendering.format_percent, found.values())
        return [
            about.system,
            _quantizers(about),
            *numbers,
            _bits(about.stem_bits),
            _bits(about.head_bits),
            about.shortcuts or UNKNOWN,
            about.teacher or UNKNOWN,
            about.table,
        ]


def _quantizers(row: Published) -> str:
    """The quantizer of weights and activations, or both."""
    if row.weight_quantizer:
        return f'{row.weight_quantizer}, {row.quantizer}'
    return row.quantizer


def _bits(bits: int | None) -> str:
    """Bits of a layer's weights in words."""
    if bits is None:
        return UNKNOWN
    return 'float' if bits == FLOAT_BITS else counted(bits, 'bit')


def _networks(rows: Iterable[Published]) -> dict[str, list[Method]]:
    """Methods by network, networks of many methods first, methods in the order of the tables."""
    groups: dict[tuple[str, str], list[Published]] = {}
    for row in rows:
        groups.setdefault((row.arch, row.table), []).append(row)
    found: dict[str, list[Method]] = {}
    for (arch, _), group in groups.items():
        found.setdefault(arch, []).append(Method(group))
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))


def _rows(system: str) -> list[Published]:
    """Published rows at 224 pixels with fewer bits somewhere.

    Args:
        system: whose; empty for all. Runs by others belong to the method, too.

    Raises:
        UsageError: there are none.
    """
    low = []
    for row in published.rows():
        if min(row.qw, row.qa) < FLOAT_BITS and row.point == 's224':
            low.append(row)
    if not system:
        return low
    found = [row for row in low if _method(row).lower() == system.lower()]
    if not found:
        known = dict.fromkeys(map(_method, low))
        raise UsageError(
            f'--published {system}: no published quantizer; known are {", ".join(known)}'
        )
    return found


def _method(row: Published) -> str:
    """The authors' name of their method, also where others have trained it."""
    return row.system.partition(',')[0]


def _plain(row: Published) -> dict[str, Any]:
    """A row as plain data, in the order of ``FIELDS``."""
    weight, activation = row.quantizers
    values = {**vars(row), 'weight_quantizer': weight, 'activation_quantizer': activation}
    return {name: values[name] for name in FIELDS}


def render(system: str, style: str) -> str:
    """Methods by network, with bits in columns, what is float, teachers and sources.

    Args:
        system: whose; empty for all.
        style: one of ``formats.FORMATS``.

    Raises:
        UsageError: there is no published number of such a system.
    """
    rows = _rows(system)
    if style in formats.DATA:
        plain = list(map(_plain, rows))
        if style == 'csv':
            return formats.render_csv(FIELDS, (row.values() for row in plain))
        return to_json({'rows': plain, 'sources': rendering.sources(rows)})
    parts = []
    for arch, methods in _networks(rows).items():
        heading = formats.title(f'{arch}, top-1 at 224', style)
        parts.append(f'{heading}\n\n{_table(methods, style)}')
    lines = [*rendering.source_lines(rows), f'{UNKNOWN}: the source does not say']
    parts.append(formats.footnotes(lines, style))
    return '\n\n'.join(parts)


def _table(methods: Sequence[Method], style: str) -> str:
    """The methods of one network."""
    pairs: set[tuple[int, int]] = set()
    for method in methods:
        pairs.update((row.qw, row.qa) for row in method.rows)
    bits = sorted(pairs, key=_order)
    numbers = [f'W{qw}A{qa}' for qw, qa in bits]
    headers = [*BEFORE, *numbers, *BEHIND]
    align = [*len(BEFORE) * ['left'], *len(numbers) * ['right'], *len(BEHIND) * ['left']]
    body = [method.cells(bits) for method in methods]
    return formats.aligned(body, headers, style, align)


def _order(bits: tuple[int, int]) -> tuple[int, int]:
    """Fewer bits of activations first, then of weights."""
    qw, qa = bits
    return qa, qw
