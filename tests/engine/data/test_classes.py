"""Class names: data are mapped to a network's classes by name, or refused with the difference."""

import dataclasses

import numpy as np
import pytest

from engine.data.classes import differences, mapped
from engine.data.datasets import open_dataset
from engine.errors import UsageError

CLASSES = tuple('abcdefghij')


def dataset(*names):
    """The embedded set with these class names."""
    return dataclasses.replace(open_dataset('animals28'), classes=names)


def test_the_same_classes_change_nothing():
    data = dataset(*CLASSES)
    assert mapped(data, list(CLASSES), 'run') == (data, '')


def test_another_order_is_mapped_by_name():
    data = dataset(*CLASSES[::-1])
    found, note = mapped(data, CLASSES, 'run/model-10')
    assert found.classes == CLASSES
    np.testing.assert_array_equal(found.val.labels, 9 - data.val.labels)
    np.testing.assert_array_equal(found.train.labels, 9 - data.train.labels)
    np.testing.assert_array_equal(found.val.read(3), data.val.read(3))
    assert found.val.name(3) == data.val.name(3)
    assert 'by name: 10 of the 10 of run/model-10' in note


def test_some_of_the_classes_are_mapped_by_name():
    data = dataset(*CLASSES)
    found, note = mapped(data, ('new', *CLASSES, 'newer'), 'run')
    np.testing.assert_array_equal(found.val.labels, data.val.labels + 1)
    assert len(found.classes) == 12 and 'by name: 10 of the 12' in note


@pytest.mark.parametrize(
    'there, here, text',
    [
        ('abc', 'abcd', 'only here: d'),
        ('abc', 'xbc', 'only there: a; only here: x'),
        ('abcdefgh', 'a', 'only there: b, c, d, e, f and 2 more'),
        ('abcdefg', 'tuvwxyz', 'only there: a, b, c, d, e and 2 more; only here: t, u, v, w, x'),
        ('abc', 'acb', '1 is b there and c here, 2 is c there and b here'),
        ('abc', 'abc', ''),
    ],
)
def test_the_first_differences_are_shown(there, here, text):
    assert differences(list(there), list(here)).startswith(text)


def test_a_class_that_the_network_does_not_know_is_refused():
    with pytest.raises(UsageError, match=r'10 classes are not the 9 of run .only here: j.;'):
        mapped(dataset(*CLASSES), CLASSES[:9], 'run')
