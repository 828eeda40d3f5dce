"""Input rules: channel order, mean and deviation of the numbers that a network takes."""

import dataclasses

from engine.errors import UsageError
from quant.spelling import unknown

# ImageNet statistics of the range [0, 1], in RGB order.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

SPELLING = (
    'rgb:MEAN,MEAN,MEAN:DEVIATION,DEVIATION,DEVIATION (or bgr:...), or grey:MEAN:DEVIATION, of the '
    'range [0, 1]'
)
GREY = 'grey'
# What parts of a spelling begin with; empty parts stand for those of the default.
ORDERS = ('rgb', 'bgr', GREY)
# Weights of red, green and blue in grey.
WEIGHTS = (0.299, 0.587, 0.114)


@dataclasses.dataclass(frozen=True)
class InputRule:
    """Channel order, and what is subtracted from pixels in [0, 1] and what divides the difference.

    Attributes:
        rgb: whether channels are in RGB order; else they stay BGR, as OpenCV reads them, or are
            one.
        mean: of each channel, in that order; empty leaves pixels in [0, 1].
        std: standard deviation of each channel, in that order.
        grey: whether colours become one channel, as OpenCV weighs them.
    """

    rgb: bool
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    grey: bool = False

    @property
    def channels(self) -> int:
        """Number of channels."""
        return 1 if self.grey else 3

    @property
    def order(self) -> str:
        """One of ``ORDERS``."""
        if self.grey:
            return GREY
        return 'rgb' if self.rgb else 'bgr'


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


def completed(text: str, default: str) -> str:
    """A spelling whose empty parts are those of another one, as ``--mean`` leaves them.

    Args:
        text: ``ORDER:MEAN:DEVIATION``, or a whole spelling.
        default: what it is completed by.

    Raises:
        UsageError: a part is no order of colours, or no numbers.

    >>> completed('bgr::', 'rgb:0.1,0.2,0.3:0.4,0.5,0.6')
    'bgr:0.3,0.2,0.1:0.6,0.5,0.4'
    >>> completed('grey::', 'normalized_rgb')
    'grey:0.459:0.226'
    >>> completed(':0.5,0.5,0.5:', 'unit_rgb')
    'rgb:0.5,0.5,0.5:1,1,1'
    """
    parts = text.split(':')
    if len(parts) != 3 or all(parts):
        return text
    order, mean, std = parts
    known = parse(default)
    if not (mean or std) and order in ('', known.order):
        return default
    order = order or known.order
    if order not in ORDERS:
        raise UsageError(f'--inputs {text}: expected {SPELLING}')
    there = _in_order(known, order)
    spelled = []
    for given, numbers in zip((mean, std), (there.mean, there.std)):
        if given:
            numbers = _listed(given)
        if len(numbers) in (1, 3) and len(set(numbers)) == 1:
            numbers = numbers[:1] * there.channels
        spelled.append(','.join(f'{number:.6g}' for number in numbers))
    found = ':'.join([order, *spelled])
    rule = parse(found)
    for name, same in RULES.items():
        if same == rule:
            return name
    return found


def _listed(text: str) -> tuple[float, ...]:
    """Numbers between commas.

    Raises:
        UsageError: they are no numbers.
    """
    try:
        return tuple(float(number) for number in text.split(','))
    except ValueError:
        raise UsageError(f'--inputs: {text} are no numbers; expected {SPELLING}') from None


def _in_order(rule: InputRule, order: str) -> InputRule:
    """A rule with channels in another order, or one of them, and with all numbers."""
    mean = rule.mean or (0.0,) * rule.channels
    std = rule.std or (1.0,) * rule.channels
    if order == rule.order:
        return dataclasses.replace(rule, mean=mean, std=std)
    if rule.grey:
        return InputRule(order == 'rgb', mean * 3, std * 3)
    if order != GREY:
        return InputRule(order == 'rgb', mean[::-1], std[::-1])
    reds_first = mean if rule.rgb else mean[::-1]
    weighed = sum(weight * number for weight, number in zip(WEIGHTS, reds_first))
    return InputRule(False, (round(weighed, 3),), (round(sum(std) / 3, 3),), grey=True)


def parse(text: str) -> InputRule:
    """The rule that `--inputs` names, or spells out by its numbers.

    Raises:
        UsageError: there is no such name, and it is no spelling of a rule.

    >>> parse('rgb:0.5,0.5,0.5:0.25,0.25,0.25')
    InputRule(rgb=True, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), grey=False)
    """
    if text in RULES:
        return RULES[text]
    order, *lists = text.split(':')
    if order not in ORDERS or len(lists) != 2:
        raise UsageError(f'--inputs {text}: {unknown(text, RULES, more=f"or {SPELLING}")}')
    count = 1 if order == GREY else 3
    mean, std = (_numbers(text, numbers, count) for numbers in lists)
    if min(std) <= 0:
        raise UsageError(f'--inputs {text}: deviations must be greater than 0')
    return InputRule(order == 'rgb', mean, std, grey=order == GREY)


def _numbers(text: str, numbers: str, count: int) -> tuple[float, ...]:
    """The numbers of a part of a spelling.

    Args:
        text: the whole spelling, for messages.
        numbers: the part.
        count: how many there must be.

    Raises:
        UsageError: there are others.
    """
    try:
        values = tuple(float(number) for number in numbers.split(','))
    except ValueError:
        values = ()
    if len(values) != count or not all(0 <= value <= 1 for value in values):
        raise UsageError(f'--inputs {text}: expected {SPELLING}, numbers from 0 to 1')
    return values
