"""Programs of a few operations, whose every number is an answer."""

import numpy as np

from engine.deployment import interpreter, native_writer, program
from engine.deployment.pool import Constants
from engine.deployment.program import Codes, Floats, Part


class Built:
    """A program in the making: a chain of operations on images.

    Args:
        side: of the images.
        seed: of the numbers.
        channels: of the images.
    """

    def __init__(self, side, seed=0, channels=3):
        self.rng = np.random.default_rng(seed)
        self.constants = Constants()
        self.operations = []
        self.side = side
        self.channels = channels
        self.last = self.add(program.Cast, 'images')

    def part(self, values):
        """A constant of these values."""
        values = np.atleast_1d(np.asarray(values, np.float32))
        name = f'constant{len(self.constants)}'
        self.constants[name] = Floats(values)
        return Part(name, values.shape)

    def coded(self, codes, levels):
        """A kernel by codes; levels [L, channels]."""
        name = f'constant{len(self.constants)}'
        self.constants[name] = Codes(codes.astype(np.uint8), np.asarray(levels, np.float32))
        return Part(name, codes.shape)

    def add(self, kind, x=None, **fields):
        """Appends an operation to what is last, or to x, and gives the name of its result."""
        self.last = f'{kind.__name__}{len(self.operations)}'
        self.operations.append(kind(out=self.last, x=x or self.operations[-1].out, **fields))
        return self.last

    def activation(self, levels, channels, low=0.0, high=255.0):
        """As many channels as asked for by a convolution of one pixel, and a quantizer of them."""
        kernel = self.rng.normal(size=(1, 1, self.channels, channels)).astype(np.float32)
        self.add(
            program.Convolution,
            kernel=self.part(kernel),
            stride=1,
            pads=(0, 0, 0, 0),
            same=False,
            groups=1,
        )
        thresholds = np.sort(self.rng.uniform(-200, 200, len(levels) - 1))
        signed = min(levels) < 0
        return self.add(
            program.Encode,
            thresholds=self.part(thresholds),
            levels=self.part(levels),
            signed=signed,
        )

    def program(self, images):
        """The program whose logits are all numbers of the last result, by the interpreter too."""
        shape = self._shape(images)
        pixels = []
        for row, column in np.ndindex(*shape[1:3]):
            corner = {'start': (row, column, 0), 'stop': (row + 1, column + 1, shape[3])}
            pixels.append(self.add(program.Crop, self.last_result, **corner, step=(1, 1, 1)))
        self.add(program.Concatenate, pixels[0], others=tuple(pixels[1:]))
        self.add(program.ToRows)
        point = program.PointProgram(
            'images', self.side, tuple(self.operations), self.last, channels=self.channels
        )
        return program.Program({'s1': point}, dict(self.constants))

    def _shape(self, images):
        """Of the last result, [N, h, w, c]."""
        self.last_result = self.last
        point = program.PointProgram(
            'images', self.side, tuple(self.operations), self.last, channels=self.channels
        )
        whole = program.Program({'s1': point}, dict(self.constants))
        return interpreter.run(whole, 's1', images[:1]).shape


def check(opened, built, images, exact=True, threads=1):
    """The library gives what the interpreter gives, to the bit or to rounding."""
    whole = built.program(images)
    expected = interpreter.run(whole, 's1', images)
    network = opened(native_writer.serialized(whole, {}), threads)
    found, _ = network.run(0, images)
    assert found.std() > 0
    if exact or network.kernels == 'portable':
        np.testing.assert_array_equal(found, expected)
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * expected.std())
    network.close()
