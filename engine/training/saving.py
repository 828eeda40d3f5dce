"""Checkpoints of a training: complete or absent whenever the process dies, and few to keep."""

import dataclasses
import functools
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from tensorpack import Callback
from tensorpack.tfutils.sessinit import SessionInit

from engine.errors import UsageError, reason
from engine.files import derived, read_json, set_aside, write_json
from engine.runs import history
from engine.runs.checkpoint import CLASSES, METRICS, Restore
from engine.runs.folder import BEST, Run, checkpoints
from engine.runs.literal import literal, readable
from quant.backend import tf

# Of the checkpoints at the ends of epochs the last ones stay, and of those before them one per so
# many seconds.
KEPT = 10
SPACING = 1800

# Below every top-1.
NONE = -1.0

# Start of the names of files that are being written.
TEMPORARY = '.saving.'


def state() -> list[tf.Variable]:
    """All that a checkpoint of a training holds.

    What it carries from step to step, the averages of its metrics included, and the names of the
    classes.
    """
    metrics = [
        variable for variable in tf.local_variables() if variable.op.name.startswith(METRICS)
    ]
    return tf.global_variables() + metrics + class_names()


def keep_class_names(names: Sequence[str]) -> None:
    """Adds the names of the classes to what checkpoints of the current graph hold."""
    stored = list(map(os.fsencode, names))
    with tf.device('/cpu:0'):
        tf.Variable(
            stored,
            dtype=tf.string,
            trainable=False,
            collections=[tf.GraphKeys.LOCAL_VARIABLES],
            name=CLASSES,
        )


def class_names() -> list[tf.Variable]:
    """The variable of ``keep_class_names``, if there is one."""
    return [variable for variable in tf.local_variables() if variable.op.name == CLASSES]


class Start(SessionInit):
    """Sets the variables of a session to ``values`` (arrays by name), see ``Restore``."""

    def __init__(self, values: Mapping[str, np.ndarray]):
        self._restore = Restore(values)

    def _run_init(self, sess: tf.Session) -> None:
        self._restore.init(sess)


class Resume(SessionInit):
    """Sets the variables of a session to those of a checkpoint of the same run."""

    def __init__(self, prefix: str):
        self._prefix = prefix

    def _setup_graph(self) -> None:
        with readable(self._prefix) as name:
            known = tf.train.load_checkpoint(name).get_variable_to_shape_map()
        variables = [variable for variable in state() if variable.op.name in known]
        self._saver = tf.train.Saver(variables, name='resume')

    def _run_init(self, sess: tf.Session) -> None:
        with readable(self._prefix) as name:
            self._saver.restore(sess, name)


def write(saver: tf.train.Saver, session: tf.Session, prefix: Path) -> None:
    """Saves a checkpoint: its index, without which it is none, appears when all else is in place.

    Args:
        saver: of the variables.
        session: with their values.
        prefix: of the files.

    Raises:
        UsageError: it cannot be written.
    """
    temporary = prefix.with_name(f'{TEMPORARY}{prefix.name}')
    name = str(temporary)
    try:
        with literal(temporary) as name:
            saver.save(session, name, write_meta_graph=False, write_state=False)
        _publish(temporary, prefix)
    except (OSError, ValueError, tf.errors.OpError) as error:  # ValueError: the folder is gone
        why = reason(error).replace(name, str(temporary))
        raise UsageError(
            f'--logdir {prefix.parent}: checkpoint {prefix.name} cannot be written ({why}); '
            'older ones are kept, and the same command resumes from them'
        ) from error
    finally:
        _remove_temporary(prefix.parent)


def _publish(temporary: Path, prefix: Path) -> None:
    """Gives the files of a checkpoint their names, the index last."""
    files = sorted(temporary.parent.glob(f'{temporary.name}.*'))  # .data-..., then .index
    for file in files:
        with file.open('rb') as stream:
            os.fsync(stream.fileno())
    Path(f'{prefix}.index').unlink(missing_ok=True)
    for file in files:
        os.replace(file, file.with_name(file.name.removeprefix(TEMPORARY)))


def _remove_temporary(folder: Path) -> None:
    for left in folder.glob(f'{TEMPORARY}*'):
        if left.is_dir():
            shutil.rmtree(left)
        else:
            left.unlink()


def outdated(saved: Mapping[int, float], steps_per_epoch: int, step: int) -> list[int]:
    """Steps of checkpoints that can go once the epoch of ``step`` goes on.

    A checkpoint within an epoch is needed until that epoch is over.

    Args:
        saved: when they were written, in seconds, by their steps, ascending.
        steps_per_epoch: of a whole epoch.
        step: the present one.
    """
    begun = step // steps_per_epoch * steps_per_epoch
    gone = [at for at in saved if at % steps_per_epoch and at < begun]
    ends = [at for at in saved if at % steps_per_epoch == 0]
    last_kept = -float(SPACING)
    for at in ends[:-KEPT]:
        # A clock that was set back must not make all that came before it too young.
        if abs(saved[at] - last_kept) < SPACING:
            gone.append(at)
        else:
            last_kept = saved[at]
    return gone


def one_step_left(callback: Callback) -> bool:
    """Whether the step that has just run is the last but one of its epoch: ``Save`` writes then."""
    return callback.local_step == callback.trainer.steps_per_epoch - 2


class Save(Callback):
    """Saves ``model-<step>`` at the end of every epoch; outdated ones go when the next one starts.

    Also before the last step of an epoch: if the evaluation is killed or finds a bad file, that
    step alone is run again, which brings back all that an epoch records.
    """

    def __init__(self, run: Run):
        self._run = run
        self._path = run.path

    def _setup_graph(self) -> None:
        self._saver = tf.train.Saver(state(), max_to_keep=None)

    def save(self) -> None:
        """Writes the checkpoint of the present step."""
        self._run.check_lock()
        write(self._saver, self.trainer.sess, self._path / f'model-{self.global_step}')

    def _trigger_step(self) -> None:
        if one_step_left(self):
            self.save()

    def _trigger_epoch(self) -> None:
        self.save()

    def _before_epoch(self) -> None:
        self.tidy()

    def tidy(self) -> None:
        """Deletes outdated checkpoints. To be called when the history has the last full epoch."""
        found = checkpoints(self._path)
        times = {}
        for step, prefix in found.items():
            times[step] = Path(f'{prefix}.index').stat().st_mtime
        for step in outdated(times, self.trainer.steps_per_epoch, self.global_step):
            Path(f'{found[step]}.index').unlink()
            for file in self._path.glob(f'model-{step}.*'):
                file.unlink()


class SaveBest(Callback):
    """Keeps the checkpoint with the highest mean top-1 over the points as ``best``.

    ``best.json`` describes it. A process that dies between writing the two runs the epoch again
    when it is resumed, and then finds it best again.
    """

    def __init__(self, run: Run):
        self._run = run
        self._file = run.path / history.BEST_FILE
        self._prefix = run.path / BEST

    def _setup_graph(self) -> None:
        held = tf.global_variables() + class_names()
        self._saver = tf.train.Saver(held, max_to_keep=None)

    def _trigger_epoch(self) -> None:
        try:
            mean = self.trainer.monitors.get_latest(history.MEAN_TOP1)
        except KeyError:  # not scored yet, see --val-interval
            return
        if mean <= self._recorded():
            return
        self._run.check_lock()
        write(self._saver, self.trainer.sess, self._prefix)
        self._write(history.Best(mean, self.global_step, self.epoch_num))

    def _write(self, best: history.Best) -> None:
        write_json(self._file, dataclasses.asdict(best))

    def _recorded(self) -> float:
        """Mean top-1 of the checkpoint that is there, below all others without one."""
        if not Path(f'{self._prefix}.index').exists():
            return NONE
        best = derived(self._file, functools.partial(read_json, self._file, history.Best))
        if best is None:
            return self._made_anew()
        return best.mean_top1

    def _made_anew(self) -> float:
        """The same from the history. Without one, nothing is known of the checkpoint."""
        best = history.best(history.recorded(self._run.path))
        if best is None:
            for file in [
                self._prefix.with_suffix('.index'),
                *self._run.path.glob('best.data-*-of-?????'),
            ]:
                set_aside(file)
            return NONE
        self._write(best)
        return best.mean_top1
