"""Records of evaluation: a JSON file per operating point in the run folder, and a table."""

import dataclasses
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from tabulate import tabulate

from engine.config.config import Config
from engine.data.datasets import located
from engine.data.identity import Identity
from engine.errors import UsageError
from engine.evaluation.evaluate import Score
from engine.files import check_writable, write_json
from engine.runs import checkpoint, data_record
from engine.runs.folder import open_run
from nets.points import Point

# What a record says about normalisation where it is about sampled gates.
SAMPLED = 'gate-noise'


@dataclasses.dataclass(frozen=True)
class Record:
    """Result of one operating point.

    Attributes:
        point: its spelling, or the name of an ensemble or of a choice made image by image.
        bn: point whose normalisation statistics were used.
        top1, top5: percent correct.
        images: number of images scored.
        seconds: wall time of the pass, which scored all points of the evaluation together.
        data: what ``--data`` named.
        checkpoint: checkpoint prefix.
        dataset: which data set that is, as in the configuration.
        loss: mean cross entropy; None in earlier records.
        draws, deviation: number of passes with sampled gates whose mean ``top1`` is, and its
            standard deviation.
    """

    point: str
    bn: str
    top1: float
    top5: float
    images: int
    seconds: float
    data: str
    checkpoint: str
    dataset: str = ''
    draws: int = 1
    deviation: float = 0.0
    loss: float | None = None

    @property
    def file(self) -> str:
        """Name of its file."""
        return f'{self.point}.json' if self.bn == self.point else f'{self.point}@{self.bn}.json'

    @property
    def label(self) -> str:
        """Its name in a table."""
        if self.bn == SAMPLED:
            return f'{self.point} (gates sampled, deviation {self.deviation:.2f})'
        return self.point if self.bn == self.point else f'{self.point} (BN {self.bn})'


def records(
    names: Sequence[str],
    score: Score,
    *,
    data: str,
    prefix: str,
    dataset: str = '',
    lenders: Mapping[int, str] | None = None,
) -> list[Record]:
    """One record per row of counts.

    Args:
        names: of the rows.
        score: of a pass over all images.
        data: what ``--data`` named.
        prefix: of the checkpoint.
        dataset: which data set that is.
        lenders: whose statistics were used, by size that did not use its own.
    """
    seconds = round(score.seconds, 3)
    percent = 100 * score.correct / score.images  # [rows, 2]
    found = []
    losses: list[float | None] = [None] * len(names)
    if score.losses is not None:
        losses = score.losses.tolist()
    for name, (top1, top5), loss in zip(names, percent.tolist(), losses):
        bn = name
        size = Point.within(name).size
        if lenders and size is not None and size in lenders:
            bn = lenders[size]
        record = Record(name, bn, top1, top5, score.images, seconds, data, prefix, dataset)
        found.append(dataclasses.replace(record, loss=loss))
    return found


def sampled(passes: Sequence[Sequence[Record]]) -> list[Record]:
    """Mean and standard deviation of every point over passes with sampled gates."""
    found = []
    for rows in zip(*passes):
        top1, top5, seconds = np.array([(row.top1, row.top5, row.seconds) for row in rows]).T
        deviation = statistics.stdev(top1.tolist()) if len(rows) > 1 else 0.0
        mean = dataclasses.replace(
            rows[0],
            bn=SAMPLED,
            top1=statistics.mean(top1.tolist()),
            top5=statistics.mean(top5.tolist()),
            seconds=float(seconds.sum()),
            draws=len(rows),
            deviation=deviation,
        )
        found.append(mean)
    return found


def write_records(folder: Path, found: Iterable[Record], weights: str = 'raw') -> Path:
    """Writes ``eval/<point>.json`` of every record.

    Args:
        folder: the run folder.
        found: the records.
        weights: which were scored; ``ema`` goes to ``eval/ema``, apart from what tables show.

    Returns:
        The folder of the files.
    """
    place = folder / 'eval'
    if weights != 'raw':
        place = place / weights
    for record in found:
        write_json(place / record.file, dataclasses.asdict(record))
    return place


def record_folder(
    config: Config,
    source: checkpoint.Checkpoint,
    logdir: Path | None,
    images: Identity | None = None,
) -> Path:
    """The folder that records go into.

    It is the run, if its last checkpoint was scored on its own data, or a folder apart, which is
    said where the run cannot be written.

    Args:
        config: of the evaluation.
        source: the checkpoint.
        logdir: what ``--logdir`` says.
        images: what is evaluated on; None knows it by its place alone.

    Raises:
        UsageError: the folder holds something else, or cannot be written.
    """
    prefix = Path(source.prefix).resolve()
    newest = list(checkpoint.checkpoints(prefix.parent).values())[-1:]
    here = logdir is None or logdir.resolve() == prefix.parent
    folder = logdir or Path('train_log') / f'eval-{config.name}-{prefix.name}'
    if here and newest == [str(prefix)] and _as_trained(config, source, images):
        try:
            check_writable(prefix.parent, f'-ec {source.prefix}')
            return Path(source.prefix).parent
        except UsageError as error:
            if logdir is not None:
                raise
            print(f'{error}. Records go to {folder} in the current folder', flush=True)
    evaluated = config.replacing(load=str(prefix), gpu=(0,))
    check_writable(folder, f'--logdir {folder}')
    try:
        return open_run(evaluated, folder, None, images=images).path
    except UsageError as error:
        raise UsageError(
            f'--logdir {folder}: is no folder for the records of this checkpoint; choose another '
            f'({error})'
        ) from error


def _as_trained(config: Config, source: checkpoint.Checkpoint, images: Identity | None) -> bool:
    """Whether images were evaluated that the run had, prepared as in its training."""
    run = source.config
    if run is None or run.preprocessing.rule != config.preprocessing.rule:
        return False
    there = data_record.read(Path(source.prefix).parent)
    if there is None or images is None:
        return run.data == '' or located(run.data) == located(config.data)
    return not data_record.other(there, images)


def table(found: Sequence[Record]) -> str:
    """Records as a text table."""
    rows = []
    for record in found:
        loss = '' if record.loss is None else f'{record.loss:.4f}'
        rows.append((record.label, record.top1, record.top5, loss, record.images))
    headers = ('point', 'top-1', 'top-5', 'loss', 'images')
    return tabulate(rows, headers=headers, floatfmt=('', '.2f', '.2f', '.4f', ''))
