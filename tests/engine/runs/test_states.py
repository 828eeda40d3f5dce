"""A run folder under any order of what happens to it: nothing is lost, and nothing is mixed.

Trainings are those of ``engine.training``, loop, checkpoints and best checkpoint, of one number
that a step maps to another one; what it is after a step, and what any file may hold, is known here.
"""

import contextlib
import json
import shutil
import tempfile
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tensorpack.train.base import TrainLoop

from engine.config.config import Config
from engine.data.sources import FileSource
from engine.errors import UsageError
from engine.evaluation.records import Record, record_folder, write_records
from engine.files import write_json
from engine.runs import checkpoint, history
from engine.runs.folder import checkpoints, open_run
from engine.training import saving
from engine.training.saving import Resume, Save, SaveBest
from engine.training.trainers import ExactLoop
from quant.backend import tf
from tests.engine.runs.test_folder import identity

STEPS = 3
EPOCHS = 4
CONFIG = Config.from_values(data='animals28', steps_per_epoch=STEPS, epochs=EPOCHS)
OTHERS = (
    Config.from_values(data='animals28', steps_per_epoch=STEPS, epochs=EPOCHS, lr=0.5),
    Config.from_values(data='animals28', steps_per_epoch=STEPS, epochs=EPOCHS, qw=2),
    Config.from_values(data='animals28', steps_per_epoch=STEPS, epochs=EPOCHS - 1),
)
IMAGES = identity(FileSource(Path('/images'), [f'{i}.png' for i in range(4)], [0, 1, 0, 1]))
FEWER = identity(FileSource(Path('/images'), [f'{i}.png' for i in range(3)], [0, 1, 0]))
CHECK = partial(checkpoint.read_variables, flag='--logdir')
PRIME = 1009


def number_after(step):
    """The trained number after so many steps."""
    number = 1
    for done in range(step):
        number = (31 * number + done) % PRIME
    return number


def score(step):
    """Its accuracy."""
    return float(number_after(step) % 97)


class Stopped(Exception):
    """The process is gone."""


class Evaluation:
    """Scores the number, and records an epoch last of all; dies before or after the checkpoint."""

    def __init__(self, trainer, folder, saving, dies):
        self.trainer, self.folder, self.saving, self.dies = trainer, folder, saving, dies

    def before_train(self):
        pass

    def after_train(self):
        pass

    def before_epoch(self):
        self.saving[1]._before_epoch()

    def after_epoch(self):
        pass

    def trigger_step(self):
        self.saving[1]._trigger_step()
        self.trainer.left -= 1
        within = self.trainer.local_step < STEPS - 1
        if self.trainer.left <= 0 and self.dies == 'now':
            raise Stopped
        if self.trainer.left <= 0 and self.dies == 'signal' and within:
            self.saving[1].save()
            raise Stopped

    def trigger_epoch(self):
        trainer, last = self.trainer, self.trainer.left <= 0
        trainer.latest = score(trainer.global_step)
        if last and self.dies == 'evaluation':
            raise Stopped
        self.saving[0]._trigger_epoch()
        if last and self.dies == 'before checkpoint':
            raise Stopped
        self.saving[1]._trigger_epoch()
        if last and self.dies == 'before record':
            raise Stopped
        file = self.folder / history.FILE
        rows = json.loads(file.read_text()) if file.exists() else []
        row = {'epoch_num': trainer.epoch_num, 'global_step': trainer.global_step}
        write_json(file, [*rows, {**row, 'val/top1/mean': trainer.latest}])
        if last:
            raise Stopped


class Trainer(ExactLoop):
    """tensorpack's loop, as ours replaces it, around one number."""

    steps_per_epoch = STEPS

    def __init__(self, session, step, folder, run, *, left, dies):
        self.loop, self.sess, self.step, self.left = TrainLoop(), session, step, left
        self.hooked_sess = SimpleNamespace(close=lambda: None)
        self.monitors = SimpleNamespace(get_latest=lambda _: self.latest)
        saving = [SaveBest(run), Save(run)]
        for callback in saving:
            callback.trainer = self
            callback._setup_graph()
        self._callbacks = Evaluation(self, folder, saving, dies)

    def run_step(self):
        self.sess.run(self.step)
        self.loop.update_global_step()

    epoch_num = property(lambda self: self.loop.epoch_num)
    global_step = property(lambda self: self.loop.global_step)
    local_step = property(lambda self: self.loop.local_step)


DEATHS = ('signal', 'now', 'evaluation', 'before checkpoint', 'before record')


class RunFolder(RuleBasedStateMachine):
    """What is done to the folder, and what must hold."""

    def __init__(self):
        super().__init__()
        self.home = Path(tempfile.mkdtemp())
        self.folder = self.home / 'run'
        self.damaged = set()
        self.calibrated = {}

    def teardown(self):
        shutil.rmtree(self.home)

    @property
    def saved(self):
        return checkpoints(self.folder)

    @property
    def recorded(self):
        file = self.folder / history.FILE
        return json.loads(file.read_text()) if file.exists() else []

    @property
    def next_step(self):
        """Where the same command has to go on; None if only broken checkpoints are left."""
        limit = (len(self.recorded) + 1) * STEPS
        usable = [step for step in self.saved if step < limit]
        good = [step for step in usable if step not in self.damaged]
        return max(good, default=None if usable else 0)

    @initialize()
    def start(self):
        open_run(CONFIG, self.folder, None, images=IMAGES)

    @rule(steps=st.integers(1, STEPS * EPOCHS), dies=st.sampled_from(DEATHS))
    def train(self, steps, dies):
        expected = self.next_step
        if expected is None:
            with pytest.raises(UsageError, match='none of its checkpoints can be read'):
                open_run(CONFIG, self.folder, None, images=IMAGES, check=CHECK)
            return
        with contextlib.redirect_stdout(None):
            run = open_run(CONFIG, self.folder, None, images=IMAGES, check=CHECK)
        assert (run.path, run.step) == (self.folder, expected)
        if run.step < STEPS * EPOCHS:
            self._train(run, steps, dies)
        self.damaged &= set(self.saved)
        self.calibrated = {at: sizes for at, sizes in self.calibrated.items() if at in self.saved}

    def _train(self, run, steps, dies):
        before = {step: Path(prefix + '.index').stat() for step, prefix in self.saved.items()}
        with tf.Graph().as_default(), tf.Session() as session:
            number = tf.get_variable('number', initializer=1)
            count = tf.train.get_or_create_global_step()
            after = tf.floormod(31 * number + tf.cast(count, tf.int32), PRIME)
            with tf.control_dependencies([number.assign(after)]):
                step = count.assign_add(1).op
            session.run(tf.global_variables_initializer())
            if run.checkpoint:
                state = Resume(run.checkpoint)
                state._setup_graph()
                state._run_init(session)
            assert session.run([number, count]) == [number_after(run.step), run.step]
            trainer = Trainer(session, step, self.folder, run, left=steps, dies=dies)
            with contextlib.suppress(Stopped):
                trainer.main_loop(STEPS, run.step // STEPS + 1, EPOCHS)
        for step, prefix in self.saved.items():
            if step not in before or Path(prefix + '.index').stat() != before[step]:
                self.damaged.discard(step)

    def _refused(self, **changes):
        contents = self._contents()
        given = {'config': CONFIG, 'images': IMAGES, **changes}
        with pytest.raises(UsageError, match=f'--logdir {self.folder}'):
            open_run(given['config'], self.folder, None, images=given['images'], check=CHECK)
        assert self._contents() == contents

    def _contents(self):
        files = {path: path.stat().st_mtime_ns for path in self.folder.rglob('*')}
        return files, {path: path.read_bytes() for path in files if path.suffix == '.json'}

    @rule(other=st.sampled_from(OTHERS))
    def train_another_configuration(self, other):
        """A shorter training is another one, too."""
        self._refused(config=other)

    @rule()
    def train_on_other_images(self):
        self._refused(images=FEWER)

    @rule(other=st.sampled_from(OTHERS))
    def train_beside(self, other):
        contents = self._contents()
        run = open_run(other, self.folder, 'n', images=IMAGES)
        assert run.path.parent == self.home.resolve() and run.path.name.startswith('run-')
        assert (run.step, self._contents()) == (0, contents)
        shutil.rmtree(run.path)

    @precondition(lambda self: set(self.saved) - self.damaged)
    @rule()
    def evaluate(self):
        step = max(set(self.saved) - self.damaged)
        prefix = self.saved[step]
        source = checkpoint.read(prefix, flag='-ec')
        assert source.values['number'] == number_after(step)
        newest = step == max(self.saved)
        elsewhere = self.home / f'eval-{step}'
        own = record_folder(CONFIG, source, None if newest else elsewhere)
        assert own == (self.folder if newest else elsewhere)
        record = Record('s28', 's28', score(step), 0.0, 1, 0.0, 'animals28', prefix)
        write_records(own, [record])

    @precondition(lambda self: set(self.saved) - self.damaged)
    @rule(size=st.sampled_from([20, 24]), data=st.data())
    def calibrate(self, size, data):
        step = data.draw(st.sampled_from(sorted(set(self.saved) - self.damaged)))
        value = np.full(2, number_after(step))
        checkpoint.write_calibrated(self.saved[step], {f'bn/s{size}': value})
        self.calibrated.setdefault(step, set()).add(size)

    @rule(count=st.integers(1, 4))
    def damage_the_newest_checkpoints(self, count):
        for step in sorted(set(self.saved) - self.damaged)[-count:]:
            file = Path(f'{self.saved[step]}.data-00000-of-00001')
            content = bytearray(file.read_bytes())
            content[len(content) // 2] ^= 1
            file.write_bytes(bytes(content))
            self.damaged.add(step)

    @rule()
    def start_over(self):
        run = open_run(CONFIG, self.folder, 'd', images=IMAGES)
        assert (run.path, run.step, run.checkpoint) == (self.folder, 0, None)
        assert {path.name for path in self.folder.iterdir()} == {'config.json', 'data.json'}
        self.damaged, self.calibrated = set(), {}

    @invariant()
    def checkpoints_hold_the_number_of_their_step(self):
        for step, prefix in self.saved.items():
            if step not in self.damaged:
                assert CHECK(prefix)['number'] == number_after(step)
        best = self.folder / 'best.json'
        if best.exists():
            step = json.loads(best.read_text())['step']
            assert CHECK(str(self.folder / 'best'))['number'] == number_after(step)

    @invariant()
    def history_is_that_of_one_training(self):
        rows = self.recorded
        assert [row['epoch_num'] for row in rows] == list(range(1, len(rows) + 1))
        for row in rows:
            assert row['global_step'] == row['epoch_num'] * STEPS
            assert row['val/top1/mean'] == score(row['global_step'])
        if rows:
            best = json.loads((self.folder / 'best.json').read_text())
            assert best['mean_top1'] >= max(row['val/top1/mean'] for row in rows)

    @invariant()
    def records_are_of_their_checkpoints(self):
        for file in self.folder.glob('eval/*.json'):
            record = json.loads(file.read_text())
            assert record['top1'] == score(int(record['checkpoint'].rpartition('-')[2]))

    @invariant()
    def statistics_stay_with_their_checkpoint(self):
        for step, sizes in self.calibrated.items():
            found = checkpoint.read_calibrated(self.saved[step])
            assert found.keys() == {f'bn/s{size}' for size in sizes}
            assert all((value == number_after(step)).all() for value in found.values())
        beside = {str(file).partition('.calibrated')[0] for file in self.folder.glob('*.npz')}
        assert beside <= set(self.saved.values())


@pytest.mark.parametrize(
    'examples, length', [(30, 15), pytest.param(200, 40, marks=pytest.mark.slow)]
)
def test_any_order(examples, length, monkeypatch):
    monkeypatch.setattr(saving, 'KEPT', 1)
    shown = settings(
        max_examples=examples,
        stateful_step_count=length,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(RunFolder, settings=shown)
