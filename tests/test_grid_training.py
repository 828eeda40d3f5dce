"""Every quantizer x network x bits that it has: a float run is loaded, quantizers start, training
resumes to the bit, and the end is evaluated and calibrated.

Whatever is registered has its cells without a line here. All of them take most of an hour: the
first ones have every quantizer at all of its bits, with the networks in turn.
"""

import itertools
import json

import numpy as np
import pytest
from tensorpack import Callback

from engine.config.config import Config
from engine.evaluation import calibrate, evaluate
from engine.graph.tower import Model
from engine.graph.worker import SingleWorker
from engine.importers import pytorch
from engine.runs import checkpoint
from engine.runs.checkpoint import METRICS
from engine.runs.folder import Run, open_run
from engine.training import quantizer_starts, starting, train
from quant import pairs
from quant.backend import tf
from quant.quantizer import FLOAT_BITS
from quant.state import Kind
from tests import checkpoints, test_grid
from tests.engine.training.test_sync import few

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('shallow')]

BITS = (4, 3, 2, 1)
HALF, STEPS = 10, 20


PRECISIONS = {'float': {'qw': FLOAT_BITS, 'qa': FLOAT_BITS}, **test_grid.at_bits(BITS)}
CELLS = []
for shift in range(len(test_grid.NETS)):
    for place, precision in enumerate(PRECISIONS):
        net = sorted(test_grid.NETS)[(place + shift) % len(test_grid.NETS)]
        CELLS.append((net, precision))
# Two precisions of one network, in every network, and of every other quantizer that has them, with
# the networks in turn.
PRECISIONS['b4b2'] = test_grid.PRECISIONS['b4b2']
PRECISIONS['nested'] = {**PRECISIONS['b4b2'], 'weight_quantizer': 'lq(nested=True)'}
for net in sorted(test_grid.NETS):
    CELLS += [(net, 'b4b2'), (net, 'nested')]
for net, (name, fields) in zip(
    itertools.cycle(sorted(test_grid.NETS)), test_grid.at_two_precisions().items()
):
    PRECISIONS[name] = fields
    CELLS.append((net, name))
# What quantizers name as possible improvements, with the networks in turn.
for pair, net in zip(pairs.variants((2,)), itertools.cycle(sorted(test_grid.NETS))):
    halves = {'weight_quantizer': pair.weight, 'activation_quantizer': pair.activation}
    PRECISIONS[pair.label] = {'qw': pair.bits, 'qa': pair.bits, **halves}
    CELLS.append((net, pair.label))


def config(net: str, precision: str) -> Config:
    """Of 20 steps in two epochs; of several points, which share what is quantized."""
    fields = {'batch_size': 8, 'steps_per_epoch': HALF, 'epochs': 2, 'lr': 0.01, 'seed': 3}
    if len(test_grid.NETS[net].axes) > 1:
        fields['sizes'] = (16,)
    found = test_grid.small(net, 'sizes', fields | PRECISIONS[precision])
    found.check()
    return found


@pytest.fixture(scope='module')
def floats(tmp_path_factory):
    """Makes run folders of float networks that look trained, one for each form of a network."""
    made = {}

    def of(wanted: Config) -> str:
        plain = wanted.replacing(
            bits=(), qw=FLOAT_BITS, qa=FLOAT_BITS, weight_quantizer='', activation_quantizer=''
        )
        key = plain.net, plain.mode
        if key not in made:
            values = Model(plain, data_format='NHWC').starting_values()
            shapes = {name: value.shape for name, value in values.items()}
            values |= test_grid.numbers(shapes)
            folder = tmp_path_factory.mktemp(plain.net) / 'run'
            pytorch.write(pytorch.Imported(plain, values, []), folder, step=HALF)
            made[key] = str(folder)
        return made[key]

    return of


class Watched(quantizer_starts.StartQuantizers):
    """Starts of quantizers, and what there is before the first step.

    Attributes:
        found: variables by name.
        again: those that start from a batch, started once more from the same one.
        other: the same from a darker batch.
    """

    found: dict = {}
    again: dict = {}
    other: dict = {}

    def _before_train(self):
        super()._before_train()
        session = self.trainer.sess
        values = {v.op.name: v for v in tf.global_variables()}
        Watched.found = session.run(values)
        started = {name: values[name] for name in self._starts}
        batch = self._first_batch()
        Watched.again = self._started_from(batch, started)
        *images, labels = batch
        Watched.other = self._started_from([*(one // 4 for one in images), labels], started)
        for name, value in Watched.found.items():
            if name in started:
                values[name].load(value, session)

    def _started_from(self, batch, variables):
        session, feed = self.trainer.sess, self._feed(batch)
        for op in self._starts.values():
            session.run(op, feed)
        return session.run(variables)


def trained(wanted: Config, run: Run, values) -> dict[str, np.ndarray]:
    """Variables at the end of a training, but averages of metrics."""
    worker = SingleWorker()
    train.train(wanted, few(), run, values=values, data_format='NHWC', threads=0, worker=worker)
    return stored(run.path, STEPS)


def stored(folder, step):
    values = checkpoints.values(folder / f'model-{step}')
    return {name: value for name, value in values.items() if not name.startswith(METRICS)}


@pytest.mark.parametrize('net, precision', CELLS)
def test_training(net, precision, floats, tmp_path, monkeypatch):
    wanted = config(net, precision)
    wanted = wanted.replacing(load=floats(wanted))
    loaded = starting.starting_values(wanted)
    variables, _ = Model(wanted, data_format='NHWC').inspect()
    monkeypatch.setattr(train, 'StartQuantizers', Watched)
    run = open_run(wanted, tmp_path / 'run', None)
    end = trained(wanted, run, loaded)
    check_starts(variables, loaded)
    check_learned(variables, stored(run.path, HALF), end)
    resumed = tmp_path / 'resumed'
    open_run(wanted, resumed, None)
    for name in ('Evaluate', 'SaveBest'):
        monkeypatch.setattr(train, name, lambda *_, **__: Callback())
    half = Run(resumed, str(run.path / f'model-{HALF}'), HALF)
    again = trained(wanted, half, None)
    assert again.keys() == end.keys()
    assert [name for name in end if not np.array_equal(end[name], again[name])] == []
    check_evaluation(wanted, run)


def check_starts(variables, loaded):
    """What was loaded is there; what is quantized has started from it, and from the first batch."""
    for name, value in loaded.items():
        np.testing.assert_array_equal(Watched.found[name], value)
    quantizers = {name for name, state in variables.items() if state.kind is Kind.QUANTIZER}
    assert quantizers.isdisjoint(loaded)
    assert all(np.isfinite(Watched.found[name]).all() for name in quantizers)
    assert Watched.again.keys() <= quantizers
    for name, value in Watched.again.items():
        np.testing.assert_array_equal(value, Watched.found[name], err_msg=name)
    moved = [name for name, value in Watched.other.items() if np.any(value != Watched.found[name])]
    assert bool(moved) == bool(Watched.other)


def check_learned(variables, half, end):
    """All is finite, and of all that is learned something got a gradient, or a refit.

    The offset of a layer in which nothing is clipped, say, has a gradient of zero.
    """
    assert [name for name, value in end.items() if not np.isfinite(value).all()] == []
    for step in (half, end):
        learned, reached = set(), set()
        for name, state in variables.items():
            kind = name.rpartition('/')[2], 'weight_quant' in name
            for slot in (f'{name}/Momentum', f'{name}/biased'):
                if state.kind is Kind.QUANTIZER and slot in step:
                    learned.add(kind)
                    if step[slot].any():
                        reached.add(kind)
        assert learned == reached


def check_evaluation(wanted, run):
    """Points have a record each; calibration gives all statistics, with which they are scored."""
    model = Model(wanted, data_format='NHWC')
    for point in model.net.points:
        record = json.loads((run.path / 'eval' / f'{point}.json').read_text())
        assert 0 <= record['top1'] <= 100
    source = checkpoint.read(str(run.path / f'model-{STEPS}'), flag='RUN')
    narrow = wanted.replacing(load=None)
    found = calibrate.calibrate(narrow, source, few(), images=8, average='pooled', threads=0)
    changed = found.keys() & source.values.keys()
    assert {name.rpartition('/')[2] for name in changed} == {'EMA'}
    (scored,) = evaluate.evaluate(model, source.values | found, few(), threads=0)
    assert scored.correct.shape == (len(model.names), 2)
    assert np.isfinite(scored.correct).all()
