"""A fresh graph for every test that can need one, and one way to evaluate it.

Other tests never load TensorFlow.
"""

import dataclasses
import gc
import os
import sys

import numpy as np
import pytest

from engine.entry import quiet, with_onednn, without_reports
from engine.loading import uncollected, without_keras

without_keras()
with_onednn()
quiet()
without_reports()


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Nobody looks for garbage among what stays, modules most of all, and seldom among the rest."""
    with uncollected():
        collected = yield
        gc.freeze()
    gc.set_threshold(20_000)
    return collected


@pytest.fixture(autouse=True)
def same_numbers(request):
    """Every test draws the same numbers from its module's ``RNG``, whichever tests ran before."""
    if rng := getattr(request.module, 'RNG', None):
        rng.bit_generator.state = np.random.default_rng(0).bit_generator.state


@pytest.fixture(scope='session', autouse=True)
def one_thread():
    """Operations of one thread, as there is a process of tests for every core.

    The first session of a process decides, and with it which test comes first: the order of sums
    would follow from that.
    """
    from quant import backend

    backend.pool(1)


@pytest.fixture
def threads_of_sessions(monkeypatch):
    """Threads of an operation that each session from now on asks for; 0 leaves the number open."""
    from quant.backend import tf

    asked = []
    start = tf.Session.__init__

    def started(self, target='', graph=None, config=None):
        said = config or tf.ConfigProto()
        asked.append(said.intra_op_parallelism_threads)
        start(self, target, graph, config)

    monkeypatch.setattr(tf.Session, '__init__', started)
    return asked


@pytest.fixture(scope='session', autouse=True)
def graphs_as_they_are_built(request):
    """Sessions of quick tests run graphs as these are built; those of proofs as users' sessions do.

    TensorFlow rewrites a graph before it first runs, which takes longer than the few steps of a
    quick test. And it keeps with every operation where that was made, a sixth of the time that
    building takes below all that pytest calls: errors of a quick test name one place for all.
    """
    if request.config.option.markexpr != 'not slow':
        yield
        return
    from tensorflow.python.util import tf_stack

    from quant.backend import tf

    start = tf.Session.__init__

    def started(self, target='', graph=None, config=None):
        own = tf.ConfigProto()
        own.CopyFrom(config or own)
        own.graph_options.rewrite_options.disable_meta_optimizer = True
        start(self, target, graph, own)

    here = tf_stack.extract_stack()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tf.Session, '__init__', started)
        patch.setattr(tf_stack, 'extract_stack', lambda stacklevel=1: here)
        yield


@pytest.fixture(scope='session', autouse=True)
def networks_are_inspected_once():
    """What is only looked at is built once for a configuration, see ``tests.inspected``.

    Commands and fixtures ask for the same few networks again and again, and building one takes
    longer than running it.
    """
    from engine.graph.inference import InferenceModel
    from tests import inspected

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(InferenceModel, 'inspect', inspected.inspect)
        patch.setattr(InferenceModel, 'starting_values', inspected.starting_values)
        yield


@pytest.fixture(scope='session')
def compiled_library(tmp_path_factory):
    """The library that runs .lqn files, one for all processes; None without a C compiler."""
    from engine.deployment import native_build, native_library

    if native_build.compiler() is None:
        return None
    folder = tmp_path_factory.getbasetemp()
    if 'PYTEST_XDIST_WORKER' in os.environ:
        folder = folder.parent
    made = folder / native_library.path().name
    return made if made.exists() else native_build.build(made)


@pytest.fixture
def no_garbage():
    """No collection of garbage, whose callbacks swallow what a signal raises in them."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture(autouse=True)
def fresh_graph():
    """An empty default graph with a fixed seed, where a loaded module has brought TensorFlow in."""
    if 'quant.backend' not in sys.modules:
        yield
        return
    from quant.backend import new_graph, tf

    with new_graph():
        tf.set_random_seed(1)
        yield


class Runner:
    """One session of the current graph; variables are initialised when they are first needed."""

    def __init__(self):
        from quant.backend import tf

        self._tf, self._known = tf, set()
        config = tf.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=2)
        # As in ``graphs_as_they_are_built``, in proofs, too.
        config.graph_options.rewrite_options.disable_meta_optimizer = True
        self.session = tf.Session(config=config)

    def __call__(self, fetches, feed=None):
        new = [v for v in self._tf.global_variables() if v.ref() not in self._known]
        self._known.update(v.ref() for v in new)
        self.session.run([v.initializer for v in new])
        return self.session.run(fetches, feed)


@pytest.fixture
def run():
    """``run(fetches, feed)``: numpy values of tensors of the default graph.

    The state stays for the next call.
    """
    runner = Runner()
    with runner.session:
        yield runner


def bare_blocks(points):
    """Blocks without normalisation and activation: records of a deep network in little time."""
    from nets.layers.blocks import Blocks
    from quant import Policy

    class Bare(Blocks):
        def norm(self, name, x, **_):
            return x

        act = norm

    return Bare(Policy(), points, training=False)


def make_shallow(patch: pytest.MonkeyPatch) -> None:
    """One layer per stage, and one stage less that has no width to choose."""
    from nets.backbones import resnet, slimmable

    form = slimmable.MOBILENETS['mobilenetv1_small']
    stages = tuple(stage._replace(layers=1) for stage in form.stages[2:])
    patch.setitem(slimmable.MOBILENETS, 'mobilenetv1_small', slimmable.Form(form.stem, stages))
    patch.setitem(resnet.FORMS, 'resnet8', resnet.Form((1, 1), small=True))


@pytest.fixture
def shallow(monkeypatch):
    """Networks of few layers, see ``make_shallow``."""
    make_shallow(monkeypatch)


@pytest.fixture(scope='module')
def shallow_module():
    """Networks of few layers for all tests of a file, and its fixtures."""
    with pytest.MonkeyPatch.context() as patch:
        make_shallow(patch)
        yield


@pytest.fixture(scope='module')
def short_slimmable():
    """Three layers of the slimmable network: a narrow stage and both slimmable ones."""
    from nets.backbones import slimmable

    small = slimmable.MOBILENETS['mobilenetv1_small']
    stages = tuple(stage._replace(layers=1) for stage in small.stages[2:])
    form = slimmable.Form(slimmable.Stage((16, 24), 1, 2), stages)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(slimmable.MOBILENETS, 'mobilenetv1_small', form)
        yield


@pytest.fixture(scope='module')
def few_validation_images():
    """Every 50th validation image of the embedded set alone, 40 in all."""
    from engine.data import datasets
    from engine.data.sources import ArraySource

    whole = datasets.open_dataset

    def part(*args, **kwargs):
        dataset = whole(*args, **kwargs)
        if dataset.name != 'animals28':
            return dataset
        every = np.arange(0, len(dataset.val), 50)
        images = np.stack([dataset.val.read(i) for i in every])
        val = ArraySource(images, dataset.val.labels[every])
        return dataclasses.replace(dataset, val=val)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, 'open_dataset', part)
        yield
