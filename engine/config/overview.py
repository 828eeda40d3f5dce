"""A run in a few lines, as its start says it: data, network, points, cost, schedule, machine."""

from collections.abc import Mapping, Sequence

from engine.config import hardware
from engine.config.config import Config
from engine.data.spec import Dataset
from engine.quantities import counted
from nets import cost
from quant.policy_options import QuantizationOptions
from quant.quantizer import FLOAT_BITS

# So many operating points are named.
NAMED = 12


def data_line(dataset: Dataset) -> str:
    """The images, and how they were found."""
    return dataset.line() or (
        f'data {dataset.name}: {counted(len(dataset.classes), "class")}, {len(dataset.train)} '
        f'training and {len(dataset.val)} validation images'
    )


def images_line(config: Config) -> str:
    """How images become inputs of the network."""
    sizes = ' '.join(map(str, config.sizes))
    return (
        f'images: --augmentation {config.augmentation}, views of {config.image_size} pixels, '
        f'--resize {config.resize} to --sizes {sizes}, --inputs {config.inputs}'
    )


def data_lines(config: Config, dataset: Dataset) -> list[str]:
    """Lines about a data set with a name; one that has a layout was told of when it was found."""
    if dataset.layout:
        return []
    return [data_line(dataset), images_line(config)]


def network_lines(config: Config) -> list[str]:
    """The network and its operating points, strongest first."""
    wide = '' if config.width == 1 else f' --width {config.width:g}'
    points = list(map(str, config.network().points))
    shown = points
    if len(points) > NAMED:
        shown = [*points[: NAMED - 2], '...', points[-1]]
    return [
        f'network: --net {config.net} --arch {config.arch} --mode {config.mode}{wide}, '
        f'{counted(config.classes, "class")}, {bits_text(config.quantization)}',
        f'operating points: {" ".join(shown)}',
    ]


def bits_text(options: QuantizationOptions) -> str:
    """Bits and quantizers.

    >>> bits_text(QuantizationOptions())
    'float'
    >>> bits_text(QuantizationOptions(qw=2, qa=3, head_bits=8))
    'W2A3 by lq(bits=2) and lq(bits=3), stem float, head W8A8'
    >>> bits_text(QuantizationOptions(bits=('4', '2:4')))
    'W4A4 by lq(bits=4), W2A4 by lq(bits=2) and lq(bits=4), stem and head float'
    """
    policy = options.to_policy()
    if policy == QuantizationOptions().to_policy():
        return 'float'
    pairs = options.precisions or [(options.qw, options.qa)]
    policies = [one for _, one in policy.by_bits] or [policy]
    texts = []
    for (weights, activations), one in zip(pairs, policies):
        body = one.rules[0]
        words = f'{bits_name(weights, activations)} by {body.weight}'
        if body.weight != body.activation:
            words += f' and {body.activation}'
        texts.append(words)
    text = ', '.join(texts)
    stem = bits_name(options.stem_bits, FLOAT_BITS)
    head = bits_name(options.head_bits, options.head_bits)
    text += ', stem and head float' if stem == head else f', stem {stem}, head {head}'
    if options.policy:
        text += f', but for {counted(len(options.policy), "rule")} of --policy'
    return text


def bits_name(weights: int, activations: int) -> str:
    """Bits in short.

    >>> bits_name(2, 2), bits_name(4, 32), bits_name(32, 8), bits_name(32, 32)
    ('W2A2', 'W4', 'A8', 'float')
    """
    text = ''
    if weights < FLOAT_BITS:
        text += f'W{weights}'
    if activations < FLOAT_BITS:
        text += f'A{activations}'
    return text or 'float'


def training_lines(config: Config) -> list[str]:
    """Length of the training and the course of its rate."""
    steps, epochs = counted(config.course.steps, 'step'), counted(config.epochs, 'epoch')
    return [
        f'training: {steps}, {epochs} of {config.steps_per_epoch}, of '
        f'{counted(config.batch_size, "image")} each, --optimizer {config.optimizer}',
        config.course.line(),
    ]


def scorings(config: Config, epoch: int) -> int:
    """How often a training scores the validation images after an epoch.

    >>> config = Config.from_values(epochs=10, val_interval=4)
    >>> [scorings(config, epoch) for epoch in (0, 3, 4, 8, 10)]
    [3, 3, 2, 1, 0]
    """
    due = [at for at in range(epoch + 1, config.epochs) if at % config.val_interval == 0]
    return len(due) + (epoch < config.epochs)


def machine_lines(config: Config, threads: str) -> list[str]:
    """The processor, its threads, and how quantizers are computed.

    Args:
        config: of the run.
        threads: of this process, in words.
    """
    lines = [f'machine: {hardware.line()}; {threads}']
    if config.quantization.to_policy() != QuantizationOptions().to_policy():
        lines.append(hardware.quantizer_line(config))
    return lines


def cost_lines(layers: Mapping[str, Sequence[cost.LayerRecord]]) -> list[str]:
    """Parameters, memory of the weights and multiply-adds of an image.

    Args:
        layers: of every operating point, strongest first.
    """
    points = list(layers)
    strongest = cost.cumulative(layers, points[0])
    floats = 4 * cost.parameters(strongest)
    every: list[cost.LayerRecord] = []
    for point in points:
        every += layers[point]
    packed = cost.weight_bytes(cost.stored(every))
    madds = []
    for point in dict.fromkeys((points[0], points[-1])):
        passed = cost.cumulative(layers, point)
        madds.append(f'{scaled(cost.madds(passed))} at {point}')
    return [
        f'cost: {scaled(cost.parameters(strongest))} parameters, weights of '
        f'{scaled(packed)}B packed ({scaled(floats)}B in float32); '
        f'MAdds of an image {", ".join(madds)}'
    ]


def scaled(number: float) -> str:
    """A count with a unit of thousands and three digits.

    >>> scaled(950), scaled(81_855), scaled(999_999), scaled(12_457_216), scaled(1.814e9)
    ('950', '81.9 k', '1 M', '12.5 M', '1.81 G')
    """
    for factor, unit in ((1e9, ' G'), (1e6, ' M'), (1e3, ' k')):
        # From where on three digits of the smaller unit would not do.
        if number >= 0.9995 * factor:
            return f'{number / factor:.3g}{unit}'
    return f'{number:.3g}'
