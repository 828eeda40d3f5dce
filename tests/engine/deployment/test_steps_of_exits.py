"""Programs cut behind their exits: no TensorFlow graph is made."""

from engine.deployment.choices import Choose, Confident, Number
from engine.deployment.early_exit import steps
from engine.deployment.program import Activation, Cast, Combine, Part, PointProgram

THRESHOLD = Part('threshold', (1,))


def relu(out, x):
    return Activation(out, x, 'relu')


def three_exits():
    """Exits ``x0``, ``x1``, ``x2``; ``a`` is read two steps later, ``spare`` nowhere."""
    operations = (
        Cast('a', 'images'),
        relu('b', 'a'),
        relu('x0', 'a'),
        Confident('sure0', 'x0', 0, THRESHOLD),
        relu('c', 'a'),
        relu('spare', 'b'),
        relu('x1', 'c'),
        Confident('sure1', 'x1', 1, THRESHOLD),
        Combine('x2', 'b', 'c', 'add'),
        Number('last', 'sure1', 2),
        Number('second', 'sure1', 1),
        Choose('later', 'sure1', (('x2', 'last'), ('x1', 'second')), ('later/told',)),
        Number('first', 'sure0', 0),
        Choose('found', 'sure0', (('later', 'later/told'), ('x0', 'first')), ('told',)),
    )
    return PointProgram('images', 8, operations, 'found')


def test_each_step_has_what_its_exit_is_the_first_to_need():
    found = steps(three_exits())
    assert [step.logits for step in found] == ['x0', 'x1', 'x2']
    names = [[operation.out for operation in step.operations] for step in found]
    assert names == [['a', 'x0'], ['c', 'x1'], ['b', 'x2']]


def test_steps_hand_on_what_later_ones_read():
    """Through the steps between, too."""
    first, second, third = steps(three_exits())
    assert first.reads == [] and first.makes == ['a']
    assert second.reads == ['a'] and second.makes == ['c']
    assert sorted(third.reads) == ['a', 'c'] and third.makes == []


def test_one_exit_is_one_step():
    point = PointProgram('images', 8, (Cast('a', 'images'), relu('x0', 'a')), 'x0')
    (step,) = steps(point)
    assert step.logits == 'x0' and len(step.operations) == 2
    assert step.reads == step.makes == []
