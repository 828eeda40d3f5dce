"""Any number of threads gives the same numbers, to the bit."""

import numpy as np
import pytest

from engine.deployment import native_writer, program
from engine.deployment.native_library import MOST_THREADS
from engine.errors import UsageError
from tests.runtime.programs import Built, check
from tests.runtime.test_whole_numbers import INPUTS, KERNELS, convolved, images_of

# side, inputs, outputs, window, stride, groups: few tiles, so that threads share outputs, which do
# not fill the last block. The last shape has groups, whose outputs are not shared.
SHAPES = [
    (7, 24, 100, 3, 1, 1),
    (5, 40, 65, 3, 1, 1),
    (14, 16, 96, 3, 2, 1),
    (1, 512, 600, 1, 1, 1),
    (7, 32, 128, 3, 1, 2),
]


def add_convolution(built, extents, stride, groups):
    """Appends a convolution in float of the whole image."""
    built.add(
        program.Convolution,
        kernel=built.part(built.rng.normal(size=extents)),
        stride=stride,
        pads=program.same_pads((built.side, built.side), extents[:2], (stride, stride)),
        same=True,
        groups=groups,
    )


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('levels', ['two bits', 'eight bits'])
@pytest.mark.parametrize('threads', [1, 2, 3])
def test_whole_numbers(opened, shape, levels, threads):
    """Sums are stored, and added to what becomes of them."""
    built = convolved(INPUTS['two planes'], KERNELS[levels], shape)
    sums = built.last
    built.add(program.Activation, function='relu')
    built.add(program.Combine, y=sums, function='add')
    check(opened, built, images_of(shape[0]), threads=threads)


@pytest.mark.parametrize('shape', SHAPES)
def test_floats(opened, shape):
    """Sums are rounded in an order that the number of threads does not change."""
    side, inputs, outputs, window, stride, groups = shape
    built = Built(side)
    add_convolution(built, (1, 1, 3, inputs), 1, 1)
    add_convolution(built, (window, window, inputs // groups, outputs), stride, groups)
    images = images_of(side)
    content = native_writer.serialized(built.program(images), {})
    alone, _ = opened(content).run(0, images)
    assert alone.std() > 0
    for threads in (2, 3):
        shared, _ = opened(content, threads).run(0, images)
        np.testing.assert_array_equal(shared, alone)


@pytest.mark.parametrize('count', [0, -1, MOST_THREADS + 1])
def test_counts_of_threads_that_there_cannot_be(opened, count):
    built = convolved(INPUTS['uniform'], KERNELS['two bits'], SHAPES[1])
    content = native_writer.serialized(built.program(images_of(5)), {})
    with pytest.raises(UsageError, match=f'{count} threads: give 1 to {MOST_THREADS}'):
        opened(content, count)
