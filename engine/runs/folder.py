"""The run folder: configuration, checkpoints, records; nothing is overwritten unasked."""

import contextlib
import dataclasses
import datetime
import functools
import re
import shlex
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from engine.config.config import Config, read_config
from engine.data.identity import Identity
from engine.errors import UsageError
from engine.files import derived, read_json, sweep, write_json
from engine.quantities import counted
from engine.runs import data_record, history, resuming
from engine.runs.lock import Lock, is_lock
from nets import cost

# The configuration of the run.
CONFIG = 'config.json'

# The checkpoint with the highest accuracy.
BEST = 'best'

# Layer records by operating point, and their type.
LAYERS = 'layers.json'
Layers = dict[str, list[cost.LayerRecord]]


@dataclasses.dataclass(frozen=True)
class Run:
    """An opened run folder.

    Attributes:
        path: the folder.
        checkpoint: prefix of the checkpoint to resume from, or None for a fresh run.
        step: global step of that checkpoint.
        config: with which it goes on; None: as asked for.
        lock: of the folder; None: nobody else knows it.
    """

    path: Path
    checkpoint: str | None = None
    step: int = 0
    config: Config | None = None
    lock: Lock | None = None

    def check_lock(self) -> None:
        """Checks that the folder is still this process's, before something is written.

        Raises:
            WorkerError: another process has it.
        """
        if self.lock is not None:
            self.lock.check()


def open_run(
    config: Config,
    path: Path,
    action: str | None,
    *,
    images: Identity | None = None,
    check: Callable[[str], object] = lambda prefix: None,
    given: Collection[str] = (),
) -> Run:
    """Creates the folder of a run, or resumes the same run in it.

    Args:
        config: what is going to be run.
        path: the folder.
        action: None or ``k``, ``p``, ``d``, ``n``: what to do with an existing folder.
        images: that it trains on and is evaluated on.
        check: raises UsageError if the checkpoint of a prefix is broken; the one before it is used
            then.
        given: names of the options that flags set.

    Raises:
        UsageError: the folder holds something else, or broken checkpoints only, and nothing has
            been touched; or it cannot be written.
    """
    try:
        path = placed(path, action)
        there = continued(config, path, action, images=images, given=given)
        if there is not None:
            return _continue(there, path, check)
        if _holds_something(path):
            _empty(path)
        return _begin(config, path, images)
    except OSError as error:
        raise UsageError(f'--logdir {path}: cannot be written ({error.strerror})') from error


def continued(
    config: Config,
    path: Path,
    action: str | None,
    *,
    images: Identity | None = None,
    given: Collection[str] = (),
) -> Config | None:
    """The configuration with which the run in a folder goes on; None where one begins there.

    Nothing is changed, and TensorFlow is not loaded.

    Args:
        config: what is going to be run.
        path: the folder, see ``placed``.
        action: what to do with an existing one.
        images: that it trains on and is evaluated on.
        given: names of the options that flags set.

    Raises:
        UsageError: the folder holds something else.
    """
    if not _is_text(path):
        raise UsageError(f'--logdir {path}: the name is no UTF-8 text; choose another folder')
    if path.exists() and not path.is_dir():
        raise UsageError(f'--logdir {path}: is a file; choose a folder')
    if not _holds_something(path):
        return None
    if not (path / CONFIG).exists():
        raise UsageError(
            f'--logdir {path}: the folder is not empty and not a run; choose another --logdir'
        )
    if action == 'd':
        return None
    there = read_config(path / CONFIG)
    known = images if (path / data_record.FILE).exists() else None
    asked = resuming.Asked(config, frozenset(given), action == 'p', known is not None)
    going_on = asked.of_run(there, path, max(checkpoints(path), default=0))
    if known is not None:
        data_record.check(path, known)
    return going_on


def _is_text(path: Path) -> bool:
    """Whether a path can be encoded, which TensorFlow needs to write into it."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def placed(path: Path, action: str | None) -> Path:
    """The folder of a run: this one, or with ``n`` a new one beside it where it is there."""
    if action == 'n' and path.exists():
        path = path.resolve()
        return path.with_name(f'{path.name}-{_now()}')
    return path


def _now() -> str:
    return f'{datetime.datetime.now():%m%d-%H%M%S}'


def _holds_something(path: Path) -> bool:
    """Whether a folder holds more than what was left of writing its configuration."""
    if not path.is_dir():
        return False
    others = [child for child in path.iterdir() if not is_lock(child)]
    left = (f'.{CONFIG}.', f'.{data_record.FILE}.', data_record.FILE)
    return any(not child.name.startswith(left) for child in others)


def _empty(path: Path) -> None:
    for child in path.iterdir():
        if child.is_dir() and not child.is_symlink():
            shutil.rmtree(child)
        elif not is_lock(child):
            child.unlink()


def _begin(config: Config, path: Path, images: Identity | None) -> Run:
    if images is not None:
        data_record.write(path, data_record.of(images))
    write_json(path / CONFIG, config.to_json())
    return Run(path)


def _continue(config: Config, path: Path, check: Callable[[str], object]) -> Run:
    there = read_config(path / CONFIG)
    sweep(path)
    run = _resume(path, config, check)
    for note in resuming.notes(there, config, run.step):
        print(note)
    if there != config:
        write_json(path / CONFIG, config.to_json())
    return dataclasses.replace(run, config=config)


def checkpoint_step(prefix: str) -> int | None:
    """Step in the name of a checkpoint, such as 600000 of ``model-600000``."""
    match = re.search(r'-(\d+)$', prefix)
    return int(match[1]) if match else None


def checkpoints(path: Path) -> dict[int, str]:
    """Complete ``model-<step>`` checkpoints of a folder: prefix by step, ascending."""
    found = {}
    for index in path.glob('model-*.index'):
        prefix = str(index.with_suffix(''))
        step = checkpoint_step(prefix)
        if step is not None:
            found[step] = prefix
    return dict(sorted(found.items()))


def _resume(path: Path, config: Config, check: Callable[[str], object]) -> Run:
    """Resumes at the newest checkpoint that lies not beyond the history, which is cut there.

    A process can die between saving the checkpoint of an epoch and recording it; that epoch's end
    is then run again. A history that was lost, in part or as a whole, costs no checkpoint.
    """
    steps = config.steps_per_epoch
    rows = history.recorded(path)
    recorded = int(rows[-1][history.EPOCH]) if rows else 0
    saved = checkpoints(path)
    if max(saved, default=0) > (recorded + 1) * steps:
        print(
            f'{path / history.FILE}: records {counted(recorded, "epoch")}, and there are '
            'checkpoints of later ones: goes on from those'
        )
        usable = saved
    else:
        usable = {at: prefix for at, prefix in saved.items() if at < (recorded + 1) * steps}
    step, prefix = _newest(usable, check, path) if usable else (0, None)
    epoch = step // steps
    if epoch < recorded:
        history.write(path, [row for row in rows if row[history.EPOCH] <= epoch])
    return Run(path, prefix, step)


def _newest(
    found: Mapping[int, str], check: Callable[[str], object], path: Path
) -> tuple[int, str]:
    """Step and prefix of the newest checkpoint that is not broken. Names those that are.

    Raises:
        UsageError: all are broken.
    """
    for step, prefix in sorted(found.items(), reverse=True):
        try:
            check(prefix)
            return step, prefix
        except UsageError as error:
            print(f'{error}; an older one is used')
    text = f'--logdir {path}: none of its checkpoints can be read, see above; nothing was changed'
    best = str(path / BEST)
    with contextlib.suppress(UsageError):
        check(best)
        text += f'; --load {shlex.quote(best)} in another --logdir starts from its best weights'
    raise UsageError(f'{text}. Put a copy back, or start anew with -a n, or in another --logdir')


def merge_layers(folder: Path, layers: Mapping[str, Sequence[cost.LayerRecord]]) -> None:
    """Adds the layer records of these points to the run folder."""
    path = folder / LAYERS
    known = derived(path, functools.partial(read_json, path, Layers)) or {}
    write_json(path, cost.to_json({**known, **layers}))
