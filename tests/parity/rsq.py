"""RS-Nets quantization: logits of a network with stored statistics, and the index tables of its
resize.
"""

import json
from typing import Any, NamedTuple

import numpy as np

from engine.data import inputs, preprocess
from engine.data.preprocessing import Preprocessing
from quant.backend import tf
from tests.parity import graphs
from tests.parity.fixtures import Check, Fixture, Result, compare, draw

# Of the logits' standard deviation, where a fixture states no tolerance and nothing can flip.
CONTINUOUS = 1e-4
# Absolute, for (image, size) cells marked stable, as the fixtures ask.
STABLE = 1e-3
# A flip is a sample of a random size, and the range in a fixture the largest of those that were
# seen.
FLIP_MARGIN = 1.25


class Cell(NamedTuple):
    """The logits of one image at one size, or of the ensemble.

    Attributes:
        what: Name for messages.
        image: Index of the image.
        stable: Whether the fixture found that no rounding flips it.
        error: Largest absolute difference.
        decorrelation: 1 - correlation.
        scale: Standard deviation of the published logits.
    """

    what: str
    image: int
    stable: bool
    error: float
    decorrelation: float
    scale: float

    @property
    def flipped(self) -> bool:
        return not self.error <= STABLE


# Of fixtures that differ in nothing but what they expect, by all else.
_logits: dict[str, dict[str, np.ndarray]] = {}


def _logits_of(fixture: Fixture) -> dict[str, np.ndarray]:
    """Our logits in evaluation mode, computed once for a model, its tensors and images."""
    model, drawn = fixture.data['model'], fixture.data['inputs'][0]
    key = json.dumps([model, drawn, fixture.tensors()], sort_keys=True)
    if key not in _logits:
        values = graphs.published_values(fixture)
        images = draw(drawn)
        classes = graphs.classes(fixture, values)
        with tf.Graph().as_default():
            tower = graphs.build(model, classes, images.shape, training=False)
            with tf.Session() as session:
                graphs.restore(session, values)
                _logits[key] = session.run(tower.logits, {tower.images: images})
    return _logits[key]


def forward(fixture: Fixture) -> Result:
    """Logits of every size and of the ensemble, in evaluation mode."""
    model = fixture.data['model']
    ours = _logits_of(fixture)
    result = Result(fixture.name, "the logits' std")
    theirs = {key: value for key, value in fixture.arrays.items() if key.startswith('logits_')}
    if set(ours) != set(theirs):
        result.problems.append(
            f'ours are {", ".join(sorted(ours))}; stored are {", ".join(sorted(theirs))}'
        )
    elif graphs.activation_bits(model) >= 32:
        result.checks = _continuous(ours, theirs, fixture.data.get('tolerance_abs'))
        result.remark = f'{sum(len(value) for value in ours.values())} cells'
    else:
        _judge_cells(
            result,
            _cells(ours, theirs, fixture.data['stability']['stable']),
            fixture.data['stability']['when_flipped'],
        )
    return result


def _continuous(
    ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray], tolerance: float | None
) -> list[Check]:
    """Networks without activation quantizers agree everywhere."""
    return [
        compare(
            key,
            ours[key],
            value,
            tolerance / value.std() if tolerance else CONTINUOUS,
            scale=value.std(),
        )
        for key, value in theirs.items()
    ]


def _cells(
    ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray], stable: dict[str, list[bool]]
) -> list[Cell]:
    """One per image and key; the ensemble of an image is stable if all its sizes are."""
    whole = [all(flags) for flags in zip(*stable.values())]
    cells = []
    for key, value in theirs.items():
        for i, (mine, row) in enumerate(zip(ours[key].astype('float64'), value.astype('float64'))):
            cells.append(
                Cell(
                    f'{key}[{i}]',
                    i,
                    stable.get(key, whole)[i],
                    float(np.abs(mine - row).max()),
                    1 - float(np.corrcoef(mine, row)[0, 1]),
                    float(value.std()),
                )
            )
    return cells


def _judge_cells(result: Result, cells: list[Cell], seen: dict[str, Any]) -> None:
    """Applies the rule that the fixtures suggest, for networks in which one value across a
    threshold moves all logits.

    Stable cells must agree, but for one or, in many, one in ten: the flags are empirical, and
    another order of summation may flip a cell marked stable. A flipped cell and every unstable one
    must stay within what flips were seen to do. An ensemble is as unstable as the least stable of
    its sizes.
    """
    sizes = [cell for cell in cells if 'ensemble' not in cell.what]
    stable = [cell for cell in sizes if cell.stable]
    flipped = [cell for cell in stable if cell.flipped]
    excused = len(flipped) <= max(1, len(stable) // 10)
    touched = {cell.image for cell in flipped}
    loose = [
        cell
        for cell in cells
        if not cell.stable or excused and cell.flipped and cell.image in touched
    ]
    for cell in cells:
        result.checks += (
            _range_checks(cell, seen)
            if cell in loose
            else [Check(cell.what, cell.error / cell.scale, STABLE / cell.scale)]
        )
    result.remark = f'{len(stable) - len(flipped)} of {len(stable)} stable cells agree'
    unstable = [cell for cell in sizes if not cell.stable]
    if unstable:
        result.remark += (
            f', and {sum(not cell.flipped for cell in unstable)} of {len(unstable)} unstable ones'
        )
    if flipped:
        result.remark += (
            f'; flipped: {", ".join(f"{cell.what} by {cell.error:.2g}" for cell in flipped)}'
        )


def _range_checks(cell: Cell, seen: dict[str, Any]) -> list[Check]:
    """A cell may be off by no more than a flip was seen to do, in size and in correlation."""
    limit = max(STABLE, FLIP_MARGIN * seen['max_abs'])
    decorrelation = max(1e-6, FLIP_MARGIN * (1 - seen['min_corr']))
    return [
        Check(f'{cell.what} (may flip)', cell.error / cell.scale, limit / cell.scale, sharp=False),
        Check(
            f'{cell.what} (may flip), 1 - correlation',
            cell.decorrelation,
            decorrelation,
            sharp=False,
        ),
    ]


def resize(fixture: Fixture) -> Result:
    """Source index of every target row and column, read off images whose pixels spell their own
    index.
    """
    tables = {int(key.rpartition('_')[2]): table for key, table in fixture.arrays.items()}
    side = max(tables)
    index = np.arange(side)
    rows = np.zeros([side, side, 3], 'uint8')
    rows[..., 0], rows[..., 1] = (index % 256)[:, None], (index // 256)[:, None]
    preprocessing = Preprocessing('area_crop', side, tuple(tables), 'nearest', 'normalized_bgr')
    rule = inputs.RULES[preprocessing.inputs]
    with tf.Graph().as_default(), tf.Session() as session:
        images = tf.constant(np.stack([rows, rows.transpose(1, 0, 2)]))
        pixels = session.run(preprocess.views([images], preprocessing, 'NHWC'))
    result = Result(fixture.name, 'the index tables', remark=f'sizes {", ".join(map(str, tables))}')
    for size, table in tables.items():
        values = np.rint((pixels[size] * np.array(rule.std) + np.array(rule.mean)) * 255)
        source = values[..., 0] + 256 * values[..., 1]
        grid = np.broadcast_to(table[:, None], [size, size])
        result.checks += [
            compare(f'{size}: rows', source[0], grid, 0.0),
            compare(f'{size}: columns', source[1], grid.T, 0.0),
        ]
    return result
