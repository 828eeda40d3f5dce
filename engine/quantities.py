"""Numbers with units, as flags take them."""

import math
import re

from engine.errors import UsageError

_COUNTS = {'': 1.0, 'k': 1e3, 'm': 1e6, 'g': 1e9}
_TIMES = {'us': 1e-3, 'ms': 1.0, 's': 1e3}
_BYTES = {**_COUNTS, **{f'{prefix}b': factor for prefix, factor in _COUNTS.items()}}

# Kind of quantity -> what may follow its number, in lower case, with the factor, and an example.
KINDS = {
    'multiply-adds': (_COUNTS, 'multiply-adds such as 60M or 1.2G'),
    'milliseconds': (_TIMES, 'a time such as 3ms'),
    'bytes': (_BYTES, 'a size such as 10KB, 300M or 1.5GB'),
}

# Flags that take a quantity, and the argument ``budget`` of ``Predictor``.
FLAGS = {
    '--budget': 'multiply-adds',
    '--madds': 'multiply-adds',
    'budget': 'multiply-adds',
    '--bitops': 'multiply-adds',
    '--latency': 'milliseconds',
    '--ms': 'milliseconds',
    '--memory': 'bytes',
}


def counted(count: int, noun: str) -> str:
    """A number of things in words.

    Args:
        count: how many.
        noun: what one of them is called.

    >>> counted(1, 'training image'), counted(0, 'image'), counted(2, 'class')
    ('1 training image', '0 images', '2 classes')
    """
    if count == 1:
        return f'{count} {noun}'
    return f'{count} {noun}{"es" if noun.endswith("s") else "s"}'


def amount(kind: str, text: str) -> float:
    """The number that ``text`` says, in units of its kind. Upper and lower case are the same.

    Args:
        kind: one of ``KINDS``.
        text: a number, and a unit where the kind needs one.

    Raises:
        ValueError: the text is none, or not greater than 0; the message says what is expected.

    >>> amount('multiply-adds', '300m'), amount('bytes', '10 KB'), amount('milliseconds', '3ms')
    (300000000.0, 10000.0, 3.0)
    """
    units, example = KINDS[kind]
    found = re.fullmatch(r'(\d+\.?\d*|\.\d+)\s*([A-Za-z]*)', text.strip())
    value = 0.0
    if found is not None:
        value = float(found[1]) * units.get(found[2].lower(), 0.0)
    if not 0 < value < math.inf:
        raise ValueError(f'expected {example}')
    return value


def quantity(flag: str, text: str) -> float:
    """The number that a flag was given, in multiply-adds, milliseconds or bytes.

    Args:
        flag: one of ``FLAGS``.
        text: its value.

    Raises:
        UsageError: the text is no such quantity.

    >>> quantity('--budget', '1.2G'), quantity('--latency', '3ms')
    (1200000000.0, 3.0)
    """
    try:
        return amount(FLAGS[flag], text)
    except ValueError as error:
        raise UsageError(f'{flag} {text}: {error}') from error
