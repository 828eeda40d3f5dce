"""Reading checkpoints.

Ours, or those of the published RS-Nets quantization code, by our variable names.
"""

import dataclasses
import os
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from engine.config.config import Config, read_config
from engine.errors import UsageError
from engine.optimization import averages
from engine.runs.folder import checkpoints
from nets.layers.kernels import generate
from nets.points import Point
from nets.rsnet import from_published
from quant.backend import tf
from quant.state import TRAINED, Kind, State

# Steps of an epoch of the published code at its batch size 256.
PUBLISHED_STEPS_PER_EPOCH = 5000

# End of the name of the file that holds calibrated statistics: model-625.calibrated.npz.
CALIBRATED = '.calibrated.npz'

# Name in it of the list of operating points.
POINTS = 'calibrated_points'

# Start of the names of the moving averages of metrics, which belong to a training and not to its
# network.
METRICS = 'EMA/'

# What to do about a size without statistics.
BORROW = (
    'scripts/calibrate.py makes them; --untrained proxy, ideal or interpolate, or -eos SIZE, '
    'borrow those of '
    'trained sizes'
)

# Start of the names of the moving average of a network.
TEACHER = 'teacher/'

_KERNELS = ('/W', '/slope')


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory.

    Attributes:
        prefix: where it was read.
        values: arrays by our variable names.
        config: configuration of the run that wrote it; None for a published checkpoint.
    """

    prefix: str
    values: dict[str, np.ndarray]
    config: Config | None

    @property
    def sizes(self) -> list[int]:
        """Input sizes that it has normalisation statistics for, trained or calibrated.

        Largest first.
        """
        found = {int(m[1]) for name in self.values if (m := re.search(r'/s(\d+)/mean/EMA$', name))}
        tables = any(name.endswith('/mean/EMA') for name in self.values)
        return sorted(found, reverse=True) or list(
            self.config.sizes if self.config and tables else ()
        )

    @property
    def trained(self) -> tuple[int, ...]:
        """Input sizes that it was trained at, largest first."""
        return self.config.sizes if self.config else tuple(self.sizes)

    @property
    def calibrated(self) -> list[str]:
        """Spellings of operating points that were calibrated after training."""
        return list(map(str, self.values.get(POINTS, ())))

    @property
    def classes(self) -> int:
        """Number of classes of its classifiers, 0 if it has none."""
        return next(
            (len(value) for name, value in self.values.items() if f'/{name}'.endswith('/linear/b')),
            0,
        )

    def bits(self, kind: str) -> int:
        """Bits of ``kind`` ``weight`` or ``activation`` in the body of the network; 32 is float.

        As the run recorded them; of a published checkpoint, the number of rows of its bases.
        """
        if self.config:
            return self.config.qw if kind == 'weight' else self.config.qa
        bases = {name: len(value) for name, value in self.values.items() if name.endswith('/basis')}
        rows = {
            bits for name, bits in bases.items() if ('/weight_quant/' in name) == (kind == 'weight')
        }
        return rows.pop() if len(rows) == 1 else 32

    def describe(self) -> str:
        """What it holds, for error messages."""
        return (
            f'{self.prefix} has sizes {" ".join(map(str, self.sizes)) or "none"}, '
            f'{self.bits("weight")}-bit weights and {self.bits("activation")}-bit activations'
        )


class Restore:
    """Sets variables of a session to ``values`` (arrays by name) in one go.

    The others start afresh, after them: the start of a basis, and a generated kernel, follow from
    other variables.
    """

    def __init__(self, values: Mapping[str, np.ndarray]):
        self._values = values

    def init(self, sess: tf.Session) -> None:
        chosen = [
            variable for variable in tf.global_variables() if variable.op.name in self._values
        ]
        sess.run(
            [variable.initializer for variable in chosen],
            {variable.initializer.inputs[1]: self._values[variable.op.name] for variable in chosen},
        )
        sess.run(
            [
                variable.initializer
                for variable in tf.global_variables()
                if variable.op.name not in self._values
            ]
        )
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
        raise UsageError(f'{flag} {path}: no checkpoint (model-<step>.index) in this folder')
    if epoch is None:
        return found[max(found)]
    config = folder / 'config.json'
    steps = read_config(config).steps_per_epoch if config.exists() else PUBLISHED_STEPS_PER_EPOCH
    if epoch * steps not in found:
        raise UsageError(
            f'-ep {epoch}: no checkpoint of step {epoch * steps} in {path}; it has epochs '
            f'{", ".join(f"{step / steps:g}" for step in found)}'
        )
    return found[epoch * steps]


def read_variables(prefix: str, *, flag: str) -> dict[str, np.ndarray]:
    """Everything in a checkpoint, by name.

    Raises UsageError if it is broken; TensorFlow has checksums in it.
    """
    try:
        reader = tf.train.load_checkpoint(prefix)
        return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    except (tf.errors.OpError, ValueError, RuntimeError, IndexError) as error:
        raise UsageError(
            f'{flag} {prefix}: cannot be read as a checkpoint ({str(error).splitlines()[0]})'
        ) from error


def read(prefix: str, *, flag: str, weights: str = 'raw') -> Checkpoint:
    """A checkpoint by our variable names, whichever TensorFlow code wrote it.

    Calibrated statistics come with it.

    Where the run kept a moving average of its variables, their values are those of the average.

    Args:
        prefix: of the checkpoint.
        flag: to name in errors.
        weights: ``raw``, or ``ema`` for those that ``--model-ema`` averaged.

    Raises:
        UsageError: it cannot be read, or has no such weights.
    """
    values = {
        name: value
        for name, value in read_variables(prefix, flag=flag).items()
        if not name.startswith(METRICS)
    }
    values, of_training = averages.split(values)
    if weights == 'ema' and not of_training:
        raise UsageError(
            f'--weights ema: {prefix} holds no averages; training keeps them with --model-ema'
        )
    config = Path(prefix).parent / 'config.json'
    if any(name.startswith('imagenet/') for name in values):
        renamed = {from_published(name): value for name, value in values.items()}
        return Checkpoint(
            prefix, {name: value for name, value in renamed.items() if name is not None}, None
        )
    # A network that follows the trained one is what its papers evaluate.
    average = {
        name.removeprefix(TEACHER): value
        for name, value in values.items()
        if name.startswith(TEACHER)
    }
    values = {
        name: value for name, value in values.items() if not name.startswith(TEACHER)
    } | average
    if weights == 'ema':
        values |= of_training
    return Checkpoint(
        prefix, values | read_calibrated(prefix), read_config(config) if config.exists() else None
    )


def check_points(source: Checkpoint, points: Iterable[Point], flag: str) -> None:
    """Checks that ``source`` has statistics of all these operating points.

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
        raise UsageError(
            f'{flag} {source.prefix}: no statistics for {" ".join(lost)}; python -m '
            'scripts.calibrate '
            f'{Path(source.prefix).parent} makes them; there are {" ".join(known)}'
        )


def available(source: Checkpoint) -> list[str]:
    """Spellings of operating points with statistics, trained or calibrated, strongest first."""
    net = source.config.network() if source.config else None
    found = {*map(str, net.trained_points if net else ()), *source.calibrated}
    return sorted(found, reverse=True)


def read_calibrated(prefix: str) -> dict[str, np.ndarray]:
    """Variables that ``scripts/calibrate.py`` added to a checkpoint; they lie beside it."""
    path = Path(f'{prefix}{CALIBRATED}')
    if not path.exists():
        return {}
    try:
        with np.load(path) as arrays:
            return dict(arrays)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise UsageError(f'{path}: damaged ({error}); delete it and calibrate again') from error


def write_calibrated(prefix: str, values: Mapping[str, np.ndarray]) -> Path:
    """Adds variables to a checkpoint, whose own files stay as they are.

    Returns the file beside it.
    """
    path = Path(f'{prefix}{CALIBRATED}')
    temporary = path.with_name(f'.{path.name}.{os.getpid()}')
    with temporary.open('wb') as stream:
        np.savez(stream, allow_pickle=False, **(read_calibrated(prefix) | dict(values)))
    os.replace(temporary, path)
    return path


def select(
    checkpoint: Checkpoint,
    variables: Mapping[str, tuple[int, ...]],
    *,
    flag: str,
    states: Mapping[str, State] | None = None,
    fresh: bool = False,
    partial: bool = False,
) -> dict[str, np.ndarray]:
    """Values for the variables of a graph.

    Args:
        checkpoint: where to take them.
        variables: shapes by name.
        flag: to name in errors.
        states: declarations of the variables by name.
        fresh: whether those that are declared so may be missing, or be of another shape.
        partial: ``variables`` are only some of a network's, so that the checkpoint may have others.

    Raises:
        UsageError: a variable is missing or of another shape, or the checkpoint is of a network
            with more layers; the message says what it has.
    """
    surplus = _layers(checkpoint.values) - _layers(variables)
    if surplus and not partial:
        raise UsageError(
            f'{flag}: the checkpoint has {min(surplus)} (and {len(surplus) - 1} more), the network '
            f'asked for has not: another depth, mode or network; {checkpoint.describe()}'
        )
    states = states or {}
    taken, lost, changed = {}, [], []
    for name, shape in variables.items():
        value = checkpoint.values.get(name)
        if value is not None and value.shape == tuple(shape):
            taken[name] = value
        elif fresh and states.get(name, TRAINED).fresh:
            continue
        elif value is None:
            lost.append(name)
        else:
            changed.append(name)
    if lost:
        reason = _reason(lost, flag, states)
        raise UsageError(f'{flag}: {reason}; {checkpoint.describe()}')
    if changed:
        name = changed[0]
        there, asked = list(checkpoint.values[name].shape), list(variables[name])
        raise UsageError(
            f'{flag}: {name} is {there} in the checkpoint, {asked} in the network that was asked '
            f'for; {checkpoint.describe()}'
        )
    return taken


def _layers(names: Iterable[str]) -> set[str]:
    """Kernels and normalisations among the names, whatever the size.

    A gate for widths is no part of the widths.
    """
    return {
        re.sub(r'/s\d+/', '/', name)
        for name in names
        if name.endswith((*_KERNELS, '/gamma')) and 'slimming_gate/' not in name
    }


def _reason(lost: list[str], flag: str, states: Mapping[str, State]) -> str:
    sizes = sorted(
        {int(m[1]) for name in lost if (m := re.search(r'/s(\d+)/', name))}, reverse=True
    )
    if kernels := [name for name in lost if name.endswith(_KERNELS)]:
        return (
            f'no variable {kernels[0]} (and {len(lost) - 1} more): another depth, mode or network'
        )
    kinds = {states.get(name, TRAINED).kind for name in lost}
    if kinds == {Kind.QUANTIZER}:
        scope = lost[0].rpartition('/')[0]
        return f'no quantizer state for {scope} (and {len(lost) - 1} more)'
    if sizes:
        hint = f' ({BORROW})' if flag.startswith('-e') else ''
        return f'no statistics for size {" ".join(map(str, sizes))}{hint}'
    return f'no variable {lost[0]} (and {len(lost) - 1} more): another depth, mode or network'
