"""How a stream of batches ends: after the last step, or by a failure that is kept and not lost."""

import numpy as np
import pytest
from tensorpack import DataFlow
from tensorpack.dataflow.base import DataFlowTerminated

from engine.errors import UsageError
from engine.graph.loaders import KeepsError


class Failing(DataFlow):
    """Batches 0, 1, ... and an exception in place of one of them."""

    def __init__(self, failing: int, error: BaseException):
        self.failing = failing
        self.error = error

    def __iter__(self):
        for number in range(100):
            if number == self.failing:
                raise self.error
            yield [np.array([number])]


@pytest.mark.parametrize(
    'error', [ValueError('a fault'), UsageError('bad data'), MemoryError(), KeyboardInterrupt()]
)
def test_what_stops_the_batches_is_kept(error):
    flow = KeepsError(Failing(3, error), 10)
    seen = []
    with pytest.raises(DataFlowTerminated):
        for batch in flow:
            seen.append(int(batch[0][0]))
    assert (seen, flow.error) == ([0, 1, 2], error)


@pytest.mark.parametrize('ahead', [0, 1, 2])
def test_what_no_step_needs_is_not_read(ahead):
    """What several towers fetch ahead is there, though."""
    flow = KeepsError(Failing(10, ValueError('nobody asked for it')), 10, ahead)
    seen = []
    with pytest.raises(DataFlowTerminated):
        for batch in flow:
            seen.append(int(batch[0][0]))
    assert (seen, flow.error) == ([*range(10), *ahead * [9]], None)
