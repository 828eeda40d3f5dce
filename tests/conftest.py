"""A fresh graph for every test that can need one, and one way to evaluate it.

Other tests never load TensorFlow.
"""

import sys

import numpy as np
import pytest

from engine.entry import quiet

quiet()


@pytest.fixture(autouse=True)
def same_numbers(request):
    """Every test draws the same numbers from its module's ``RNG``, whichever tests this process ran before."""
    if rng := getattr(request.module, 'RNG', None):
        rng.bit_generator.state = np.random.default_rng(0).bit_generator.state


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
        # Rewriting a graph that runs once takes longer than running it.
        config.graph_options.rewrite_options.disable_meta_optimizer = True
        self.session = tf.Session(config=config)

    def __call__(self, fetches, feed=None):
        new = [v for v in self._tf.global_variables() if v.ref() not in self._known]
        self._known.update(v.ref() for v in new)
        self.session.run([v.initializer for v in new])
        return self.session.run(fetches, feed)


@pytest.fixture
def run():
    """``run(fetches, feed)``: numpy values of tensors of the default graph; the state stays for the next call."""
    runner = Runner()
    with runner.session:
        yield runner


def bare_blocks(points):
    """Blocks that leave normalisation and activation out: shapes and records of a deep network in little time."""
    from nets.layers.blocks import Blocks
    from quant import Policy

    class Bare(Blocks):
        def norm(self, name, x, **_):
            return x

        act = norm

    return Bare(Policy(), points, training=False)
