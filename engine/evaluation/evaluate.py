"""Evaluation: all operating points in one pass over the validation set, one JSON record for each."""

import dataclasses
import functools
import json
import operator
import queue
import re
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tabulate import tabulate
from tensorpack.predict import OnlinePredictor
from tensorpack.tfutils.sesscreate import NewSessionCreator
from tensorpack.tfutils.tower import PredictTowerContext
from tensorpack.utils.utils import get_tqdm

import nets
from engine.config.config import Config
from engine.data.batches import EvalFlow
from engine.data.datasets import Dataset
from engine.errors import UsageError
from engine.graph.tower import Model
from engine.runs import checkpoint
from engine.runs.folder import open_run, write_json
from engine.runs.untrained_sizes import lend, nearest, neighbours
from nets import cost
from nets.points import Point
from quant.backend import tf

BATCH_SIZE = 100

Predictor = Callable[[np.ndarray, np.ndarray], Sequence[np.ndarray]]

# What a record says about normalisation where it is about sampled gates.
SAMPLED = 'gate-noise'


@dataclasses.dataclass(frozen=True)
class Record:
    """Result of one operating point.

    Attributes:
        point: its spelling, or ``ensemble``.
        bn: point whose normalisation statistics were used.
        top1, top5: percent correct.
        images: number of images scored.
        seconds: wall time of the pass, which scored all points of the evaluation together.
        data: what ``--data`` named.
        checkpoint: checkpoint prefix.
        draws, deviation: number of passes with sampled gates whose mean ``top1`` is, and its standard deviation.
    """

    point: str
    bn: str
    top1: float
    top5: float
    images: int
    seconds: float
    data: str
    checkpoint: str
    draws: int = 1
    deviation: float = 0.0

    @property
    def file(self) -> str:
        return f'{self.point}.json' if self.bn == self.point else f'{self.point}@{self.bn}.json'


class Score(NamedTuple):
    """What came out of a pass over images.

    Attributes:
        sums: over all batches: [points, 2] counts of right answers (first 1, first 5), then what the network tallies.
        answers: what was kept per image, see ``Model.answers``.
        images, seconds: number and wall time.
    """

    sums: list[np.ndarray]
    answers: list[np.ndarray]
    images: int
    seconds: float


def score(
    predictors: Sequence[Predictor],
    batches: Iterable[Sequence[np.ndarray]],
    total: int,
    *,
    answers: int = 0,
) -> Score:
    """Runs every batch through one of the predictors, of whose results the last ``answers`` are per image.

    Raises:
        UsageError: a batch is too large for the device.
    """
    idle: queue.Queue[Predictor] = queue.Queue()
    for predictor in predictors:
        idle.put(predictor)

    def run(batch: Sequence[np.ndarray]) -> list[np.ndarray]:
        predictor = idle.get()
        try:
            return [np.asarray(array, np.float64) for array in predictor(*batch)]
        except tf.errors.ResourceExhaustedError as error:
            raise UsageError(
                f'evaluation: a batch of {len(batch[-1])} images does not fit into the memory of the '
                'device; --eval with -es takes one size at a time, fewer --sizes take less'
            ) from error
        finally:
            idle.put(predictor)

    started, counts, images = time.perf_counter(), [], 0
    with (
        ThreadPoolExecutor(len(predictors)) as pool,
        get_tqdm(total=total, unit='batch', desc='evaluating') as bar,
    ):
        waiting: list = []
        for batch in batches:
            waiting.append(pool.submit(run, batch))
            images += len(batch[-1])
            if len(waiting) > len(predictors):
                counts.append(waiting.pop(0).result())
                bar.update()
        for future in waiting:
            counts.append(future.result())
            bar.update()
    columns = list(zip(*counts))
    kept = len(columns) - answers
    return Score(
        [np.sum(arrays, axis=0) for arrays in columns[:kept]],
        [np.concatenate(arrays) for arrays in columns[kept:]],
        images,
        time.perf_counter() - started,
    )


def records(
    names: Sequence[str],
    result: Score,
    *,
    data: str,
    prefix: str,
    bn: Mapping[str, str] | None = None,
) -> list[Record]:
    """One record per row of counts; ``bn`` names the statistics of those sizes that did not use their own."""
    images, seconds = result.images, round(result.seconds, 3)

    def used(name: str) -> str:
        return next(
            (lender for size, lender in (bn or {}).items() if size in name.split('-')), name
        )

    rows = ((name, used(name), *row) for name, row in zip(names, result.sums[0].tolist()))
    return [
        Record(
            name, lender, 100 * top1 / images, 100 * top5 / images, images, seconds, data, prefix
        )
        for name, lender, top1, top5 in rows
    ]


def sampled(passes: Sequence[Sequence[Record]]) -> list[Record]:
    """Mean and standard deviation of every point over passes with sampled gates."""
    found = []
    for rows in zip(*passes):
        top1 = [row.top1 for row in rows]
        found.append(
            dataclasses.replace(
                rows[0],
                bn=SAMPLED,
                top1=statistics.mean(top1),
                top5=statistics.mean(row.top5 for row in rows),
                seconds=sum(row.seconds for row in rows),
                draws=len(rows),
                deviation=statistics.stdev(top1) if len(top1) > 1 else 0.0,
            )
        )
    return found


def write_records(folder: Path, found: Iterable[Record]) -> None:
    for record in found:
        write_json(folder / 'eval' / record.file, dataclasses.asdict(record))


def merge_layers(folder: Path, layers: Mapping[str, Sequence[cost.LayerRecord]]) -> None:
    """Adds the layer records of these points to the run folder."""
    path = folder / 'layers.json'
    known = json.loads(path.read_text()) if path.exists() else {}
    write_json(path, known | cost.to_json(layers))


@dataclasses.dataclass(frozen=True)
class Borrowed:
    """Statistics that some of the evaluated sizes take from trained ones.

    Attributes:
        lenders: trained sizes by evaluated size: one, or two to interpolate between.
        encode: whether a generated kernel is that of the lender too (proxy), else that of the size itself.
        moving: second checkpoint, whose moving mean and variance are taken instead (``--fix_mean_var``), or None.
    """

    lenders: Mapping[int, tuple[int, ...]]
    encode: bool = True
    moving: checkpoint.Checkpoint | None = None

    def names(self) -> dict[str, str]:
        """For the records: what each borrowing point uses."""
        ideal, moving = '' if self.encode else '-ideal', '-moving' if self.moving else ''
        return {
            f's{size}': '+'.join(f's{lender}' for lender in lenders)
            + (ideal if len(lenders) == 1 else '')
            + moving
            for size, lenders in self.lenders.items()
        }


def eval_flow(
    config: Config, dataset: Dataset, threads: int, *, batch_size: int = BATCH_SIZE
) -> EvalFlow:
    """The validation images as a model of this configuration takes them."""
    return EvalFlow(
        dataset,
        batch_size=batch_size,
        sizes=config.view_sizes,
        antialias=config.antialias,
        cubic=config.cubic,
        threads=threads,
    )


def predictors(model: Model, values: Mapping[str, np.ndarray]) -> list[Predictor]:
    """One predictor per GPU of the configuration, all with these variables, in the current graph."""
    ends = [_tower(model, device) for device in range(len(model.config.gpu))]
    session = NewSessionCreator().create_session()
    checkpoint.Restore(values).init(session)
    return [OnlinePredictor(*tensors, sess=session) for tensors in ends]


def _tower(model: Model, device: int) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    """Inputs and outputs of an inference tower, whose variables are those of the first one."""
    with (
        tf.device(f'/gpu:{device}'),
        tf.variable_scope(tf.get_variable_scope(), reuse=device > 0),
        PredictTowerContext(f'tower{device}'),
    ):
        feeds = [tf.placeholder(spec.dtype, spec.shape, spec.name) for spec in model.inputs()]
        model.build_graph(*feeds)
    graph = tf.get_default_graph()
    return feeds, [
        graph.get_tensor_by_name(f'tower{device}/{name}:0')
        for name in (*model.sums, *model.answers)
    ]


def evaluate(
    model: Model,
    values: Mapping[str, np.ndarray],
    dataset: Dataset,
    *,
    threads: int,
    passes: int = 1,
) -> list[Score]:
    """Scores all points of ``model`` with these variables on the whole validation set, split over its GPUs.

    Several passes differ by what the network draws.
    """
    with tf.Graph().as_default():
        tf.set_random_seed(model.config.seed)
        towers = predictors(model, values)
        flow = eval_flow(model.config, dataset, threads)
        return [score(towers, flow, len(flow), answers=len(model.answers)) for _ in range(passes)]


def variable_values(
    source: checkpoint.Checkpoint, variables: Mapping[str, tuple[int, ...]], borrowed: Borrowed
) -> dict[str, np.ndarray]:
    """Values of the variables of an inference graph.

    Raises:
        UsageError: the checkpoint lacks a size or anything else that the network needs.
    """
    lent = [lend(source.values, size, lenders) for size, lenders in borrowed.lenders.items()]
    values = functools.reduce(operator.or_, lent, source.values)
    values = checkpoint.select(dataclasses.replace(source, values=values), variables, flag='-ec')
    if borrowed.moving is not None:
        moving = {name: shape for name, shape in variables.items() if name.endswith('/EMA')}
        values |= checkpoint.select(borrowed.moving, moving, flag='--fix_mean_var', partial=True)
    return values


def evaluated(
    config: Config,
    source: checkpoint.Checkpoint,
    sizes: Sequence[int] | None,
    widths: Sequence[int] | None = None,
) -> Config:
    """``config`` narrowed to what is evaluated: all sizes that were trained and widths with statistics, or those asked
    for.

    Raises:
        UsageError: there are no statistics for a width.
    """
    config = config.narrowed(sizes or source.trained)
    config = dataclasses.replace(
        config, kd=config.sizes == source.trained and 'alpha' in source.values
    )
    if not nets.get(config.net).slimmable:
        return config
    known = {Point.parse(name).width for name in checkpoint.available(source)}
    asked = widths or tuple(sorted(width for width in known if width is not None))
    # Without all of its routes a gate has nothing to choose from, and the widths are evaluated alone.
    stage = config.stage if set(config.routes) <= set(asked) else 'supernet'
    config = dataclasses.replace(config, widths=tuple(asked), stage=stage)
    config.check()
    checkpoint.check_points(source, config, '-ew' if widths else '-ec')
    return config


def borrow(
    source: checkpoint.Checkpoint,
    config: Config,
    *,
    untrained: str | None,
    eos: int | None,
    fix_mean_var: bool,
    epoch: int | None,
) -> Borrowed:
    """What ``--untrained``, ``-eos`` and ``--fix_mean_var`` ask for.

    ``proxy`` runs a size with the statistics (and generated kernels) of the nearest trained one, ``ideal`` with its own
    generated kernels and the statistics of the nearest one, ``interpolate`` with its own kernels and statistics between
    those of the two neighbours; ``-eos`` names the lender of all sizes.

    Raises:
        UsageError: a size has no statistics and nothing says what to take, or the flags do not fit together.
    """
    missing = [size for size in config.sizes if size not in source.sizes]
    if eos is not None and eos not in source.sizes:
        raise UsageError(f'-eos {eos}: no statistics for size {eos}; {source.describe()}')
    if missing and eos is None and untrained is None:
        raise UsageError(
            f'-es {" ".join(map(str, config.sizes))}: no statistics for size '
            f'{" ".join(map(str, missing))} ({checkpoint.BORROW}); {source.describe()}'
        )
    if eos is not None:
        lenders: dict[int, tuple[int, ...]] = dict.fromkeys(config.sizes, (eos,))
    elif untrained == 'interpolate':
        lenders = {size: neighbours(size, source.trained) for size in missing}
    else:
        lenders = {size: (nearest(size, source.trained),) for size in missing}
    moving = _moving(source, config, eos, epoch) if fix_mean_var else None
    encode = not nets.get(config.net).generated or untrained in (None, 'proxy')
    return Borrowed(lenders, encode, moving)


def _moving(
    source: checkpoint.Checkpoint, config: Config, eos: int | None, epoch: int | None
) -> checkpoint.Checkpoint:
    """The second checkpoint of ``--fix_mean_var``: at the same path with the tested size in place of ``eos``."""
    if eos is None or len(config.sizes) != 1:
        raise UsageError('--fix_mean_var: needs -eos and one size in -es')
    here = str(Path(source.prefix).parent)
    path = re.sub(rf'(?<!\d){eos}(?!\d)', str(config.sizes[0]), here)
    if path == here:
        raise UsageError(
            f'--fix_mean_var: {here} has no {eos} in its path to put {config.sizes[0]} in place of'
        )
    return checkpoint.read(checkpoint.find(path, epoch, '--fix_mean_var'), flag='--fix_mean_var')


def record_folder(config: Config, source: checkpoint.Checkpoint, logdir: Path | None) -> Path:
    """Where the records go: into the run, if its last checkpoint was scored on its own data, else elsewhere.

    Raises:
        UsageError: the folder holds something else.
    """
    prefix, run = Path(source.prefix).resolve(), source.config
    alike = run is not None and run.data in ('', config.data) and run.resize == config.resize
    last = list(checkpoint.checkpoints(prefix.parent).values())[-1:] == [str(prefix)]
    if alike and last and (logdir is None or logdir.resolve() == prefix.parent):
        return Path(source.prefix).parent
    folder = logdir or Path('train_log') / f'eval-{config.name}-{prefix.name}'
    try:
        return open_run(dataclasses.replace(config, load=str(prefix), gpu=(0,)), folder, None).path
    except UsageError as error:
        raise UsageError(
            f'--logdir {folder}: is no folder for the records of this checkpoint; choose another '
            f'({error})'
        ) from error


def table(found: Sequence[Record]) -> str:
    """Records as a text table."""

    def label(r: Record) -> str:
        if r.bn == SAMPLED:
            return f'{r.point} (gates sampled, deviation {r.deviation:.2f})'
        return r.point if r.bn == r.point else f'{r.point} (BN {r.bn})'

    rows = [(label(r), r.top1, r.top5, r.images) for r in found]
    return tabulate(rows, headers=('point', 'top-1', 'top-5', 'images'), floatfmt='.2f')
