"""Numbers with units as people write them."""

import pytest

from engine.errors import UsageError
from engine.quantities import amount, quantity


@pytest.mark.parametrize(
    ('kind', 'text', 'expected'),
    [
        ('bytes', '10KB', 1e4),
        ('bytes', '2 MB', 2e6),
        ('bytes', '1.5G', 1.5e9),
        ('bytes', '7', 7),
        ('bytes', '7b', 7),
        ('multiply-adds', '300m', 3e8),
        ('multiply-adds', '1.5G', 1.5e9),
        ('multiply-adds', '250000', 250000),
        ('milliseconds', '3ms', 3),
        ('milliseconds', '.5S', 500),
        ('milliseconds', '20US', 0.02),
    ],
)
def test_units(kind, text, expected):
    assert amount(kind, text) == pytest.approx(expected)


@pytest.mark.parametrize(
    'text', ['', 'M', '0', '-1M', 'nan', 'inf', '1e400', '9' * 400, '3ms', '1MM']
)
def test_what_is_no_number_of_multiply_adds(text):
    with pytest.raises(UsageError, match='^--budget .*expected multiply-adds such as 60M'):
        quantity('--budget', text)
