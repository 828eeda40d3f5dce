"""Kernels for NEON on emulated processors: many networks in one process.

All tests of this folder run there one by one, too: those are slow.
"""

import numpy as np
import pytest

from engine.deployment import interpreter, native_writer
from tests.runtime import emulated
from tests.runtime.test_whole_numbers import INPUTS, KERNELS, SHAPES, convolved, images_of

# Tables of one and two planes, sums of bytes of both signs, tails of outputs and of inputs.
CASES = [
    *[(inputs, 'two bits, uniform', SHAPES[3]) for inputs in INPUTS],
    *[('uniform', kernel, SHAPES[3]) for kernel in KERNELS],
    *[('two planes', kernel, SHAPES[0]) for kernel in ('one bit', 'two bits of any size')],
    *[('eight bits', 'eight bits', shape) for shape in SHAPES],
    *[('eight bits of both signs', 'eight bits', shape) for shape in SHAPES],
    *[('uniform', 'one bit', shape) for shape in SHAPES],
]
COUNT = 2


@pytest.fixture(scope='module')
def program(tmp_path_factory):
    """Compiled in a third of the time that the library takes."""
    emulated.skip_without()
    return emulated.build(tmp_path_factory.mktemp('program') / 'answer', ('-O1',))


@pytest.fixture(scope='module')
def networks(tmp_path_factory):
    """Files of networks and of images, where answers go, and those of the interpreter."""
    folder = tmp_path_factory.mktemp('networks')
    found = []
    for number, (inputs, kernel, shape) in enumerate(CASES):
        images = images_of(shape[0], count=COUNT)
        whole = convolved(INPUTS[inputs], KERNELS[kernel], shape, seed=number).program(images)
        paths = [folder / f'{number}{ending}' for ending in ('.lqn', '.images', '.answers')]
        paths[0].write_bytes(native_writer.serialized(whole, {}))
        paths[1].write_bytes(images.tobytes())
        found.append((paths, interpreter.run(whole, 's1', images)))
    return found


@pytest.mark.parametrize('kernels', ['neon', 'neon-dot', 'portable'])
def test_convolutions_of_whole_numbers(program, networks, kernels):
    """Equal to the bit, with the kernels that the processor's program chooses itself."""
    processor = emulated.PROCESSORS.get(kernels, 'max')
    forced = 'portable' if kernels == 'portable' else ''
    arguments = [0, 1, COUNT, *[path for paths, _ in networks for path in paths]]
    names = emulated.answers(program, processor, arguments, forced)
    assert names == [kernels] * len(networks)
    for case, (paths, expected) in zip(CASES, networks, strict=True):
        found = np.frombuffer(paths[2].read_bytes(), np.float32).reshape(expected.shape)
        np.testing.assert_array_equal(found, expected, err_msg=str(case))
        assert found.std() > 0


def test_dot_products_are_refused_where_there_are_none(program, networks):
    arguments = [0, 1, COUNT, *networks[0][0]]
    with pytest.raises(AssertionError, match='this machine has no such kernels'):
        emulated.answers(program, emulated.PROCESSORS['neon'], arguments, 'neon-dot')
