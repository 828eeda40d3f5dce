"""Run folders as rows.

What was measured, what it costs, and which published number it can be compared with.

Pure Python. Reads ``config.json``, ``layers.json`` and ``eval/*.json`` of a run and
``data/published.json``.
"""

import contextlib
import dataclasses
import functools
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from engine import families
from engine.errors import UsageError
from engine.runs import folder as run_folder
from nets import cost

Layers = Mapping[str, list[cost.LayerRecord]]

ENSEMBLE, DYNAMIC = 'ensemble', 'dynamic'
IMAGENET_CLASSES = 1000
OTHER_DATA = ('animals28', 'cifar', 'fake')


@dataclasses.dataclass(frozen=True)
class Published:
    """One row of a published table.

    ``top5`` and ``madds`` are None where the source does not print them.
    """

    table: str
    system: str
    title: str
    source: str
    arch: str
    qw: int
    qa: int
    point: str
    top1: float
    top5: float | None
    madds: int | None


@dataclasses.dataclass(frozen=True)
class Row:
    """One operating point of one run: ``top1`` and ``top5`` in percent.

    Attributes:
        point: Operating point, such as ``s224``, or ``ensemble``.
        bn: Point whose BN statistics were used.
        madds: Multiply-adds of one image (with gates: expected at the measured rates; of an exit:
            with all earlier ones); like ``weight_bytes`` and ``bit_ops`` None if the run has no
            layer records of this point.
        bit_ops: Multiply-adds, each times the bits of its factors.
        ms: Median milliseconds of one image alone, if ``scripts.profile`` has measured them.
    """

    run: str
    qw: int
    qa: int
    point: str
    bn: str
    madds: int | None
    weight_bytes: int | None
    top1: float
    top5: float
    images: int | None = None
    published: Published | None = None
    bit_ops: int | None = None
    ms: float | None = None

    @property
    def label(self) -> str:
        own = size_label(self.point)
        return own if self.bn == self.point else f'{own} (BN {size_label(self.bn)})'

    @property
    def difference(self) -> float | None:
        """Top-1 minus the published top-1."""
        return None if self.published is None else round(self.top1 - self.published.top1, 3) + 0.0


@dataclasses.dataclass(frozen=True)
class Run:
    """A run folder that was read."""

    name: str
    config: Mapping[str, Any]
    rows: tuple[Row, ...]

    @property
    def bits(self) -> str:
        return f'{self.config["qw"]}/{self.config["qa"]}'


# Fields of a row that are written to tables as they are.
TABLE_FIELDS = (
    'run',
    'qw',
    'qa',
    'point',
    'bn',
    'madds',
    'bit_ops',
    'weight_bytes',
    'ms',
    'top1',
    'top5',
)


def size_label(point: str) -> str:
    """``s224`` -> ``224``; any other point as it is spelt."""
    return point[1:] if re.fullmatch(r's\d+', point) else point


def point_key(point: str, bn: str) -> tuple[Any, ...]:
    """Sort key: the strongest point first, foreign statistics after a point's own.

    Choices of a gate and then ensembles last.
    """
    own, foreign = (tuple(-int(n) for n in re.findall(r'\d+', name)) for name in (point, bn))
    return (
        point.startswith(ENSEMBLE),
        point.endswith(DYNAMIC),
        re.sub(r'\d+', '', point),
        own,
        bn != point,
        foreign,
    )


@functools.cache
def published() -> dict[str, Any]:
    """What ``published.json`` holds: ``tables``, and ``notes`` about them."""
    return json.loads(
        (Path(__file__).parents[1] / 'resources' / 'published.json').read_text(encoding='utf-8')
    )


@functools.cache
def published_rows() -> tuple[Published, ...]:
    """All rows of ``published.json``."""
    return tuple(
        Published(table['id'], table['system'], table['title'], table['source'], **row)
        for table in published()['tables']
        for row in table['rows']
    )


def on_imagenet(data: object) -> bool:
    """Whether a data name or path is not one of the other data sets."""
    return bool(data) and not Path(str(data)).name.lower().startswith(OTHER_DATA)


def identity(config: Mapping[str, Any]) -> tuple[str, Sequence[str]]:
    """The architecture of a run as ``published.json`` spells it, and the tables it belongs to."""
    return families.get(config['net']).published(config)


def find_published(config: Mapping[str, Any], point: str, bn: str) -> Published | None:
    """The published row of the same network, bits, kind of training and point.

    If the run is an ImageNet run.
    """
    imagenet = config.get('classes') == IMAGENET_CLASSES and on_imagenet(config.get('data'))
    if not imagenet or config.get('width') not in (None, 1) or bn != point:
        return None
    arch, tables = identity(config)
    wanted = (arch, config['qw'], config['qa'], point)
    return next(
        (
            row
            for row in published_rows()
            if row.table in tables and (row.arch, row.qw, row.qa, row.point) == wanted
        ),
        None,
    )


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        UsageError: The file is missing or holds no JSON object; the message ends with ``remedy``.
    """
    try:
        data = json.loads(path.read_text(encoding='utf-8'))
    except OSError as error:
        raise UsageError(f'{path}: cannot be read ({error.strerror}); {remedy}') from None
    except ValueError as error:
        raise UsageError(f'{path}: damaged ({error}); {remedy}') from None
    if not isinstance(data, dict):
        raise UsageError(f'{path}: damaged (a JSON object expected); {remedy}')
    return data


def read_config(folder: Path) -> dict[str, Any]:
    """``config.json`` with float written as 32 bits."""
    remedy = 'give a run folder as imagenet_tf.py writes it'
    if not folder.is_dir():
        raise UsageError(f'{folder}: no such run folder; {remedy}')
    config = read_json(folder / 'config.json', remedy)
    config = {
        **config,
        'qw': config.get('qw') or 32,
        'qa': config.get('qa') or 32,
        'sizes': config.get('sizes') or [],
    }
    if not config.get('net') or not isinstance(config['sizes'], list):
        raise UsageError(
            f'{folder / "config.json"}: damaged ("net" must be a name, "sizes" a list); {remedy}'
        )
    return config


def read_layers(folder: Path) -> Layers:
    """``layers.json`` by operating point."""
    path, remedy = (
        folder / 'layers.json',
        f'run `imagenet_tf.py --eval -ec {folder}`, which writes it',
    )
    data = read_json(path, remedy)
    try:
        return cost.from_json(data)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f'{path}: damaged (no layer records: {error}); {remedy}') from None


class Cost(NamedTuple):
    """Multiply-adds and bit operations of one image, bytes of the weights."""

    madds: int
    bit_ops: int
    weight_bytes: int


def point_cost(layers: Layers, point: str, sizes: Iterable[int]) -> Cost | None:
    """Cost of a point.

    The ensemble runs every size, the ensemble of exits the earlier exits, as the exit itself does;
    a gate that chooses widths stores them all. Each layer is stored once.
    """
    names = (
        [f's{size}' for size in sizes]
        if point == ENSEMBLE
        else [point.removeprefix(f'{ENSEMBLE}-')]
    )
    if point.endswith(DYNAMIC):
        names = [name for name in layers if name.startswith(point.removesuffix(DYNAMIC))]
    if not names or any(name not in layers for name in names):
        return None
    runs = [cost.cumulative(layers, name) for name in names]
    # Of a layer that widths share, the widest is stored.
    stored = {
        layer.name: layer
        for layer in sorted(
            (layer for run in runs for layer in run), key=lambda layer: layer.weights
        )
    }
    return Cost(
        sum(map(cost.madds, runs)), sum(map(cost.bit_ops, runs)), cost.weight_bytes(stored.values())
    )


def is_percentage(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value) and 0 <= value <= 100


def expected_madds(run: Path, point: str, sizes: Sequence[int], remedy: str) -> float | None:
    """Mean multiply-adds of an image as the gates of a point were measured; None without gates."""
    size = point.removesuffix(DYNAMIC).rstrip('-') or f's{sizes[0]}'
    path = (
        run / 'routes' / f'{size}.json'
        if point.endswith(DYNAMIC)
        else run / 'gates' / f'{point}.json'
    )
    return float(read_json(path, remedy)['madds']) if path.exists() else None


def profile(run: Path) -> dict[str, dict[str, float]]:
    """What ``scripts.profile`` measured, by operating point; empty without."""
    path = run / 'profile.json'
    return read_json(path, 'run scripts.profile again')['points'] if path.exists() else {}


def read_row(path: Path, run: str, config: Mapping[str, Any], layers: Layers) -> Row:
    """One record of ``eval/`` with its cost and its published counterpart."""
    remedy = f'run `imagenet_tf.py --eval -ec {path.parent.parent}` again'
    record = read_json(path, remedy)
    point = record.get('point')
    if not isinstance(point, str) or not all(
        is_percentage(record.get(key)) for key in ('top1', 'top5')
    ):
        raise UsageError(
            f'{path}: damaged ("point" must be a name, "top1" and "top5" percentages); {remedy}'
        )
    bn = record.get('bn') or point
    found = point_cost(layers, point, config['sizes'])
    if found is None and bn == point:
        raise UsageError(
            f'{path}: point {point} is not in layers.json ({", ".join(layers)}); {remedy}'
        )
    madds, bit_ops, size = found or (None, None, None)
    measured = expected_madds(path.parent.parent, point, config['sizes'], remedy)
    if measured is not None and madds and bit_ops:
        madds, bit_ops = round(measured), round(bit_ops * measured / madds)
    times = profile(path.parent.parent).get(point, {})
    published = (
        find_published(config, point, bn)
        if on_imagenet(record.get('data', config.get('data')))
        else None
    )
    return Row(
        run,
        config['qw'],
        config['qa'],
        point,
        bn,
        madds,
        size,
        float(record['top1']),
        float(record['top5']),
        record.get('images'),
        published,
        bit_ops,
        times.get('batch1_ms'),
    )


def read_run(folder: Path, name: str) -> Run:
    """A run folder, its operating points strongest first.

    Raises:
        UsageError: The folder or a file in it is missing or damaged, or nothing has been evaluated.
    """
    config, layers = read_config(folder), read_layers(folder)
    files = sorted((folder / 'eval').glob('*.json'))
    if not files:
        raise UsageError(
            f'{folder / "eval"}: no evaluation records; run `imagenet_tf.py --eval -ec '
            f'{folder}` first'
        )
    rows = [read_row(path, name, config, layers) for path in files]
    return Run(name, config, tuple(sorted(rows, key=lambda row: point_key(row.point, row.bn))))


def read_runs(folders: Sequence[str]) -> list[Run]:
    """Run folders under their base names, or under the paths as given where base names repeat."""
    names = {path: path.resolve().name for path in map(Path, folders)}
    unique = list(names.values())
    return [
        read_run(path, name if unique.count(name) == 1 else str(path))
        for path, name in names.items()
    ]


def read_table(path: Path) -> list[Run]:
    """The runs whose rows ``scripts.accuracy_table --format json`` has written.

    Without published numbers.

    Raises:
        UsageError: the file holds none.
    """
    remedy = 'python -m scripts.accuracy_table RUN... --format json --output FILE writes it'
    groups: dict[tuple[str, int, int], list[Row]] = {}
    try:
        for row in read_json(path, remedy)['rows']:
            found = Row(**{name: row[name] for name in TABLE_FIELDS})
            groups.setdefault((found.run, found.qw, found.qa), []).append(found)
    except (KeyError, TypeError) as error:
        raise UsageError(f'{path}: no table of runs ({error!r}); {remedy}') from None
    return [
        Run(name, {'qw': qw, 'qa': qa, 'sizes': []}, tuple(rows))
        for (name, qw, qa), rows in groups.items()
    ]


def curves(runs: Sequence[Run]) -> list[tuple[str, list[Row]]]:
    """(label, rows) for side-by-side views.

    One per run, but individual models of one network are one curve.
    """
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        kind = tuple(
            str(run.config.get(key))
            for key in ('net', 'mode', 'arch', 'width', 'data', 'kd', 'qw', 'qa')
        )
        groups.setdefault(kind if len(run.config['sizes']) == 1 else (run.name,), []).append(run)
    result: list[tuple[str, list[Row]]] = []
    for group in groups.values():
        rows = sorted(
            (row for run in group for row in run.rows), key=lambda row: point_key(row.point, row.bn)
        )
        if len(group) > 1 and len({row.label for row in rows}) == len(rows):
            result.append((f'individual {identity(group[0].config)[0]} ({group[0].bits})', rows))
        else:
            result.extend((f'{run.name} ({run.bits})', list(run.rows)) for run in group)
    return result


@contextlib.contextmanager
def replacing(target: str) -> Iterator[Path]:
    """Like ``engine.runs.folder.replacing``, for a file that a user names.

    Its folder must be there.
    """
    path = Path(target)
    if not path.absolute().parent.is_dir():
        raise UsageError(
            f'{target}: no folder {path.parent}; make it first or name a file elsewhere'
        )
    with run_folder.replacing(path) as temporary:
        yield temporary
