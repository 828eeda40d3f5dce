"""StartQuantizers: what a first batch may hold."""

from types import SimpleNamespace

import numpy as np
import pytest

from engine.errors import UsageError
from engine.graph.worker import SingleWorker
from engine.training.quantizer_starts import StartQuantizers
from quant.backend import tf
from tests.quant.test_every_quantizer import specs
from tests.quant.towers import activate, quantization


@pytest.mark.parametrize('bad', [pytest.param(np.nan, marks=pytest.mark.slow), np.inf])
@pytest.mark.parametrize('spec', specs('activation'))
def test_a_batch_that_is_not_finite(spec, bad, run):
    """It is an error of every quantizer that starts from one, which names the variable."""
    q = quantization(spec, half='activation')
    x = tf.placeholder(tf.float32, [2, 3])
    activate(q, x, relu=False)
    model = SimpleNamespace(
        worker=SingleWorker(),
        towers=[SimpleNamespace(quantization=q)],
        net=SimpleNamespace(teacher_pairs=list),
        batches=[[x]],
    )
    batch = np.float32([[0.1, 0.9, 0.4], [0.5, bad, 0.3]])
    callback = StartQuantizers(model, lambda: [batch], {})
    callback._setup_graph()
    run([])
    callback.trainer = SimpleNamespace(sess=run.session)
    if not q.starts:
        callback._before_train()
        return
    with pytest.raises(UsageError, match=r'^quant1/\w+: cannot start.*NaN or infinite.*--load'):
        callback._before_train()
