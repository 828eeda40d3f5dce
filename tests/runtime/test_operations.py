"""Every operation but convolutions of whole numbers: what the interpreter gives."""

import numpy as np
import pytest

from engine.deployment import choices, interpreter, native_writer, program
from tests.runtime.programs import Built, check

SIDE = 7
IMAGES = np.random.default_rng(4).integers(256, size=(3, SIDE, SIDE, 3), dtype=np.uint8)


def built_with(kind, **fields):
    built = Built(SIDE)
    built.add(kind, **fields)
    return built


@pytest.mark.parametrize('function', ['add', 'subtract', 'multiply', 'divide'])
@pytest.mark.parametrize('count', [1, 3])
def test_arithmetic(opened, function, count):
    built = Built(SIDE)
    numbers = built.rng.normal(size=count) * 100
    built.add(program.Arithmetic, function=function, y=built.part(numbers))
    check(opened, built, IMAGES)


@pytest.mark.parametrize('count', [1, 3])
def test_affine_functions_round_twice(opened, count):
    built = Built(SIDE)
    scale, shift = built.rng.normal(size=(2, count))
    built.add(program.Affine, scale=built.part(scale), shift=built.part(shift * 100))
    check(opened, built, IMAGES)


@pytest.mark.parametrize('function', ['relu', 'relu6', 'sigmoid', 'log'])
def test_activations(opened, function):
    built = Built(SIDE)
    for step, number in (('subtract', 100), ('multiply', 0.3)):
        built.add(program.Arithmetic, function=step, y=built.part(number))
    built.add(program.Activation, function=function)
    check(opened, built, IMAGES)


@pytest.mark.parametrize('count', [1, 2, 3, 15, 16, 100, 255])
@pytest.mark.parametrize('even', [True, False])
def test_quantizers(opened, count, even):
    """Values on thresholds, below all and above all; thresholds that are equal."""
    built = Built(SIDE)
    thresholds = np.linspace(20, 220, count).round()
    if not even:
        thresholds = np.sort(built.rng.integers(10, 240, size=count))
    levels = built.rng.normal(size=count + 1)
    built.add(program.Quantize, thresholds=built.part(thresholds), levels=built.part(levels))
    check(opened, built, IMAGES)


@pytest.mark.parametrize('side', [3, 7, 11])
def test_resize(opened, side):
    built = Built(SIDE)
    shares = built.rng.uniform(size=(side, SIDE)) * (built.rng.uniform(size=(side, SIDE)) < 0.4)
    shares[:, 2] += 0.1
    built.add(program.Resize, shares=built.part(shares))
    check(opened, built, IMAGES, exact=False)


@pytest.mark.parametrize(
    'window, stride, inputs, outputs, groups',
    [
        (1, 1, 3, 6, 1),
        (3, 1, 3, 17, 1),
        (3, 2, 3, 40, 1),
        (7, 2, 3, 16, 1),
        (3, 1, 3, 3, 3),
        (5, 2, 3, 6, 3),
    ],
)
@pytest.mark.parametrize('padded', [True, False])
def test_convolution(opened, window, stride, inputs, outputs, groups, padded):
    built = Built(SIDE)
    kernel = built.rng.normal(size=(window, window, inputs // groups, outputs))
    pads = (0, 0, 0, 0)
    if padded:
        pads = program.same_pads((SIDE, SIDE), (window, window), (stride, stride))
    built.add(
        program.Convolution,
        kernel=built.part(kernel),
        stride=stride,
        pads=pads,
        same=padded,
        groups=groups,
    )
    check(opened, built, IMAGES, exact=False)


def test_a_part_of_a_kernel(opened):
    """The first channels of a wide one, as narrow networks use it."""
    built = Built(SIDE)
    codes = built.rng.integers(4, size=(3, 3, 8, 48))
    whole = built.coded(codes, built.rng.integers(-3, 4, size=(4, 48)).cumsum(axis=0))
    built.activation([0, 1, 2, 3], 4)
    built.add(
        program.IntegerConvolution,
        kernel=program.Part(whole.name, (3, 3, 4, 36)),
        stride=1,
        pads=(1, 1, 1, 1),
        same=True,
        groups=1,
    )
    check(opened, built, IMAGES)


@pytest.mark.parametrize('function', ['max', 'average'])
@pytest.mark.parametrize('window, stride', [((3, 3), (2, 2)), ((2, 2), (2, 2)), ((3, 1), (1, 2))])
@pytest.mark.parametrize('same', [True, False])
@pytest.mark.parametrize('encoded', [True, False])
def test_pool(opened, function, window, stride, same, encoded):
    """What lies outside of the image does not count."""
    built = Built(SIDE)
    if encoded:
        built.activation([-4, 0, 9], 5)
    pads = program.same_pads((SIDE, SIDE), window, stride) if same else (0, 0, 0, 0)
    built.add(program.Pool, function=function, window=window, stride=stride, pads=pads, same=same)
    check(opened, built, IMAGES)


def test_global_pool(opened):
    check(opened, built_with(program.GlobalPool), IMAGES)


@pytest.mark.parametrize('channels', [0, 2])
def test_pad(opened, channels):
    check(opened, built_with(program.Pad, pads=(1, 0, 2, 3), channels=channels), IMAGES)


def test_crop_with_steps(opened):
    corners = {'start': (1, 0, 0), 'stop': (7, 6, 3), 'step': (2, 3, 2)}
    check(opened, built_with(program.Crop, **corners), IMAGES)


def test_channels_in_reverse_order_and_beside_each_other(opened):
    built = Built(SIDE)
    first = built.last
    flipped = built.add(program.Flip)
    built.add(program.Concatenate, first, others=(flipped, first))
    check(opened, built, IMAGES)


@pytest.mark.parametrize('function', ['add', 'multiply'])
def test_combine(opened, function):
    """With another tensor, with itself, and with one number for each channel."""
    built = Built(SIDE)
    first = built.last
    pooled = built.add(program.GlobalPool, first)
    scaled = built.add(program.Affine, first, scale=built.part(0.3), shift=built.part(-7))
    built.add(program.Combine, scaled, y=first, function=function)
    twice = built.add(program.Combine, built.last, y=pooled, function=function)
    built.add(program.Combine, twice, y=twice, function=function)
    check(opened, built, IMAGES)


def test_a_grey_image(opened):
    built = Built(SIDE, channels=1)
    built.add(program.Affine, scale=built.part(0.3), shift=built.part(-7))
    check(opened, built, IMAGES[..., :1])


def chooser():
    """A program whose answer is the mean of all, or the brightest, by which of two is larger."""
    built = Built(SIDE)
    first = built.last
    mean = built.add(program.GlobalPool, first)
    mean_row = built.add(program.ToRows, mean)
    window = {'window': (SIDE, SIDE), 'stride': (1, 1), 'pads': (0, 0, 0, 0), 'same': False}
    most = built.add(program.Pool, first, function='max', **window)
    most_row = built.add(program.ToRows, most)
    number = built.add(choices.Largest, mean_row)
    sure = built.add(choices.Confident, mean_row, exit=0, threshold=built.part(-0.05))
    seven = built.add(choices.Number, sure, value=7)
    softmax = built.add(choices.Probabilities, most_row)
    branches = ((mean_row, number), (most_row, seven))
    built.operations.append(choices.Choose('logits', sure, branches, ('executed',)))
    built.operations.append(program.ToImages('image', 'logits'))
    built.operations.append(program.ToImages('image2', softmax))
    built.operations.append(program.Concatenate('both', 'image', ('image2',)))
    built.operations.append(program.ToRows('row', 'both'))
    told = (
        choices.Chosen('stage', 'executed', (0, 1, 2, 7)),
        choices.Chosen('exit', sure, (0, 1)),
    )
    point = program.PointProgram('images', SIDE, tuple(built.operations), 'row', told)
    return program.Program({'dynamic': point}, dict(built.constants))


def test_choices_are_made_image_by_image(opened):
    rng = np.random.default_rng(2)
    shades = rng.integers(256, size=(12, 1, 1, 3))
    images = (shades + rng.integers(-3, 3, size=(12, SIDE, SIDE, 3))).clip(0, 255).astype(np.uint8)
    images[:6] = 70 + rng.integers(2, size=(6, SIDE, SIDE, 3))
    whole = chooser()
    expected, executed = interpreter.answers(whole, 'dynamic', images)
    assert len(np.unique(executed[:, 0])) > 2
    network = opened(native_writer.serialized(whole, {}))
    found, told = network.run(0, images)
    np.testing.assert_array_equal(told, executed)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_times_of_steps(opened):
    """Of every operation that has a kernel or a window, in their order; answers stay the same."""
    built = Built(SIDE)
    built.activation([0, 1, 2, 3], 8)
    codes = built.rng.integers(2, size=(1, 1, 8, 5))
    levels = np.float32([[-1], [1]]).repeat(5, axis=1)
    one = {'stride': 1, 'pads': (0, 0, 0, 0), 'same': False, 'groups': 1}
    names = [built.operations[1].out]
    names.append(built.add(program.IntegerConvolution, kernel=built.coded(codes, levels), **one))
    built.add(program.Activation, function='relu')
    names.append(built.add(program.GlobalPool))
    row = built.add(program.ToRows)
    point = program.PointProgram('images', SIDE, tuple(built.operations), row)
    whole = program.Program({'s1': point}, dict(built.constants))
    network = opened(native_writer.serialized(whole, {}))
    images = built.rng.integers(256, size=(2, SIDE, SIDE, 3), dtype=np.uint8)
    expected, _ = network.run(0, images)
    steps = network.times(0, images)
    assert [name for name, _ in steps if name in names] == names
    assert len(steps) < len(built.operations)
    assert all(0 <= seconds < 60 for _, seconds in steps)
    np.testing.assert_array_equal(network.run(0, images)[0], expected)


@pytest.mark.parametrize('rows_first', [True, False])
def test_rows_and_images_read_one_kernel(opened, rows_first):
    """The same numbers are inputs and outputs of rows, and a window of images: two kernels."""
    built = Built(SIDE)
    kernel = built.part(built.rng.normal(size=(5, 3, 1, 1)))
    one = {'stride': 1, 'pads': (0, 0, 0, 0), 'same': False, 'groups': 1}
    floats = built.last

    def cropped(*stop):
        return built.add(program.Crop, floats, start=(0, 0, 0), stop=stop, step=(1, 1, 1))

    def by_rows():
        pixels = [cropped(1, 1, 1) for _ in range(5)]
        built.add(program.Concatenate, pixels[0], others=tuple(pixels[1:]))
        built.add(program.ToRows)
        built.add(program.Dense, kernel=program.Part(kernel.name, (5, 3)))
        return built.add(program.ToImages)

    def by_images():
        cropped(5, 3, 1)
        return built.add(program.Convolution, kernel=kernel, **one)

    ways = [by_rows, by_images] if rows_first else [by_images, by_rows]
    made = {way: way() for way in ways}
    built.add(program.Concatenate, made[by_rows], others=(made[by_images],))
    row = built.add(program.ToRows)
    point = program.PointProgram('images', SIDE, tuple(built.operations), row)
    whole = program.Program({'s1': point}, dict(built.constants))
    found, _ = opened(native_writer.serialized(whole, {})).run(0, IMAGES)
    weights = whole.value(kernel)[:, :, 0, 0]
    expected = np.zeros((len(IMAGES), 4))
    expected[:, :3] = IMAGES[:, :1, 0, 0] * weights.sum(axis=0)
    expected[:, 3] = (IMAGES[:, :5, :3, 0] * weights).sum(axis=(1, 2))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * expected.std())
