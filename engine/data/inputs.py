"""Input rules: channel order, mean and deviation of the numbers that a network takes."""

import dataclasses

from engine.errors import UsageError

# ImageNet statistics of the range [0, 1], in RGB order.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

SPELLING = 'rgb:MEAN,MEAN,MEAN:DEVIATION,DEVIATION,DEVIATION (or bgr:...), of the range [0, 1]'


@dataclasses.dataclass(frozen=True)
class InputRule:
    """Channel order, and what is subtracted from pixels in [0, 1] and what divides the difference.

    Attributes:
        rgb: whether channels are in RGB order; else they stay BGR, as OpenCV reads them.
        mean: of each channel, in that order; empty leaves pixels in [0, 1].
        std: standard deviation of each channel, in that order.
    """

    rgb: bool
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


# The names that `--inputs` knows. `normalized_bgr` is what the quantized RS-Nets take; ConvNet-AIG
# has `cifar_rgb`, MSDNet `cifar10_rgb` and `cifar100_rgb`.
RULES = {
    'normalized_bgr': InputRule(False, IMAGENET_MEAN[::-1], IMAGENET_STD[::-1]),
    'normalized_rgb': InputRule(True, IMAGENET_MEAN, IMAGENET_STD),
    'cifar_rgb': InputRule(True, (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    'cifar10_rgb': InputRule(True, (0.4914, 0.4824, 0.4467), (0.2471, 0.2435, 0.2616)),
    'cifar100_rgb': InputRule(True, (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    'unit_rgb': InputRule(True),
}


# Parts of a spelling; empty ones stand for those of the default.
ORDERS = ('rgb', 'bgr')


def completed(text: str, default: str) -> str:
    """A spelling whose empty parts are those of another one, as ``--mean`` leaves them.

    Args:
        text: ``ORDER:MEAN:DEVIATION``, or a whole spelling.
        default: what it is completed by.

    Raises:
        UsageError: a part is no such thing.

    >>> completed('bgr::', 'rgb:0.1,0.2,0.3:0.4,0.5,0.6')
    'bgr:0.3,0.2,0.1:0.6,0.5,0.4'
    >>> completed(':0.5,0.5,0.5:', 'unit_rgb')
    'rgb:0.5,0.5,0.5:1,1,1'
    """
    parts = text.split(':')
    if len(parts) != 3 or all(parts):
        return text
    order, mean, std = parts
    there = parse(default)
    turned = order not in ('', 'rgb' if there.rgb else 'bgr')
    step = -1 if turned else 1
    order = order or ('rgb' if there.rgb else 'bgr')
    known = (there.mean or (0.0,) * 3)[::step], (there.std or (1.0,) * 3)[::step]
    spelled = []
    for given, numbers in zip((mean, std), known):
        spelled.append(given or ','.join(f'{number:g}' for number in numbers))
    found = ':'.join([order, *spelled])
    rule = parse(found)
    for name, same in RULES.items():
        if same == rule:
            return name
    return found


def parse(text: str) -> InputRule:
    """The rule that `--inputs` names, or spells out by its numbers.

    Raises:
        UsageError: there is no such name, and it is no spelling of a rule.

    >>> parse('rgb:0.5,0.5,0.5:0.25,0.25,0.25')
    InputRule(rgb=True, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    """
    if text in RULES:
        return RULES[text]
    order, *lists = text.split(':')
    if order not in ('rgb', 'bgr') or len(lists) != 2:
        known = ', '.join(RULES)
        raise UsageError(f'--inputs {text}: unknown; there are {known}, or {SPELLING}')
    mean, std = (_three_numbers(text, numbers) for numbers in lists)
    if min(std) <= 0:
        raise UsageError(f'--inputs {text}: deviations must be greater than 0')
    return InputRule(order == 'rgb', mean, std)


def _three_numbers(text: str, numbers: str) -> tuple[float, ...]:
    try:
        values = tuple(float(number) for number in numbers.split(','))
    except ValueError:
        values = ()
    if len(values) != 3 or not all(0 <= value <= 1 for value in values):
        raise UsageError(f'--inputs {text}: expected {SPELLING}, three numbers from 0 to 1 each')
    return values
