"""The run folder: its configuration, checkpoints and records. Nothing in it is overwritten without being asked."""

import contextlib
import dataclasses
import datetime
import json
import os
import re
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.config.config import Config, read_config
from engine.errors import UsageError

if TYPE_CHECKING:
    from engine.data.datasets import Source

# Fields of Config that say which bad images are known. What is trained on is compared by itself.
FREE = ('skip_list', 'max_bad')

# What a run trains on.
DATA = 'data.json'

ACTIONS = {'k': 'keep and resume', 'd': 'delete', 'n': 'new folder beside it'}


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Path to write to: ``path`` is either the old or the new file, whenever the process dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'.{path.name}.{os.getpid()}')
    try:
        yield temporary
        with temporary.open('rb') as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, data: Any) -> None:
    """Writes ``data``, see ``replacing``."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(data, indent=1) + '\n')


@dataclasses.dataclass(frozen=True)
class Run:
    """An opened run folder.

    Attributes:
        path: the folder.
        checkpoint: prefix of the checkpoint to resume from, or None for a fresh run.
        step: global step of that checkpoint.
    """

    path: Path
    checkpoint: str | None = None
    step: int = 0


def open_run(
    config: Config,
    path: Path,
    action: str | None,
    *,
    images: 'Source | None' = None,
    check: Callable[[str], object] = lambda prefix: None,
) -> Run:
    """Creates the folder of a run, or resumes the same run in it.

    Args:
        config: what is going to be run.
        path: the folder.
        action: None or ``k``, ``d``, ``n``: what to do with an existing folder.
        images: that it trains on.
        check: raises UsageError if the checkpoint of a prefix is broken; the one before it is used then.

    Raises:
        UsageError: the folder holds something else, or broken checkpoints only, and nothing has been touched; or it
            cannot be written.
    """
    try:
        return _open(config, path, action, images, check)
    except OSError as error:
        raise UsageError(f'--logdir {path}: cannot be written ({error.strerror})') from error


def _open(
    config: Config,
    path: Path,
    action: str | None,
    images: 'Source | None',
    check: Callable[[str], object],
) -> Run:
    if action == 'n' and path.exists():
        path = path.resolve().with_name(
            f'{path.resolve().name}-{datetime.datetime.now():%m%d-%H%M%S}'
        )
    if path.is_dir() and any(
        not child.name.startswith('.config.json.') for child in path.iterdir()
    ):
        found = path / 'config.json'
        if not found.exists():
            raise UsageError(
                f'--logdir {path}: the folder is not empty and not a run; choose another --logdir'
            )
        if action == 'd':
            for child in path.iterdir():
                shutil.rmtree(
                    child
                ) if child.is_dir() and not child.is_symlink() else child.unlink()
        else:
            there = read_config(found)
            _same(there, config, path)
            if images is not None and (path / DATA).exists():
                _same_images(path, images)
            if there != config:
                write_json(found, config.to_json())
            return _resume(path, config, check)
    elif path.exists() and not path.is_dir():
        raise UsageError(f'--logdir {path}: is a file; choose a folder')
    write_json(path / 'config.json', config.to_json())
    if images is not None:
        write_json(path / DATA, _digest(images))
    return Run(path)


def _same(there: Config, here: Config, path: Path) -> None:
    old, new = there.to_json(), here.to_json()
    changed = [
        f'{key}: {old[key]} there, {new[key]} here'
        for key in new
        if old[key] != new[key]
        and key not in FREE
        and (key != 'gpu' or len(old[key]) != len(new[key]))
    ]
    if changed:
        raise UsageError(
            f'--logdir {path}: holds a run of another configuration ({"; ".join(changed)}). '
            'Give -a n for a new folder, -a d to delete the old one, or another --logdir'
        )


def _digest(train: 'Source') -> dict[str, int]:
    digest = zlib.crc32(train.labels.tobytes())
    for i in range(len(train)):
        digest = zlib.crc32(os.fsencode(train.name(i)), digest)
    return {'training_images': len(train), 'crc32': digest}


def _same_images(path: Path, train: 'Source') -> None:
    """Compares the training images of a run with those that it began with."""
    try:
        there = json.loads((path / DATA).read_text())
        begun = there['training_images']
    except (ValueError, TypeError, KeyError) as error:
        raise UsageError(
            f'{path / DATA}: cannot be read ({error!r}); delete it if --data has not changed'
        ) from error
    if there != _digest(train):
        raise UsageError(
            f'--logdir {path}: the run began with {begun} training images; --data and '
            f'--skip-list now give {len(train)} or others, and the rest would not be of the same run. '
            'Repair the images, or give -a n for a new folder'
        )


def checkpoint_step(prefix: str) -> int | None:
    """Step in the name of a checkpoint, such as 600000 of ``model-600000``."""
    match = re.search(r'-(\d+)$', prefix)
    return int(match[1]) if match else None


def checkpoints(path: Path) -> dict[int, str]:
    """Complete ``model-<step>`` checkpoints of a folder: prefix by step, ascending."""
    prefixes = (str(index.with_suffix('')) for index in path.glob('model-*.index'))
    found = {checkpoint_step(prefix): prefix for prefix in prefixes}
    return {step: found[step] for step in sorted(s for s in found if s is not None)}


def _resume(path: Path, config: Config, check: Callable[[str], object]) -> Run:
    """Resumes at the newest checkpoint that lies not beyond the history, and cuts the history there.

    A process can die between saving the checkpoint of an epoch and recording it; that epoch's end is then run again. A
    history that was lost, in part or as a whole, costs no checkpoint.
    """
    history_file, saved = path / 'stats.json', checkpoints(path)
    try:
        history = json.loads(history_file.read_text()) if history_file.exists() else []
        recorded = max((row['epoch_num'] for row in history), default=0)
    except (ValueError, TypeError, KeyError) as error:
        aside = history_file.with_name(f'{history_file.name}.{datetime.datetime.now():%m%d-%H%M%S}')
        print(f'{history_file}: cannot be read ({error!r}); it is kept as {aside.name}')
        os.replace(history_file, aside)
        history, recorded = [], 0
    end = (recorded + 1) * config.steps_per_epoch
    if max(saved, default=0) > end:
        print(
            f'{history_file}: records {recorded} epochs, and there are checkpoints of later ones: goes on from those'
        )
        end = max(saved) + 1
    found = {step: prefix for step, prefix in saved.items() if step < end}
    step, prefix = _newest(found, check, path) if found else (0, None)
    epoch = step // config.steps_per_epoch
    if epoch < recorded:
        write_json(history_file, [row for row in history if row['epoch_num'] <= epoch])
    return Run(path, prefix, step)


def _newest(
    found: Mapping[int, str], check: Callable[[str], object], path: Path
) -> tuple[int, str]:
    """Step and prefix of the newest checkpoint that is not broken. Names those that are."""
    for step, prefix in sorted(found.items(), reverse=True):
        try:
            check(prefix)
            return step, prefix
        except UsageError as error:
            print(f'{error}; an older one is used')
    raise UsageError(f'--logdir {path}: all of its checkpoints are broken; -a d starts over')
