"""Reading checkpoints: ours, or those of the published RS-Nets quantization code, by our variable names."""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
from tensorpack.tfutils.sessinit import SessionInit

import nets
from engine.config import Config, read_config
from engine.errors import UsageError
from engine.run import checkpoints
from quant.backend import tf

# Steps of an epoch of the published code at its batch size 256.
PUBLISHED_STEPS_PER_EPOCH = 5000


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
        """Input sizes that it has normalisation statistics for, largest first."""
        found = {int(m[1]) for name in self.values if (m := re.search(r'/s(\d+)/mean/EMA$', name))}
        return sorted(found, reverse=True)

    @property
    def classes(self) -> int:
        """Number of classes of its classifier, 0 if it has none."""
        return len(self.values['linear/b']) if 'linear/b' in self.values else 0

    def bits(self, kind: str) -> int:
        """Bits of its weight or activation bases (``kind`` is ``weight_quant`` or ``quant``), 32 if it has none."""
        pattern = r'/weight_quant/basis$' if kind == 'weight_quant' else r'/quant\w+(/s\d+)?/basis$'
        rows = {len(v) for name, v in self.values.items() if re.search(pattern, name)}
        return rows.pop() if len(rows) == 1 else 32

    def describe(self) -> str:
        """What it holds, for error messages."""
        return (f'{self.prefix} has sizes {" ".join(map(str, self.sizes)) or "none"}, '
                f'{self.bits("weight_quant")}-bit weights and {self.bits("quant")}-bit activations')


class Restore(SessionInit):
    """Sets variables of a session to ``values`` (arrays by name) in one go; the others keep their start values."""

    def __init__(self, values: Mapping[str, np.ndarray]):
        self._values = values

    def _run_init(self, sess: tf.Session) -> None:
        chosen = [variable for variable in tf.global_variables() if variable.op.name in self._values]
        sess.run([variable.initializer for variable in chosen],
                 {variable.initializer.inputs[1]: self._values[variable.op.name] for variable in chosen})


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
        raise UsageError(f'{flag} {path}: no such checkpoint or folder; give a run folder, or a prefix such as '
                         'RUN/model-625')
    found = checkpoints(folder)
    if not found:
        raise UsageError(f'{flag} {path}: no checkpoint (model-<step>.index) in this folder')
    if epoch is None:
        return found[max(found)]
    config = folder / 'config.json'
    steps = read_config(config).steps_per_epoch if config.exists() else PUBLISHED_STEPS_PER_EPOCH
    if epoch * steps not in found:
        raise UsageError(f'-ep {epoch}: no checkpoint of step {epoch * steps} in {path}; it has epochs '
                         f'{", ".join(f"{step / steps:g}" for step in found)}')
    return found[epoch * steps]


def read(prefix: str, *, net: str, flag: str) -> Checkpoint:
    """A checkpoint by our variable names, whichever code wrote it.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        reader = tf.train.load_checkpoint(prefix)
        values = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    except (tf.errors.OpError, ValueError, RuntimeError, IndexError) as error:
        raise UsageError(f'{flag} {prefix}: cannot be read as a checkpoint ({str(error).splitlines()[0]})') from error
    config = Path(prefix).parent / 'config.json'
    if any(name.startswith('imagenet/') for name in values):
        renamed = {nets.get(net).from_published(name): value for name, value in values.items()}
        return Checkpoint(prefix, {name: value for name, value in renamed.items() if name is not None}, None)
    return Checkpoint(prefix, values, read_config(config) if config.exists() else None)


def select(checkpoint: Checkpoint, variables: Mapping[str, tuple[int, ...]], *, flag: str,
           optional: Callable[[str], bool] = lambda name: False, rename: Callable[[str], str] = lambda name: name,
           partial: bool = False) -> dict[str, np.ndarray]:
    """Values for the variables of a graph.

    Args:
        checkpoint: where to take them.
        variables: shapes by name.
        flag: to name in errors.
        optional: variables that may be missing.
        rename: name in the graph -> name in the checkpoint.
        partial: ``variables`` are only some of a network's, so that the checkpoint may have others.

    Raises:
        UsageError: a variable is missing or of another shape, or the checkpoint is of a network with more layers; the
            message says what it has.
    """
    surplus = _layers(checkpoint.values) - _layers(variables)
    if surplus and not partial:
        raise UsageError(f'{flag}: the checkpoint has {min(surplus)} (and {len(surplus) - 1} more), the network '
                         f'asked for has not: another depth, mode or network; {checkpoint.describe()}')
    wanted = {name: rename(name) for name in variables}
    lost = [name for name, source in wanted.items() if source not in checkpoint.values and not optional(name)]
    if lost:
        raise UsageError(f'{flag}: {_reason(lost, flag)}; {checkpoint.describe()}')
    taken = {name: checkpoint.values[source] for name, source in wanted.items() if source in checkpoint.values}
    for name, value in taken.items():
        if tuple(value.shape) != tuple(variables[name]):
            raise UsageError(f'{flag}: {name} is {list(value.shape)} in the checkpoint, {list(variables[name])} in the '
                             f'network that was asked for; {checkpoint.describe()}')
    return taken


def _layers(names: Iterable[str]) -> set[str]:
    """Kernels and normalisations among the names, whatever the size."""
    return {re.sub(r'/s\d+/', '/', name) for name in names if name.endswith(('/W', '/gamma'))}


def _reason(lost: list[str], flag: str) -> str:
    sizes = sorted({int(m[1]) for name in lost if (m := re.search(r'/s(\d+)/', name))}, reverse=True)
    if kernels := [name for name in lost if name.endswith('/W')]:
        return f'no variable {kernels[0]} (and {len(lost) - 1} more): another depth, mode or network'
    if all(name.endswith('/basis') for name in lost):
        return f'no quantizer state for {lost[0].removesuffix("/basis")} (and {len(lost) - 1} more)'
    if sizes:
        hint = ' (-eos uses those of another size)' if flag.startswith('-e') else ''
        return f'no statistics for size {" ".join(map(str, sizes))}{hint}'
    return f'no variable {lost[0]} (and {len(lost) - 1} more): another depth, mode or network'
