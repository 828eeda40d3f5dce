"""Checkpoints by our variable names: where they lie, what they hold, what was calibrated later."""

from __future__ import annotations

import dataclasses
import functools
import operator
import os
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from engine import arrays, families
from engine.config.config import Config, read_config
from engine.errors import UsageError
from engine.files import derived
from engine.optimization import averages
from engine.runs import data_record, history, literal
from engine.runs.folder import CONFIG, checkpoints
from nets.dsnet_passes import TEACHER
from nets.layers.kernels import generate
from nets.points import Point, split_name
from quant.backend import tf

# Steps of an epoch of the published code at its batch size 256.
PUBLISHED_STEPS_PER_EPOCH = 5000

# End of the name of the file that holds calibrated statistics: model-625.calibrated.npz.
CALIBRATED = '.calibrated.npz'

# Name in it of the list of operating points.
POINTS = 'calibrated_points'

# Start of the names of the moving averages of metrics, which belong to a training and not to its
# network.
METRICS = 'EMA/'

# Name in a checkpoint of the names of its classes, which are no variable of the network.
CLASSES = 'class_names'


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory.

    Attributes:
        prefix: where it was read.
        values: arrays by our variable names.
        config: configuration of the run that wrote it; None for one without a run folder.
        qw, qa: bits of weights and activations; 32 is float.
        classes: number of classes; 0 if it has no classifier.
        class_names: their names in the order of the answers; none if they are not known.
        weights: ``raw``, or ``ema`` for the averages of those that were trained.
    """

    prefix: str
    values: dict[str, np.ndarray]
    config: Config | None
    qw: int = 32
    qa: int = 32
    classes: int = 0
    class_names: tuple[str, ...] = ()
    weights: str = 'raw'

    @property
    def sizes(self) -> list[int]:
        """Input sizes with statistics, trained or calibrated, largest first."""
        found = {split_name(name)[0].size for name in self.values}
        if self.config is not None:
            found.update(self.config.sizes)
        return sorted((size for size in found if size is not None), reverse=True)

    @property
    def trained(self) -> tuple[int, ...]:
        """Input sizes that it was trained at, largest first."""
        return self.config.sizes if self.config else tuple(self.sizes)

    @property
    def calibrated(self) -> list[str]:
        """Spellings of operating points that were calibrated after training."""
        recorded = [str(name) for name in self.values.get(POINTS, ())]
        if self.config is None:
            return recorded
        # Earlier calibrations of sizes did not record their points.
        known = {*self.config.sizes, *(Point.parse(name).size for name in recorded)}
        others = [size for size in self.sizes if size not in known]
        if others:
            recorded += map(str, self.config.narrowed(others).network().points)
        return recorded

    def describe(self) -> str:
        """Its sizes and bits, for error messages."""
        sizes = ' '.join(map(str, self.sizes)) or 'none'
        return (
            f'{self.prefix} has sizes {sizes}, {self.qw}-bit weights and {self.qa}-bit activations'
        )


class Restore:
    """Sets variables of a session to ``values`` (arrays by name) in one go.

    The others start afresh, after them: the start of a quantizer, and a generated kernel, follow
    from other variables.
    """

    def __init__(self, values: Mapping[str, np.ndarray]):
        self._values = values

    def init(self, sess: tf.Session) -> None:
        """Runs the initializers of all variables of the default graph."""
        fed, feeds, others = [], {}, []
        for variable in tf.global_variables():
            value = self._values.get(variable.op.name)
            start = variable.initializer.inputs[1]
            if value is None:
                others.append(variable.initializer)
            elif start in feeds:  # that of others, too, see ``quant.slim_variables.zeros``
                variable.load(value, sess)
            else:
                fed.append(variable.initializer)
                feeds[start] = value
        sess.run(fed, feeds)
        sess.run(others)
        sess.run(generate())


def find(path: str, epoch: int | None, flag: str) -> str:
    """Checkpoint prefix that ``path`` (a run folder, a checkpoint folder or a prefix) stands for.

    Args:
        path: as given by the user.
        epoch: which epoch's checkpoint of a folder; None takes the last one.
        flag: to name in errors.

    Raises:
        UsageError: there is none.
    """
    if Path(f'{path}.index').exists():
        if epoch is not None:
            raise UsageError(f'-ep {epoch}: {path} already is one checkpoint; give its folder')
        return path
    folder = Path(path)
    if not folder.is_dir():
        raise UsageError(
            f'{flag} {path}: no such checkpoint or folder; give a run folder, or a prefix such as '
            'RUN/model-625'
        )
    found = checkpoints(folder)
    if not found:
        raise UsageError(
            f'{flag} {path}: no checkpoint (model-<step>.index) in this folder; a run has one '
            'after its first epoch'
        )
    if epoch is None:
        return found[max(found)]
    config = folder / CONFIG
    steps = read_config(config).steps_per_epoch if config.exists() else PUBLISHED_STEPS_PER_EPOCH
    if epoch * steps not in found:
        epochs = ', '.join(f'{step / steps:g}' for step in found)
        raise UsageError(
            f'-ep {epoch}: no checkpoint of step {epoch * steps} in {path}; it has epochs {epochs}'
        )
    return found[epoch * steps]


def read_variables(prefix: str, *, flag: str) -> dict[str, np.ndarray]:
    """Everything in a checkpoint, by the names in the file.

    Raises:
        UsageError: it is broken; TensorFlow has checksums in it.
    """
    name = prefix
    try:
        with literal.readable(prefix) as name:
            reader = tf.train.load_checkpoint(name)
            found = {}
            for variable in reader.get_variable_to_shape_map():
                found[variable] = reader.get_tensor(variable)
            return found
    except (tf.errors.OpError, OSError, ValueError, RuntimeError, IndexError) as error:
        why = str(error).partition('\n')[0].replace(name, prefix)
        raise UsageError(
            f'{flag} {prefix}: cannot be read as a checkpoint ({why}); give another one, such as '
            'RUN/best or an earlier RUN/model-625'
        ) from error


def read(prefix: str, *, flag: str, weights: str = 'raw') -> Checkpoint:
    """A checkpoint by our variable names, with the statistics that were calibrated for it.

    Where the run kept a teacher, the moving average of its variables, their values are those of the
    teacher. Calibrated statistics belong to the weights that were trained; averages come without.

    Args:
        prefix: of the checkpoint.
        flag: to name in errors.
        weights: ``raw``, or ``ema`` for those that ``--model-ema`` averaged.

    Raises:
        UsageError: it cannot be read, or has no such weights.
    """
    stored = {}
    names: list[bytes] = []
    for name, value in read_variables(prefix, flag=flag).items():
        if name == CLASSES:
            names = value.tolist()
        elif not name.startswith(METRICS):
            stored[name] = value
    values, of_training = averages.split(stored)
    if weights == 'ema' and not of_training:
        raise UsageError(_without_averages(prefix))
    class_names = tuple(map(os.fsdecode, names)) or _class_names(prefix)
    if not is_recorded(prefix):
        found = families.reader()(prefix, values | read_calibrated(prefix))
        return dataclasses.replace(found, class_names=class_names)
    beside = recorded(prefix)
    values = _taught(values)
    if weights == 'ema':
        values |= of_training
    else:
        values |= beside.values
    return dataclasses.replace(beside, values=values, class_names=class_names, weights=weights)


def _without_averages(prefix: str) -> str:
    return f'--weights ema: {prefix} holds no averages; training keeps them with --model-ema'


def is_recorded(prefix: str) -> bool:
    """Whether a run folder says of which network a checkpoint is."""
    return (Path(prefix).parent / CONFIG).exists()


def recorded(prefix: str, *, weights: str = 'raw') -> Checkpoint:
    """A checkpoint as its run folder describes it: without the variables that were trained.

    What cannot be done with such a run is refused by this, before TensorFlow is loaded.

    Args:
        prefix: of the checkpoint.
        weights: as of ``read``.

    Raises:
        UsageError: it is of no run, has no such weights, or a record of the run is damaged.
    """
    if not is_recorded(prefix):
        raise UsageError(
            f'{prefix}: no {CONFIG} there; import it first with scripts/import_checkpoint.py'
        )
    config = read_config(Path(prefix).parent / CONFIG)
    values = {}
    if weights == 'raw':
        values = read_calibrated(prefix)
    elif not config.model_ema and history.recorded(Path(prefix).parent):
        # Of what is no training, such as a copy, the checkpoint alone knows.
        raise UsageError(_without_averages(prefix))
    names = _class_names(prefix)
    return Checkpoint(prefix, values, config, config.qw, config.qa, config.classes, names, weights)


def _class_names(prefix: str) -> tuple[str, ...]:
    """Names of classes as the run folder of a checkpoint has them."""
    record = data_record.read(Path(prefix).parent)
    return record.classes if record else ()


def _taught(values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Variables with the moving average of a network in place of those that it follows.

    A network that follows the trained one is what its papers evaluate.
    """
    start = f'{TEACHER}/'
    own = {name: value for name, value in values.items() if not name.startswith(start)}
    for name, value in values.items():
        if name.startswith(start):
            own[name.removeprefix(start)] = value
    return own


def check_points(source: Checkpoint, points: Iterable[Point], flag: str) -> None:
    """Checks that a checkpoint has statistics of all these operating points.

    Args:
        source: the checkpoint.
        points: that are going to be used.
        flag: to name in errors.

    Raises:
        UsageError: it has not.
    """
    known = available(source)
    lost = [str(point) for point in points if str(point) not in known]
    if lost:
        run = shlex.quote(str(Path(source.prefix).parent))
        raise UsageError(
            f'{flag} {source.prefix}: no statistics for {" ".join(lost)}; '
            f'python -m scripts.calibrate {run} makes them; there are {" ".join(known)}'
        )


def available(source: Checkpoint) -> list[str]:
    """Spellings of operating points with statistics, trained or calibrated, strongest first."""
    found = {Point.parse(name) for name in source.calibrated}
    if source.config:
        found.update(source.config.network().trained_points)
    strongest_first = sorted(found, key=operator.attrgetter('values'), reverse=True)
    return [str(point) for point in strongest_first]


def read_calibrated(prefix: str) -> dict[str, np.ndarray]:
    """Variables that ``scripts/calibrate.py`` added to a checkpoint; they lie beside it.

    Raises:
        UsageError: their file is damaged.
    """
    path = Path(f'{prefix}{CALIBRATED}')
    if not path.exists():
        return {}
    return arrays.read(path, None, f'python -m scripts.calibrate {path.parent} makes it anew')


def write_calibrated(prefix: str, values: Mapping[str, np.ndarray]) -> Path:
    """Adds variables to a checkpoint in a file beside it, which is returned.

    One that is damaged is set aside.
    """
    path = Path(f'{prefix}{CALIBRATED}')
    known = derived(path, functools.partial(arrays.read, path, None)) or {}
    arrays.write(path, {**known, **values})
    return path
