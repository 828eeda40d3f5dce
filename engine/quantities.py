"""Numbers with units, as flags take them."""

import re

from engine.errors import UsageError

# What may follow the number of a flag, and what it multiplies it by; and an example.
COUNTS = {'': 1.0, 'K': 1e3, 'M': 1e6, 'G': 1e9}
UNITS: dict[str, tuple[dict[str, float], str]] = {
    **dict.fromkeys(
        ('--budget', '--madds', '--target_madds', 'budget'),
        (COUNTS, 'multiply-adds such as 60M or 1.2G'),
    ),
    '--latency': ({'us': 1e-3, 'ms': 1.0, 's': 1e3}, 'a time such as 3ms'),
    '--memory': ({'B': 1.0, 'kB': 1e3, 'MB': 1e6, 'GB': 1e9}, 'a size such as 2MB'),
}


def quantity(flag: str, text: str) -> float:
    """The number that ``text`` is, in multiply-adds, milliseconds or bytes.

    >>> quantity('--budget', '1.2G'), quantity('--latency', '3ms')
    (1200000000.0, 3.0)

    Raises:
        UsageError: it is none.
    """
    units, example = UNITS[flag]
    found = re.fullmatch(r'(\d+\.?\d*|\.\d+)([A-Za-z]*)', text)
    value = float(found[1]) * units.get(found[2], 0) if found else 0
    if not value:
        raise UsageError(f'{flag} {text}: expected {example}')
    return value
