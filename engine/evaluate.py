"""Evaluation: all operating points in one pass over the validation set, one JSON record for each."""

import dataclasses
import json
import queue
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tabulate import tabulate
from tensorpack.predict import OfflinePredictor, PredictConfig
from tensorpack.utils.utils import get_tqdm

from engine import checkpoint
from engine.config import Config, check_sizes
from engine.datasets import Dataset
from engine.errors import UsageError
from engine.flow import EvalFlow
from engine.model import CORRECT, Model
from engine.run import open_run, write_json
from nets import cost
from quant.backend import tf

BATCH_SIZE = 100

Predictor = Callable[[np.ndarray, np.ndarray], Sequence[np.ndarray]]


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
    """

    point: str
    bn: str
    top1: float
    top5: float
    images: int
    seconds: float
    data: str
    checkpoint: str

    @property
    def file(self) -> str:
        return f'{self.point}.json' if self.bn == self.point else f'{self.point}@{self.bn}.json'


def score(predictors: Sequence[Predictor], batches: Iterable[Sequence[np.ndarray]],
          total: int) -> tuple[np.ndarray, int, float]:
    """Runs every batch through one of the predictors.

    Returns:
        [points, 2] counts of right answers (first 1, first 5), number of images, seconds.
    """
    idle: queue.Queue[Predictor] = queue.Queue()
    for predictor in predictors:
        idle.put(predictor)

    def run(batch: Sequence[np.ndarray]) -> np.ndarray:
        predictor = idle.get()
        try:
            return np.asarray(predictor(*batch)[0], np.int64)
        finally:
            idle.put(predictor)

    started, counts, images = time.perf_counter(), [], 0
    with ThreadPoolExecutor(len(predictors)) as pool, get_tqdm(total=total, unit='batch', desc='evaluating') as bar:
        waiting: list = []
        for batch in batches:
            waiting.append(pool.submit(run, batch))
            images += len(batch[1])
            if len(waiting) > len(predictors):
                counts.append(waiting.pop(0).result())
                bar.update()
        for future in waiting:
            counts.append(future.result())
            bar.update()
    return np.sum(counts, axis=0), images, time.perf_counter() - started


def records(names: Sequence[str], counts: np.ndarray, images: int, seconds: float, *, data: str, prefix: str,
            bn: str | None = None) -> list[Record]:
    """One record per row of ``counts``; ``bn`` is the point whose statistics served all of them, if not their own."""
    rows = zip(names, counts.tolist())
    return [Record(name, bn or name, 100 * top1 / images, 100 * top5 / images, images, round(seconds, 3), data, prefix)
            for name, (top1, top5) in rows]


def write_records(folder: Path, found: Iterable[Record]) -> None:
    for record in found:
        write_json(folder / 'eval' / record.file, dataclasses.asdict(record))


def merge_layers(folder: Path, layers: Mapping[str, Sequence[cost.LayerRecord]]) -> None:
    """Adds the layer records of these points to the run folder."""
    path = folder / 'layers.json'
    known = json.loads(path.read_text()) if path.exists() else {}
    write_json(path, known | cost.to_json(layers))


@dataclasses.dataclass(frozen=True)
class Foreign:
    """Statistics of another size (``-eos``).

    Attributes:
        size: size whose normalisation (and private quantizers) serve.
        moving: second checkpoint, whose moving mean and variance are taken instead (``--fix_mean_var``), or None.
    """

    size: int
    moving: checkpoint.Checkpoint | None = None

    @property
    def name(self) -> str:
        return f's{self.size}' + ('-moving' if self.moving else '')


def evaluate(model: Model, values: Mapping[str, np.ndarray], dataset: Dataset, *, workers: int,
             ) -> tuple[np.ndarray, int, float]:
    """Scores all points of ``model`` with these variables on the whole validation set, see ``score``."""
    with tf.Graph().as_default():
        predictor = OfflinePredictor(PredictConfig(
            model=model, session_init=checkpoint.Restore(values), input_names=['images', 'labels'],
            output_names=[CORRECT]))
        flow = EvalFlow(dataset, batch_size=BATCH_SIZE, size=model.config.image_size, workers=workers)
        return score([predictor], flow, len(flow))


def variable_values(source: checkpoint.Checkpoint, variables: Mapping[str, tuple[int, ...]],
                    foreign: Foreign | None) -> dict[str, np.ndarray]:
    """Values of the variables of an inference graph.

    Raises:
        UsageError: the checkpoint lacks a size or anything else that the network needs.
    """
    if foreign is None:
        return checkpoint.select(source, variables, flag='-ec')
    values = checkpoint.select(source, variables, flag=f'-eos {foreign.size}',
                               rename=lambda name: re.sub(r'/s\d+/', f'/s{foreign.size}/', name))
    if foreign.moving is not None:
        moving = {name: shape for name, shape in variables.items() if name.endswith('/EMA')}
        values |= checkpoint.select(foreign.moving, moving, flag='--fix_mean_var', partial=True)
    return values


def evaluated(config: Config, source: checkpoint.Checkpoint, sizes: Sequence[int] | None, eos: int | None) -> Config:
    """``config`` narrowed to what is evaluated: all sizes of the checkpoint, or those asked for.

    Raises:
        UsageError: the checkpoint has neither the sizes nor, for ``-eos``, the statistics.
    """
    wanted = tuple(sorted(set(sizes or source.sizes), reverse=True))
    check_sizes(wanted, '-es')
    needed = set(wanted) if eos is None else {eos}
    if missing := needed - set(source.sizes):
        flag = f'-eos {eos}' if eos is not None else f'-es {" ".join(map(str, wanted))}'
        raise UsageError(f'{flag}: no statistics for size {max(missing)} (-eos uses those of another size); '
                         f'{source.describe()}')
    everything = eos is None and list(wanted) == source.sizes
    return dataclasses.replace(config, sizes=wanted, kd=everything and 'alpha' in source.values,
                               image_size=max(config.image_size, *wanted))


def foreign(source: checkpoint.Checkpoint, config: Config, eos: int | None, fix_mean_var: bool,
            epoch: int | None) -> Foreign | None:
    """What ``-eos`` and ``--fix_mean_var`` ask for.

    The published convention: the second checkpoint stands at the same path with the tested size in place of ``eos``.

    Raises:
        UsageError: ``--fix_mean_var`` without ``-eos``, with several sizes, or without such a checkpoint.
    """
    if not fix_mean_var:
        return None if eos is None else Foreign(eos)
    if eos is None or len(config.sizes) != 1:
        raise UsageError('--fix_mean_var: needs -eos and one size in -es')
    here = str(Path(source.prefix).parent)
    path = re.sub(rf'(?<!\d){eos}(?!\d)', str(config.sizes[0]), here)
    if path == here:
        raise UsageError(f'--fix_mean_var: {here} has no {eos} in its path to put {config.sizes[0]} in place of')
    second = checkpoint.find(path, epoch, '--fix_mean_var')
    return Foreign(eos, checkpoint.read(second, net=config.net, flag='--fix_mean_var'))


def record_folder(config: Config, source: checkpoint.Checkpoint, logdir: Path | None) -> Path:
    """Where the records go: into the run, if its last checkpoint was scored on its own data, else elsewhere.

    Raises:
        UsageError: the folder holds something else.
    """
    prefix, run = Path(source.prefix).resolve(), source.config
    alike = run is not None and all(getattr(run, key) == getattr(config, key) for key in ('data', 'resize'))
    last = list(checkpoint.checkpoints(prefix.parent).values())[-1:] == [str(prefix)]
    if alike and last and (logdir is None or logdir.resolve() == prefix.parent):
        return Path(source.prefix).parent
    folder = logdir or Path('train_log') / f'eval-{config.name}-{prefix.name}'
    try:
        return open_run(dataclasses.replace(config, load=str(prefix), gpu=(0,)), folder, None).path
    except UsageError as error:
        raise UsageError(f'--logdir {folder}: is no folder for the records of this checkpoint; choose another '
                         f'({error})') from error


def table(found: Sequence[Record]) -> str:
    """Records as a text table."""
    rows = [(r.point if r.bn == r.point else f'{r.point} (BN {r.bn})', r.top1, r.top5, r.images) for r in found]
    return tabulate(rows, headers=('point', 'top-1', 'top-5', 'images'), floatfmt='.2f')
