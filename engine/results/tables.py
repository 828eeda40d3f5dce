"""Run folders as rows: what was measured, what it costs, and the published number to compare with.

Pure Python. Reads ``config.json``, ``layers.json`` and ``eval/*.json`` of a run.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from engine import families
from engine.errors import UsageError
from engine.files import in_shell, read_json
from engine.results import profiles, published, records
from engine.results.chains import BETWEEN
from engine.results.conditions import comparable, labels, measured_on
from engine.results.costs import Layers, point_cost
from engine.results.published import Published
from engine.schema import Misfit, Part, field_of
from nets.points import DYNAMIC, ENSEMBLE, Point


@dataclasses.dataclass(frozen=True)
class Row:
    """One operating point of one run.

    Attributes:
        run: Name of the run.
        qw: Bits of weights.
        qa: Bits of activations.
        point: Operating point, such as ``s224``, or ``ensemble``.
        bn: Point whose normalisation statistics were used.
        madds: Multiply-adds of one image; with gates as expected at the measured rates, of an exit
            with all earlier ones. None if the run has no layer records of this point.
        weight_bytes: Of the packed weights; None without layer records of this point.
        top1: Percent.
        top5: Percent.
        images: How many were evaluated, if the record says so.
        published: Published row about the same, or None.
        bit_ops: Multiply-adds, each times the bits of its factors; None without layer records.
        ms: Median milliseconds of one image alone, if ``scripts.profile`` has measured them on the
            device.
        conditions: What it was measured on, see ``engine.results.conditions``; empty if unknown.
        data: What ``--data`` named, if the record says so.
        device: That ``ms`` were measured on.
    """

    run: str
    qw: int
    qa: int
    point: str
    bn: str
    madds: float | None
    weight_bytes: int | None
    top1: float
    top5: float
    images: int | None = None
    published: Published | None = None
    bit_ops: int | None = None
    ms: float | None = None
    conditions: str = ''
    data: str = ''
    device: str = ''

    @property
    def label(self) -> str:
        """The point as tables spell it, with a foreign source of statistics in parentheses."""
        own = size_label(self.point)
        return own if self.bn == self.point else f'{own} (BN {size_label(self.bn)})'

    @property
    def is_ensemble(self) -> bool:
        """Whether several operating points answered together."""
        return self.point.startswith(ENSEMBLE)

    @property
    def is_dynamic(self) -> bool:
        """Whether a gate chose the operating point image by image."""
        return self.point.endswith(DYNAMIC)

    @property
    def is_cascade(self) -> bool:
        """Whether images passed several operating points in turn."""
        return BETWEEN in self.point

    @property
    def difference(self) -> float | None:
        """Top-1 minus the published top-1."""
        if self.published is None:
            return None
        return round(self.top1 - self.published.top1, 3) + 0.0  # never -0.0


@dataclasses.dataclass(frozen=True)
class Run:
    """A run folder that was read.

    Attributes:
        name: In tables.
        config: Fields of ``config.json``.
        rows: Operating points, strongest first.
    """

    name: str
    config: Mapping[str, Any]
    rows: tuple[Row, ...]

    @property
    def bits(self) -> str:
        """Bits of weights and activations, see ``records.bits_of``."""
        return records.bits_of(self.config)

    @property
    def is_individual(self) -> bool:
        """Whether the network was trained at one input size."""
        return len(self.config['sizes']) == 1


@dataclasses.dataclass(frozen=True)
class Table(Part):
    """A table of runs as JSON.

    Attributes:
        rows: Fields of every row by name.
    """

    rows: list[dict[str, Any]]


# Of runs: label and rows, in side-by-side views.
Curve = tuple[str, list[Row]]

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

# Fields of a configuration that make individual models, one of each size, comparable.
KIND_FIELDS = ('net', 'mode', 'arch', 'width', 'data', 'kd')


def all_rows(runs: Iterable[Run]) -> list[Row]:
    """The rows of several runs, one run after the other."""
    found: list[Row] = []
    for run in runs:
        found += run.rows
    return found


def rows_of(curves: Iterable[Curve]) -> list[Row]:
    """The rows of several curves, one curve after the other."""
    found: list[Row] = []
    for _, rows in curves:
        found += rows
    return found


def size_label(point: str) -> str:
    """``s224`` -> ``224``; any other point as it is spelt."""
    size = point.removeprefix('s')
    return size if size.isdecimal() else point


def sort_key(row: Row | records.Score) -> tuple[Any, ...]:
    """Order of rows: the strongest point first, a point's own statistics before foreign ones, then
    choices of a gate, then ensembles.
    """
    point = Point.within(row.point)
    lender = Point.within(row.bn.partition('+')[0])
    foreign = row.bn != row.point
    strength = [-value for value in point.values]
    order = [-value for value in lender.values]
    ensemble, dynamic = row.point.startswith(ENSEMBLE), row.point.endswith(DYNAMIC)
    return ensemble, dynamic, point.axes, strength, foreign, order


def read_row(
    path: Path, run: str, config: Mapping[str, Any], layers: Layers, device: str = ''
) -> Row:
    """One record of ``eval/`` with its cost and the published number to compare with.

    Args:
        path: File of the record.
        run: Name of the run.
        config: Fields of its ``config.json``.
        layers: Its layer records.
        device: Name of the one that its milliseconds are taken of; empty for none.

    Raises:
        UsageError: The record is damaged, or the layer records lack its point.
    """
    folder = path.parent.parent
    score = records.read_score(path)
    found = point_cost(layers, score.point, config['sizes'])
    own = score.bn == score.point
    if found is None and own:
        raise UsageError(
            f'{path}: point {score.point} is not in layers.json ({", ".join(layers)}); '
            f'{records.evaluate_again(folder)}'
        )
    madds, bit_ops, weight_bytes = found or (None, None, None)
    qw, qa = records.bits_at(config, score.point)
    largest = config['sizes'][0] if config['sizes'] else None
    expected = records.read_expected_madds(folder, score.point, largest)
    if expected is not None and madds and bit_ops:
        bit_ops = round(bit_ops * expected / madds)
        madds = round(expected)
    elif score.point.endswith(DYNAMIC):
        # Which points the gate chose has not been recorded; together they cost more than any.
        madds = bit_ops = None
    published = _published(config, score) if own else None
    return Row(
        run=run,
        qw=qw,
        qa=qa,
        point=score.point,
        bn=score.bn,
        madds=madds,
        weight_bytes=weight_bytes,
        top1=score.top1,
        top5=score.top5,
        images=score.images,
        published=published,
        bit_ops=bit_ops,
        ms=profiles.times_of(folder, device).get(score.point),
        conditions=measured_on(folder, config, score),
        data=score.data or '',
        device=device,
    )


def _published(config: Mapping[str, Any], score: records.Score) -> Published | None:
    dataset = score.dataset
    if not dataset:
        evaluated = dict(config)
        if score.data is not None and score.data != config.get('data'):
            evaluated.pop('dataset', None)
            evaluated['data'] = score.data
        dataset = records.dataset_of(evaluated)
    return published.find(config, dataset, score.point)


def read_run(folder: Path, name: str, device: str = '') -> Run:
    """A run folder, its operating points strongest first.

    Args:
        folder: Its path.
        name: In tables.
        device: Name of the one that milliseconds are taken of; empty for none.

    Raises:
        UsageError: The folder or a file in it is missing or damaged, or nothing has been evaluated.
    """
    config = records.read_config(folder)
    layers = records.read_layers(folder)
    files = sorted((folder / 'eval').glob('*.json'))
    if not files:
        raise UsageError(
            f'{folder / "eval"}: no evaluation records; '
            f'run `imagenet_tf.py --eval -ec {in_shell(folder)}` first'
        )
    rows = [read_row(path, name, config, layers, device) for path in files]
    return Run(name, config, tuple(sorted(rows, key=sort_key)))


def distinct(folders: Iterable[str]) -> list[Path]:
    """Run folders, each once however often it is given."""
    return list(dict.fromkeys(map(Path, folders)))


def read_runs(folders: Sequence[str], device: str = '') -> list[Run]:
    """Distinct run folders under their base names, or under their paths where base names repeat.

    Args:
        folders: Their paths.
        device: Part of the name of the one that milliseconds are taken of, see
            ``profiles.device_of``.

    Raises:
        UsageError: See ``read_run`` and ``profiles.device_of``.
    """
    timed_on = profiles.device_of(map(Path, folders), device)
    names = {path: path.resolve().name for path in distinct(folders)}
    all_names = list(names.values())
    runs = []
    for path, name in names.items():
        unique = all_names.count(name) == 1
        runs.append(read_run(path, name if unique else str(path), timed_on))
    return runs


def read_table(path: Path) -> list[Run]:
    """The runs in a table of ``scripts.accuracy_table --format json``, without published numbers.

    Raises:
        UsageError: The file holds none.
    """
    remedy = 'python -m scripts.accuracy_table RUN... --format json --output FILE writes it'
    groups: dict[tuple[str, int, int], list[Row]] = {}
    try:
        for record in read_json(path, Table, remedy).rows:
            fields = {name: field_of(record[name], Row, name, name) for name in TABLE_FIELDS}
            row = Row(**fields, conditions=str(record.get('conditions') or ''))
            groups.setdefault((row.run, row.qw, row.qa), []).append(row)
    except (KeyError, Misfit) as error:
        raise UsageError(f'{path}: no table of runs ({error}); {remedy}') from None
    runs = []
    for (name, qw, qa), rows in groups.items():
        runs.append(Run(name, {'qw': qw, 'qa': qa, 'sizes': []}, tuple(rows)))
    return runs


def curves(runs: Sequence[Run]) -> list[Curve]:
    """Curves for side-by-side views: one per run, but one of all individual models of a network.

    Runs of one name, which a table may hold at several bits, stand together. What was measured on
    different data, or on differently prepared images, is no one curve, and named apart.
    """
    groups: dict[tuple[Any, ...], list[Run]] = {}
    named = labels(row.conditions for row in all_rows(runs))
    for run in _by_conditions(runs):
        key = _kind(run) if run.is_individual else (run.name,)
        groups.setdefault((*key, run.bits, _conditions(run)), []).append(run)
    found = []
    for group in groups.values():
        first = group[0]
        rows = sorted(all_rows(group), key=sort_key)
        distinct = len({row.label for row in rows}) == len(rows)
        where = named[_conditions(first)]
        end = f', {where}' if where else ''
        if len(group) > 1 and first.is_individual and distinct:
            arch, _ = families.get(first.config['net']).published(first.config)
            found.append((f'individual {arch} ({first.bits}){end}', rows))
        else:
            found += [(f'{run.name} ({run.bits}){end}', list(run.rows)) for run in group]
    return found


def _by_conditions(runs: Iterable[Run]) -> Iterator[Run]:
    """Runs, each with the rows of one condition and precision; those without any are left out."""
    for run in runs:
        for rows in comparable(run.rows, lambda row: row.conditions).values():
            by_bits: dict[tuple[int, int], list[Row]] = {}
            for row in rows:
                by_bits.setdefault((row.qw, row.qa), []).append(row)
            for (qw, qa), same in by_bits.items():
                config = {**run.config, 'qw': qw, 'qa': qa, 'bits': ()}
                yield dataclasses.replace(run, config=config, rows=tuple(same))


def _conditions(run: Run) -> str:
    return run.rows[0].conditions


def _kind(run: Run) -> tuple[Any, ...]:
    """Equal for individual models of one network, which differ in their size."""
    fields = [str(run.config.get(name)) for name in KIND_FIELDS]
    return (*fields, records.quantization_of(run.config))
