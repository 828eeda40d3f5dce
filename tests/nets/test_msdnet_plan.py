"""Plan of MSDNet: scales and channels as published, maps that an exit needs or leaves."""

import re

import pytest

from nets import cost
from nets.cost import LayerRecord
from nets.msdnet_plan import Plan, counted, finest, operations, steps

ANYTIME = {'blocks': steps(10, 'even', 4, 2), 'scales': 3, 'channels': 16, 'growth': 6}
IMAGENET = {'blocks': [4] * 5, 'scales': 4, 'channels': 32, 'growth': 16}
SHORT = {'blocks': [2, 2], 'scales': 3, 'channels': 8, 'growth': 4}


def plan(form, *, prune='max', reduction=0.5):
    return Plan(prune=prune, reduction=reduction, **form)


@pytest.mark.parametrize(
    'args, expected',
    [
        ((10, 'even', 4, 2), [4] + [2] * 9),
        ((7, 'lin_grow', 1, 1), [1, 2, 3, 4, 5, 6, 7]),
        ((1, 'even', 3, 2), [3]),
        ((3, 'lin_grow', 2, 2), [2, 3, 5]),
        ((5, 'even', 4, 4), [4] * 5),
    ],
)
def test_steps(args, expected):
    assert steps(*args) == expected


@pytest.mark.parametrize(
    'args, runs',
    [
        (('max', 22, 3), [9, 8, 6]),
        (('max', 28, 3), [11, 10, 8]),
        (('max', 20, 4), [6, 5, 5, 5]),
        (('max', 4, 1), [5]),
        (('max', 4, 3), [3, 2]),
        (('max', 2, 3), [2, 1]),
        (('min', 10, 3), [9, 1, 1]),
        (('min', 2, 3), [1, 1, 1]),
    ],
)
def test_how_long_scales_live(args, runs):
    """Maps of the stem and of every layer, by the finest scale."""
    assert finest(*args) == [scale for scale, count in enumerate(runs) for _ in range(count)]


@pytest.mark.parametrize(
    'form, prune, reduction, units',
    [
        (ANYTIME, 'max', 0.5, {8: 64, 9: 35, 16: 77, 17: 41, 22: 71}),
        (IMAGENET, 'max', 0.5, {5: 112, 6: 64, 11: 72, 16: 76, 20: 140}),
        (IMAGENET, 'max', 0.0, {6: 128, 20: 352}),
        (IMAGENET, 'max', 1.0, {6: 128, 20: 352}),
        ({**ANYTIME, 'blocks': [4, 2, 2, 2]}, 'min', 0.5, {3: 17, 4: 23, 6: 17, 8: 29, 10: 41}),
    ],
)
def test_channels(form, prune, reduction, units):
    layers = plan(form, prune=prune, reduction=reduction).layers
    assert {number: layers[number - 1].channels for number in units} == units
    assert reduction or not any(layer.transition for layer in layers)


def test_scopes_count_what_a_block_is_made_of():
    """As the published names: the stem begins block 0, a transition has a number of its own."""
    layers = plan({**ANYTIME, 'blocks': [2, 2, 2]}).layers
    assert [layer.scope for layer in layers] == [
        'block0/layer1',
        'block0/layer2',
        'block1/layer0',
        'block1/layer2',
        'block2/layer0',
        'block2/layer2',
    ]
    assert [layer.transition for layer in layers] == [
        '',
        '',
        'block1/transition1',
        '',
        'block2/transition1',
        '',
    ]


def test_reads():
    found = plan({**ANYTIME, 'blocks': [2, 2, 2]})
    assert found.reads((0, 0)) == [] and found.reads((0, 2)) == [(0, 1)]
    assert found.reads((1, 0)) == [(0, 0)] and found.reads((1, 1)) == [(0, 1), (0, 0)]
    # A scale that ends at a layer is read by it a last time.
    assert found.reads((3, 1)) == [(2, 1), (2, 0)] and found.reads((4, 1)) == [(3, 1)]


def needed(found, k):
    """Oracle: all that leads to the map which exit ``k`` reads."""

    def walk(node):
        return {node}.union(*map(walk, found.reads(node)))

    return walk((found.ends[k], found.scales - 1))


@pytest.mark.parametrize('prune', ['max', 'min'])
@pytest.mark.parametrize(
    'form', [{**ANYTIME, 'blocks': [4, 2, 2]}, {**IMAGENET, 'blocks': [2, 3, 4]}, SHORT]
)
def test_exits_and_order(form, prune):
    found = plan(form, prune=prune)
    sets = [needed(found, k) for k in range(len(form['blocks']))]
    done = set()
    for k, nodes in enumerate(found.fresh):
        assert set(nodes) == sets[k] - done
        for node in nodes:
            assert done.issuperset(found.reads(node)), 'computed before what it is made of'
            done.add(node)
    assert all(
        found.exits(node) == [k for k, nodes in enumerate(sets) if node in nodes] for node in done
    )


@pytest.mark.parametrize(
    'form, prune, unread',
    [
        (ANYTIME, 'max', []),
        (IMAGENET, 'max', []),
        (IMAGENET, 'min', []),
        (SHORT, 'min', []),
        (SHORT, 'max', [(4, 1)]),
        ({**SHORT, 'blocks': [2]}, 'max', [(1, 0), (2, 1)]),
        ({**SHORT, 'blocks': [1]}, 'max', [(1, 0), (1, 1)]),
    ],
)
def test_maps_that_no_exit_needs(form, prune, unread):
    assert plan(form, prune=prune).unread == unread


def test_a_transition_that_leaves_nothing():
    with pytest.raises(
        ValueError, match=re.escape('reduction 0.01: 28 x 0.01 leaves no channel after layer 5')
    ):
        plan({**IMAGENET, 'channels': 8, 'growth': 4, 'blocks': [4, 4, 4, 4]}, reduction=0.01)


CONV = LayerRecord('block1/layer0/map0/normal/conv2', 'body', (3, 3, 4, 6), (5, 5))
STEM = LayerRecord('stem/map0', 'stem', (7, 7, 3, 8), (9, 9), bias=8)
LINEAR = LayerRecord('head1/linear', 'head', (1, 1, 6, 10), (1, 1), bias=10)
HEAD = LayerRecord('head0/linear', 'head', (1, 1, 6, 10), (1, 1), bias=10)


def test_published_operations_by_hand():
    """A convolution with its ReLU, the pool of the stem, a linear layer with bias and its pool."""
    assert operations(CONV) == 9 * 4 * 6 * 25 + 6 * 25
    assert operations(STEM) == 49 * 3 * 8 * 81 + 8 * 81 + 9 * 8 * 25
    assert operations(LINEAR) == 60 + 10 + 4 * 6
    assert counted([STEM, CONV, HEAD, LINEAR], 0) == operations(STEM) + operations(HEAD)
    assert counted([STEM, CONV, HEAD, LINEAR], 1) == sum(
        map(operations, (STEM, CONV, HEAD, LINEAR))
    )


def test_cumulative_counts_a_layer_once():
    layers = {
        's32-x0': [STEM, HEAD],
        's32-x1': [STEM, CONV, LINEAR],
        's20-x0': [CONV],
        's20': [LINEAR, LINEAR],
    }
    assert cost.cumulative(layers, 's32-x0') == [STEM, HEAD]
    assert cost.cumulative(layers, 's32-x1') == [STEM, HEAD, CONV, LINEAR]
    assert cost.cumulative(layers, 's20-x0') == [CONV]
    assert cost.cumulative(layers, 's20') == [LINEAR]
