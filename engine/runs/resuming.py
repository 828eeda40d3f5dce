"""Whether a command goes on with a run: which options are as recorded, and which may change."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from engine.config.config import Config
from engine.data import datasets
from engine.errors import UsageError
from engine.optimization.schedules import MARKS
from engine.quantities import counted

# Fields of Config that say which bad images are known, on which devices and in which memory a step
# is computed, when it is scored, and what else is trained in the same chain.
FREE = (
    'skip_list',
    'max_bad',
    'gpu',
    'operation_threads',
    'native',
    'recompute',
    'val_interval',
    'stages',
)

# What settles the order of sums within an operation, and its flag: stays as it is recorded, unless
# the flag is given.
ORDER = {'operation_threads': '--threads', 'native': '--native'}

# Where data are; what they are is compared by itself.
DATA = 'data'

# How fields that are paths are recorded; an earlier run has them as they were typed. A teacher is
# compared by its content, see ``engine.training.teachers``: here is only whether there is one.
PATHS: dict[str, Callable[[str], str]] = {
    DATA: datasets.located,
    'load': datasets.absolute,
    'teacher': lambda text: 'one' if text else '',
}


@dataclasses.dataclass(frozen=True)
class Asked:
    """A command that is given the folder of a run, and may go on with it.

    Attributes:
        config: the configuration that it stands for.
        given: names of the options that flags set.
        prolong: whether a run may go on whose learning rate has ended at zero.
        data_known: whether data are compared by their content, so that their place may change.
    """

    config: Config
    given: frozenset[str] = frozenset()
    prolong: bool = False
    data_known: bool = False

    def of_run(self, there: Config, path: Path, step: int) -> Config:
        """The configuration with which a run goes on.

        Args:
            there: as recorded.
            path: folder of the run.
            step: that it has reached.

        Raises:
            UsageError: the folder holds another run, or one that is over.
        """
        config = self.config.replacing(rewriting=there.rewriting)
        recorded = {name: getattr(there, name) for name in ORDER if name not in self.given}
        config = config.replacing(**recorded)
        if there.absolute:
            kept = {name: getattr(there, name) for name in MARKS if name not in self.given}
            config = config.replacing(absolute=True, **kept)
        free = (*FREE, DATA) if self.data_known else FREE
        _check_same(there, config, path, free)
        if not self.prolong:
            _check_rate(there, config, step)
        return config


def _check_same(there: Config, here: Config, path: Path, free: Sequence[str]) -> None:
    """Checks that the folder's configuration is that of this run, or of a shorter one.

    Args:
        there: as recorded.
        here: of the command.
        path: folder of the run.
        free: names of the options that may differ.

    Raises:
        UsageError: another value differs.
    """
    old = there.flat()
    changed = {}
    for key, new in here.flat().items():
        if key not in old or key in free:  # not there: of another network
            continue
        before = old[key]
        if key in PATHS:
            before, new = PATHS[key](before or ''), PATHS[key](new or '')
        if before != new:
            changed[key] = f'{key}: {old[key]} there, {new} here'
    # A longer run has the marks of its own length.
    if here.epochs > there.epochs and changed.keys() <= {'epochs', *MARKS}:
        return
    if changed:
        texts = '; '.join(changed.values())
        raise UsageError(
            f'--logdir {path}: holds a run of another configuration ({texts}). '
            'Give -a n for a new folder beside it, or another --logdir'
        )


def _check_rate(there: Config, here: Config, step: int) -> None:
    """Checks that a run that is to become longer has not learned at a rate that ended at zero.

    Raises:
        UsageError: it has.
    """
    end = there.course.steps
    if here.epochs > there.epochs and step >= end and there.course.rate()(end) <= 0:
        raise UsageError(
            f'--epochs {here.epochs}: the learning rate has fallen to 0 over the '
            f'{counted(there.epochs, "epoch")} of this run (--schedule {there.schedule}) and would '
            f'be {here.course.rate()(step):.3g} again; -a p goes on like that, and -a n trains '
            'all epochs anew'
        )


def notes(there: Config, here: Config, step: int) -> list[str]:
    """Lines about what has changed since a run was recorded.

    Args:
        there: as recorded.
        here: with which it goes on.
        step: at which.
    """
    found = []
    if len(there.gpu) != len(here.gpu):
        found.append(_of_gpus(there, here))
    for name, flag in ORDER.items():
        now, before = getattr(here, name), getattr(there, name)
        if now != before:
            found.append(
                f'{flag} {now}, before {before}: sums may be rounded otherwise from here on'
            )
    if here.epochs != there.epochs:
        found.append(_of_epochs(there, here, step))
    if here.absolute:
        found.append('learning rate as this run began it, by the rules of an earlier version')
    return found


def _of_gpus(there: Config, here: Config) -> str:
    before, now = len(there.gpu), len(here.gpu)
    share, share_before = here.batch_size // now, here.batch_size // before
    return (
        f'--gpu: towers {now}, before {before}; --batch_size {here.batch_size} stays, '
        f'{counted(share, "image")} each, before {share_before}'
    )


def _of_epochs(there: Config, here: Config, step: int) -> str:
    rate, rate_before = here.course.rate()(step), there.course.rate()(step)
    return (
        f'--epochs {here.epochs}, before {there.epochs}: the learning rate at step {step} is '
        f'{rate:.3g}, before {rate_before:.3g}'
    )
