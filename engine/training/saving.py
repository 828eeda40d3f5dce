"""Checkpoints of a training: complete or absent whenever the process dies, and few enough to keep."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tensorpack import Callback
from tensorpack.tfutils.sessinit import SessionInit

from engine.errors import UsageError, reason
from engine.runs.checkpoint import METRICS, Restore
from engine.runs.folder import Run, checkpoints, write_json
from quant.backend import tf

# Of the checkpoints at the ends of epochs the last ones stay, and of those before them one per so many seconds.
KEPT = 10
SPACING = 1800

# Start of the names of files that are being written.
TEMPORARY = '.saving.'


def state() -> list[tf.Variable]:
    """All that a training carries from step to step, the moving averages of its metrics included."""
    return tf.global_variables() + [
        variable for variable in tf.local_variables() if variable.op.name.startswith(METRICS)
    ]


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
        known = tf.train.load_checkpoint(self._prefix).get_variable_to_shape_map()
        self._saver = tf.train.Saver(
            [variable for variable in state() if variable.op.name in known], name='resume'
        )

    def _run_init(self, sess: tf.Session) -> None:
        self._saver.restore(sess, self._prefix)


def write(saver: tf.train.Saver, session: tf.Session, prefix: Path) -> None:
    """Saves a checkpoint: its index, without which it is none, appears when everything else is in place.

    Raises:
        UsageError: it cannot be written.
    """
    temporary = prefix.with_name(f'{TEMPORARY}{prefix.name}')
    try:
        saver.save(session, str(temporary), write_meta_graph=False, write_state=False)
        files = sorted(temporary.parent.glob(f'{temporary.name}.*'))
        for file in files:
            with file.open('rb') as stream:
                os.fsync(stream.fileno())
        Path(f'{prefix}.index').unlink(missing_ok=True)
        for file in files:  # .data-..., then .index
            os.replace(file, file.with_name(file.name.removeprefix(TEMPORARY)))
    except (OSError, ValueError, tf.errors.OpError) as error:  # ValueError: the folder is gone
        raise UsageError(
            f'--logdir {prefix.parent}: checkpoint {prefix.name} cannot be written '
            f'({reason(error)}); older ones are kept, and the same command resumes from '
            'them'
        ) from error
    finally:
        for left in prefix.parent.glob(f'{TEMPORARY}*'):
            shutil.rmtree(left) if left.is_dir() else left.unlink()


def outdated(saved: Mapping[int, float], steps_per_epoch: int, step: int) -> list[int]:
    """Steps of checkpoints that can go, of those with these times in seconds, once the epoch of ``step`` goes on.

    A checkpoint within an epoch is needed until that epoch is over.
    """
    epochs = [at for at in saved if at % steps_per_epoch == 0]
    within = [
        at
        for at in saved
        if at % steps_per_epoch and at < step // steps_per_epoch * steps_per_epoch
    ]
    last, gone = -float(SPACING), []
    for at in epochs[:-KEPT]:
        if saved[at] - last < SPACING:
            gone.append(at)
        else:
            last = saved[at]
    return within + gone


def one_step_left(callback: Callback) -> bool:
    """Whether the step that has just run is the last but one of its epoch, after which ``Save`` writes."""
    return callback.local_step == callback.trainer.steps_per_epoch - 2


class Save(Callback):
    """Saves ``model-<step>`` at the end of every epoch, and deletes what is outdated when the next one starts.

    Also before the last step of an epoch: if the evaluation is killed or finds a bad file, that step alone is run
    again, which brings back all that an epoch records.
    """

    def __init__(self, run: Run):
        self._path = run.path

    def _setup_graph(self) -> None:
        self._saver = tf.train.Saver(state(), max_to_keep=None)

    def save(self) -> None:
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
        times = {step: Path(f'{prefix}.index').stat().st_mtime for step, prefix in found.items()}
        for step in outdated(times, self.trainer.steps_per_epoch, self.global_step):
            Path(f'{found[step]}.index').unlink()
            for file in self._path.glob(f'model-{step}.*'):
                file.unlink()


class SaveBest(Callback):
    """Keeps the checkpoint with the highest mean top-1 over the points as ``best``, described by ``best.json``.

    A process that dies between the two runs the epoch again when it is resumed, and then finds it best again.
    """

    def __init__(self, run: Run):
        self._file, self._prefix = run.path / 'best.json', run.path / 'best'

    def _setup_graph(self) -> None:
        self._saver = tf.train.Saver(max_to_keep=None)

    def _trigger_epoch(self) -> None:
        score_now = self.trainer.monitors.get_latest('val/mean/top1')
        known = self._file.exists() and Path(f'{self._prefix}.index').exists()
        best = json.loads(self._file.read_text()) if known else {'mean_top1': -1.0}
        if score_now <= best['mean_top1']:
            return
        write(self._saver, self.trainer.sess, self._prefix)
        write_json(
            self._file, {'mean_top1': score_now, 'step': self.global_step, 'epoch': self.epoch_num}
        )
