"""Tables and figures within the text of pages, as Markdown, drawn from what owns their numbers.

Measured numbers are those of ``docs/measured``, published ones those of the presets.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from engine import families
from engine.config.overview import bits_name
from engine.errors import UsageError
from engine.results import bits_study, quantizer_study, study_records
from engine.results.rendering import format_bytes
from quant import pairs, specs
from quant.spelling import unknown
from scripts import measured, study

Row = dict[str, Any]


class Demo(NamedTuple):
    """An experiment of one family.

    Attributes:
        name: Of the experiment.
        network: In words.
        chosen: At run time.
        short: Name of the network in measured rows and in pictures.
    """

    name: str
    network: str
    chosen: str
    short: str

    @property
    def command(self) -> str:
        """That trains it."""
        return 'make demo' if self.name == 'demo' else f'python -m scripts.study {self.name}'


DEMOS = (
    Demo('demo', 'RS-Net, ResNet-8', 'input sizes', 'RS-Net ResNet-8'),
    Demo('demo-mobilenet', 'RS-Net, small MobileNetV2', 'input sizes', 'RS-Net MobileNetV2'),
    Demo('demo-san', 'SAN, ResNet-8', 'input sizes', 'SAN ResNet-8'),
    Demo('demo-aig', 'ConvNet-AIG, ResNet-20', 'blocks, by image', 'ConvNet-AIG'),
    Demo('demo-msdnet', 'MSDNet', 'exits', 'MSDNet'),
    Demo('demo-dsnet', 'DS-Net, small MobileNetV1', 'widths', 'DS-Net'),
)


def markdown(rows: Iterable[Sequence[str]], headers: Sequence[str]) -> str:
    """A table, narrow in its source."""
    lines = [headers, ['---'] * len(headers), *rows]
    return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines)


def by_bits(name: str) -> dict[str, list[Row]]:
    """Rows of an experiment by bits, ``float`` or ``W2A2``, but for those of widths by image."""
    found: dict[str, list[Row]] = {}
    for row in measured.rows(name):
        found.setdefault(bits_name(row['qw'], row['qa']), []).append(row)
    for bits, rows in found.items():
        found[bits] = [row for row in rows if row['point'] != 'dynamic']
    return found


def span(values: Sequence[float], unit: float = 1.0) -> str:
    """Least and greatest value with one digit, or the only one."""
    least, greatest = f'{min(values) / unit:.1f}', f'{max(values) / unit:.1f}'
    return least if least == greatest else f'{least} ... {greatest}'


def families_table() -> str:
    """All families: accuracy, cost and memory of one set of weights."""
    lines: list[list[str]] = []
    for demo in DEMOS:
        network, command = demo.network, f'`{demo.command}`'
        for bits, rows in by_bits(demo.name).items():
            chosen = f'{len(rows)} {demo.chosen}' if len(rows) > 1 else demo.chosen
            top1 = span([row['top1'] for row in rows])
            madds = span([row['madds'] for row in rows], 1e6)
            weights = format_bytes(max(row['weight_bytes'] for row in rows))
            lines.append([network, bits, chosen, top1, madds, weights, command])
            network = command = ''
    headers = ['network', 'bits', 'points', 'top-1, %', 'M MAdds', 'weights', 'trained by']
    return markdown(lines, headers)


def points_table(*names: str) -> Callable[[], str]:
    """Draws top-1 at every point of some experiments, a line for each network and bits.

    Below them stand the multiply-adds of a network, which all its bits share.
    """

    def draw() -> str:
        lines, points = [], {}
        for demo in DEMOS:
            if demo.name not in names:
                continue
            for bits, rows in by_bits(demo.name).items():
                top1 = {label(row['point']): f'{row["top1"]:.2f}' for row in rows}
                points.update(dict.fromkeys(top1))
                lines.append((f'{demo.network}, {bits}', top1))
            madds = {label(row['point']): f'{row["madds"] / 1e6:.2f}' for row in rows}
            lines.append((f'{demo.network}, M MAdds', madds))
        order = sorted(points, key=number, reverse=all(point.isdigit() for point in points))
        cells = [[name, *(top1.get(point, '') for point in order)] for name, top1 in lines]
        return markdown(cells, ['top-1, % at', *order])

    return draw


def label(point: str) -> str:
    """A point within one family: its size, exit or width.

    >>> label('s28'), label('s28-x3'), label('w04')
    ('28', 'x3', 'w04')
    """
    last = point.rpartition('-')[2]
    return last.removeprefix('s')


def number(point: str) -> int:
    """The number in the name of a point."""
    return int(''.join(letter for letter in point if letter.isdigit()))


def costs_table(name: str) -> Callable[[], str]:
    """Draws accuracy, multiply-adds and weights of an experiment, a line for each point."""

    def draw() -> str:
        lines: list[list[str]] = []
        for bits, rows in by_bits(name).items():
            for row in rows:
                madds = f'{row["madds"] / 1e6:.1f}'
                weights = format_bytes(row['weight_bytes'])
                lines.append([bits, row['point'], f'{row["top1"]:.2f}', madds, weights])
        return markdown(lines, ['bits', 'point', 'top-1, %', 'M MAdds', 'weights'])

    return draw


def study_table() -> str:
    """The study: mean and standard deviation over the seeds, by network and size."""
    sizes, lines = study.seeds_cells(measured.rows('study'))
    return markdown(lines, ['top-1, % at', *sizes])


def presets_table() -> str:
    """Recipes of published networks: the data that each is for, and what was published."""
    lines: list[list[str]] = []
    for name, preset in families.presets().items():
        ours = preset.values.get('data') == 'animals28'
        if not ours and name not in specs.names():
            lines.append([f'`{name}`', data_of(preset.values), preset.expect])
    return markdown(lines, ['preset', '`--data`', 'published'])


def data_of(values: Mapping[str, Any]) -> str:
    """The data that a preset is for, as a flag takes them."""
    inputs = str(values.get('inputs', ''))
    if not inputs.startswith('cifar'):
        return '/data/ILSVRC2012'
    return 'cifar100:DIR' if inputs.startswith('cifar100') else 'cifar10:DIR'


def methods_table() -> str:
    """Recipes of quantizers, and what was published."""
    lines: list[list[str]] = []
    for name in specs.names():
        recipe = specs.recipe(name)
        if recipe is not None:
            lines.append([f'`{name}`', recipe.expect])
    return markdown(lines, ['preset', 'published'])


def bits_table(number: int) -> Callable[[], str]:
    """Draws one of the tables of the study of bits, see ``bits_study.tables``."""

    def draw() -> str:
        records = study_records.read(measured.path_of('bits'))
        return bits_study.tables(records)[number].shown('markdown')

    return draw


def quantizers_table() -> str:
    """The table of the study of quantizers."""
    found = study_records.read(measured.path_of('quantizers'))
    return quantizer_study.table(found, pairs.DEFAULT).shown('markdown')


def costs_of_quantizers_table() -> str:
    """Time of every quantizer alone, against a ReLU, and in a training step, against float."""
    uses: dict[tuple[str, str], list[Row]] = {}
    for row in measured.rows('bench-quantizers', field='alone'):
        name, _ = specs.split(row['quantizer'])
        uses.setdefault((row['of'], name), []).append(row)
    steps: dict[tuple[str, str], Row] = {}
    for row in measured.rows('bench-quantizers', field='step'):
        name, _ = specs.split(row['quantizer'])
        steps[row['of'], name] = row
    lines: list[list[str]] = []
    for (what, name), rows in sorted(uses.items()):
        bits = [str(specs.bits_in(row['quantizer'])) for row in rows]
        line = [f'`{name}` {what}', ' / '.join(bits)]
        for column in ('x CPU', 'native x CPU'):
            alone = [ratio(row[column]) for row in rows]
            line += [' / '.join(alone), ratio(steps[what, name][column])]
        lines.append(line)
    headers = ['quantizer', 'bits', 'alone', 'step', 'alone, in one pass', 'step, in one pass']
    return markdown(lines, headers)


def ratio(value: float | None) -> str:
    """A ratio with three digits, or nothing where it was not measured."""
    return '' if value is None else f'{value:.3g}'


def origin(experiment: str) -> str:
    """How the numbers of an experiment came about, in a line."""
    found = measured.origin(experiment)
    return f'`{found.command}`, {found.machine}, {found.date}'


def most_below_float(experiment: str, bits: str) -> str:
    """Points of top-1 that a network loses by quantization where it loses most.

    Args:
        experiment: A file of ``docs/measured``.
        bits: Of the quantized network, such as ``W2A2``.
    """
    found = by_bits(experiment)
    before = {row['point']: row['top1'] for row in found['float']}
    losses = [before[row['point']] - row['top1'] for row in found[bits]]
    tenths = math.ceil(round(10 * max(losses), 6))  # up, as all points lie within it
    return f'{tenths / 10:.1f}'


def figure(experiment: str, name: str) -> str:
    """A figure of an experiment with three digits, or its origin.

    Args:
        experiment: A file of ``docs/measured``.
        name: Of the figure; ``origin``; or ``most below float, BITS`` of a demo.

    Raises:
        UsageError: It has no such figure.
    """
    if name == 'origin':
        return origin(experiment)
    about, _, bits = name.partition(', ')
    if about == 'most below float':
        return most_below_float(experiment, bits)
    found = measured.figures(experiment)
    if name not in found:
        raise UsageError(unknown(name, found))
    return f'{found[name]:.3g}'


def drawn(name: str) -> str:
    """A table by its name, or ``EXPERIMENT: FIGURE``.

    Raises:
        UsageError: There is no such table, experiment or figure.
    """
    experiment, colon, about = name.partition(': ')
    if colon:
        return figure(experiment, about)
    if name not in TABLES:
        raise UsageError(unknown(name, TABLES))
    return TABLES[name]()


TABLES: dict[str, Callable[[], str]] = {
    'families': families_table,
    'study': study_table,
    'presets': presets_table,
    'methods': methods_table,
    'sizes': points_table('demo', 'demo-mobilenet', 'demo-san'),
    'exits': points_table('demo-msdnet'),
    'widths': points_table('demo-dsnet'),
    'gates': costs_table('demo-aig'),
    'bits': bits_table(0),
    'bits-ways': bits_table(1),
    'quantizers': quantizers_table,
    'quantizer-costs': costs_of_quantizers_table,
}
