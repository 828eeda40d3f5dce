"""Kernels divided by the largest level of each channel, which what is behind multiplies."""

import dataclasses

import numpy as np
import pytest

from engine.deployment import interpreter, onnx_file, program
from engine.deployment.joining import joint
from engine.deployment.pool import Constants
from engine.deployment.program import Codes
from engine.deployment.runtimes import RUNTIMES, load
from engine.deployment.unit_levels import with_unit_levels

RNG = np.random.default_rng(11)
IMAGES = RNG.integers(256, size=(3, 4, 4, 3), dtype=np.uint8)
UPPER = np.float32([[0.25, 0.5, 0.125, 3, 0.75], [0.5, 1.5, 7, 8, 0.8]])


def network(levels, behind, *, twice=False):
    """A program of two points with one kernel of codes [3, 3, 3, 5].

    Args:
        levels: of the kernel, [L, 5].
        behind: function (vector) -> operations that read ``conv`` and end in ``out``, where
            ``vector()`` is a new part of five numbers.
        twice: whether another convolution has the kernel too.
    """
    constants = Constants()
    codes = RNG.integers(len(levels), size=(3, 3, 3, 5), dtype=np.uint8)
    constants['kernel'] = Codes(codes, levels)
    kernel = program.Part('kernel', codes.shape)
    points = {}
    for number in range(2):

        def vector():
            return constants.add(RNG.normal(size=5), 'vector')

        windows = (kernel, 1, (1, 1, 1, 1), False, 1)
        operations = [
            program.Cast('cast', 'images'),
            program.Convolution('conv', 'cast', *windows),
            *behind(vector),
        ]
        pooled = 'out'
        if twice:
            operations.append(program.Convolution('other', 'cast', *windows))
            operations.append(program.Combine('both', 'out', 'other', 'add'))
            pooled = 'both'
        operations.append(program.GlobalPool('pool', pooled))
        operations.append(program.ToRows('rows', 'pool'))
        head = constants.add(np.eye(5), 'head')
        operations.append(program.Dense('logits', 'rows', head))
        points[f's{number}'] = program.PointProgram('images', 4, tuple(operations), 'logits')
    return program.Program(points, dict(constants))


def affine(vector):
    return [program.Affine('out', 'conv', vector(), vector())]


def factors(vector):
    return [program.Arithmetic('out', 'conv', 'multiply', vector())]


def rectified(vector):
    relu = program.Activation('relu', 'conv', 'relu')
    return [relu, program.Affine('out', 'relu', vector(), vector())]


def bias(vector):
    return [program.Arithmetic('out', 'conv', 'add', vector())]


def levels_of_both_signs(upper):
    return np.concatenate([-upper[::-1], upper])


def kernel_of(found):
    for row in found.rows:
        if isinstance(row[0], program.Convolution):
            return found.constants[row[0].kernel.name]
    raise AssertionError


@pytest.mark.parametrize('behind', [affine, factors])
@pytest.mark.parametrize('upper', [UPPER, UPPER[1:]], ids=['two bits', 'one bit'])
def test_the_largest_level_is_one(behind, upper):
    levels = levels_of_both_signs(upper)
    whole = network(levels, behind)
    found = with_unit_levels(joint(whole))
    kernel = kernel_of(found)
    np.testing.assert_array_equal(kernel.levels, levels / levels[-1])
    np.testing.assert_array_equal(np.abs(kernel.levels[[0, -1]]), 1)
    for place, (name, point) in enumerate(whole.points.items()):
        operations = tuple(row[place] for row in found.rows)
        one = dataclasses.replace(point, operations=operations, output=found.output)
        after = interpreter.run(program.Program({name: one}, found.constants), name, IMAGES)
        before = interpreter.run(whole, name, IMAGES)
        np.testing.assert_allclose(after, before, rtol=0, atol=1e-6 * np.abs(before).max())


@pytest.mark.parametrize(
    'levels, behind, twice',
    [
        (levels_of_both_signs(UPPER), rectified, False),
        (levels_of_both_signs(UPPER), bias, False),
        (levels_of_both_signs(UPPER), affine, True),
        (np.concatenate([-UPPER[::-1], 2 * UPPER]), affine, False),
        (levels_of_both_signs(UPPER * [1, 1, 0, 1, 1]).astype(np.float32), affine, False),
    ],
    ids=['activation', 'bias', 'read twice', 'other levels', 'a channel of zeros'],
)
def test_other_kernels_stay_as_they_are(levels, behind, twice):
    before = joint(network(levels, behind, twice=twice))
    after = with_unit_levels(before)
    assert after.rows == before.rows


@pytest.mark.parametrize('runtime', RUNTIMES)
def test_levels_of_one_are_not_stored(runtime, tmp_path):
    """Of two bits a channel has one number, and every weight comes back."""
    whole = network(levels_of_both_signs(UPPER), affine)
    path = tmp_path / 'a.onnx'
    onnx_file.save(whole, path, {}, packed=True)
    loaded = load(runtime, path.read_bytes(), 'a.onnx', threads=1)
    assert len(loaded.texts) == 0
    stored = [one for one in onnx_file.onnx.load(path).graph.initializer if one.dims == [5, 1]]
    assert len(stored) == 1
    for number, point in enumerate(whole.points):
        expected = interpreter.run(whole, point, IMAGES)
        found = loaded.at(number, 4)(IMAGES)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max())
