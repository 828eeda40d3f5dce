"""A program by hand that has every operation, at two precisions with one set of codes."""

import numpy as np

from engine.deployment import program
from engine.deployment.choices import Choose, Confident, Largest, Number, Probabilities, chosen
from engine.deployment.coding import coded
from engine.deployment.program import Codes, Floats, Part, PointProgram

SIDE, VIEW, CLASSES = 9, 4, 5
NO_PADS = (0, 0, 0, 0)


class Making:
    """A point in the making.

    Args:
        constants: pool of the program.
        rng: of numbers.
    """

    def __init__(self, constants, rng):
        self.operations = []
        self.constants = constants
        self._rng = rng

    def add(self, operation):
        """The name of the result of an operation."""
        self.operations.append(operation)
        return operation.out

    def part(self, name, value):
        """A constant, which is added if there is none of the name."""
        value = np.asarray(value, np.float32)
        self.constants.setdefault(name, Floats(value))
        return Part(name, value.shape)

    def numbers(self, name, *shape):
        """A constant of random numbers."""
        return self.part(name, self._rng.uniform(0.5, 2, shape))


def shares(rows, columns):
    """Means over areas, mostly zero."""
    found = np.zeros([rows, columns], np.float32)
    for row in range(rows):
        start = row * columns // rows
        found[row, start : start + 2] = 0.5
    return found


def nested_kernels(rng, shape, bits):
    """Whole numbers of several precisions, by bits: codes of few are leading bits of many."""
    most = max(bits)
    codes = rng.integers(2**most, size=shape).astype(np.uint8)
    found = {}
    for count in bits:
        steps = np.arange(2**count) * 2 - 2**count + 1
        table = steps[:, None] * rng.integers(1, 4, size=shape[-1])  # [L, C]
        kernel = table.astype(np.float32)[codes >> most - count, np.arange(shape[-1])]
        found[count] = coded(kernel)
        assert isinstance(found[count], Codes)
    return found


def everything(bits=(4, 2), seed=0):
    """The program: points ``s9-b4`` and ``s9-b2``, or others of these bits."""
    rng = np.random.default_rng(seed)
    constants = {}
    for count, kernel in nested_kernels(rng, (3, 3, 6, 12), bits).items():
        constants[f'kernel{count}'] = kernel
    for count, kernel in nested_kernels(rng, (64, CLASSES), bits).items():
        constants[f'head{count}'] = kernel
    constants['depthwise'] = coded(rng.choice(np.float32([-1, 0, 1]), size=(3, 3, 1, 12)))
    constants['wide'] = Floats(rng.normal(size=(2, 2, 3, 8)).astype(np.float32))
    points = {}
    for count in bits:
        points[f's{SIDE}-b{count}'] = _point(Making(constants, rng), count)
    return program.with_points(points, constants)


def _point(made, bits):
    """A point with every operation."""
    add, part, numbers = made.add, made.part, made.numbers
    x = add(program.Cast('cast', 'images'))
    x = add(program.Flip('flip', x))
    x = add(program.Arithmetic('scaled', x, 'divide', part('255', [255])))
    x = add(program.Arithmetic('centred', x, 'subtract', part('mean', [0.4, 0.5, 0.6])))
    x = add(program.Resize('resized', x, part('shares', shares(8, SIDE))))
    wide = Part('wide', (2, 2, 3, 6))
    x = add(program.Convolution('stem', x, wide, 1, (0, 1, 1, 0), False, 1))
    x = add(program.Affine('norm', x, numbers('scale', 6), numbers('shift', 6)))
    x = add(program.Activation('relu6', x, 'relu6'))
    steps = part('steps', np.arange(1, 4) / 2)
    q = add(program.Encode('codes', x, steps, part('four', np.arange(4)), False))
    kernel = Part(f'kernel{bits}', (3, 3, 6, 12))
    pads = program.same_pads((8, 8), (3, 3), (2, 2))
    x = add(program.IntegerConvolution('body', q, kernel, 2, pads, True, 1))
    x = add(program.Affine('body/norm', x, numbers(f'scale{bits}', 12), numbers('shift12', 12)))
    y = add(program.Activation('relu', x, 'relu'))
    levels = part('levels', [-1, -0.25, 0, 1.5])
    y = add(program.Quantize('quantized', y, part('thresholds', [0.5, 20, 90]), levels))
    depthwise = Part('depthwise', (3, 3, 1, 12))
    y = add(program.Convolution('depthwise', y, depthwise, 1, (1, 1, 1, 1), False, 12))
    x = add(program.Combine('sum', x, y, 'add'))
    gate = add(program.GlobalPool('means', x))
    gate = add(program.Activation('gate', gate, 'sigmoid'))
    x = add(program.Combine('gated', x, gate, 'multiply'))
    shortcut = add(program.Crop('shortcut', 'quantized', (0, 0, 0), (4, 4, 12), (2, 2, 1)))
    shortcut = add(program.Pad('padded', shortcut, (1, 1, 1, 1), 4))
    x = add(program.Concatenate('joined', x, (shortcut, 'depthwise')))
    x = add(program.Pool('average', x, 'average', (3, 3), (2, 2), (1, 0, 1, 0), False))
    signed = part('signed', [-8, -1, 2, 127])
    x = add(program.Encode('codes2', x, part('thresholds2', [-1, 0, 3]), signed, True))
    pads = program.same_pads((2, 2), (3, 3), (2, 2))
    x = add(program.Pool('largest', x, 'max', (3, 3), (2, 2), pads, True))
    rows = add(program.ToRows('rows', add(program.Crop('c', x, (0, 0, 0), (1, 1, 28), (1, 1, 1)))))
    early = add(program.IntegerDense('early', rows, Part(f'head{bits}', (28, CLASSES))))
    sure = add(program.Arithmetic('cooler', early, 'multiply', part('cooler', [0.001])))
    sure = add(Probabilities('sure', sure))
    sure = add(program.Activation('log', sure, 'log'))
    confident = add(Confident('confident', sure, 0, part('threshold', [-0.8602])))
    add(program.Cast('small', 'images_4'))
    small = add(program.GlobalPool('small/mean', 'small'))
    small = add(program.ToImages('again', add(program.ToRows('small/rows', small))))
    small = add(program.ToRows('small/again', small))
    late = add(program.Dense('late', small, numbers('late/kernel', 3, CLASSES)))
    add(Largest('best', late))
    zero, one = add(Number('zero', early, 0)), add(Number('one', early, 1))
    answer = add(Choose('answer', confident, ((late, one), (early, zero)), ('told',)))
    told = (chosen(made.operations, 'exit', 'told'),)
    operations = tuple(made.operations)
    return PointProgram('images', SIDE, operations, answer, told, 3, (('images_4', VIEW),))


def images(count=3, seed=1):
    """Images of both inputs, dark ones and bright ones."""
    rng = np.random.default_rng(seed)
    found = []
    for side in (SIDE, VIEW):
        shape = (count, side, side, 3)
        brightest = rng.integers(2, 256, size=(count, 1, 1, 1))
        found.append(rng.integers(brightest, size=shape, dtype=np.uint8))
    return found


def operations(whole):
    """All kinds of operations."""
    return {type(one) for point in whole.points.values() for one in point.operations}
