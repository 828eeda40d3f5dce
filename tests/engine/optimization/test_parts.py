"""Parts of networks: their names, and the learning rates that options give them."""

import pytest

from engine.optimization.parts import PartOptions, Parts
from nets.cost import LayerRecord


def layers(*named: tuple[str, str]) -> list[LayerRecord]:
    return [LayerRecord(name, role, (1, 1, 1, 1), (1, 1)) for name, role in named]


RESNET = layers(
    ('conv0', 'stem'),
    ('group0/block0/conv1', 'body'),
    ('group0/block0/gate1', 'gate'),
    ('group1/block0/conv1', 'body'),
    ('group1/block0/convshortcut', 'shortcut'),
    ('linear', 'head'),
)
MSDNET = layers(
    ('stem/map0', 'stem'),
    ('block0/layer1/map0', 'body'),
    ('head0/conv1', 'head'),
    ('head0/linear', 'head'),
    ('block1/layer1/map0', 'body'),
    ('head1/linear', 'head'),
)


def test_names():
    names = ['conv0', 'group0', 'group1', 'linear', 'backbone', 'stem', 'head']
    assert sorted(Parts(RESNET).names) == sorted(names)
    names = ['stem', 'block0', 'head0', 'block1', 'head1', 'backbone', 'head']
    assert sorted(Parts(MSDNET).names) == sorted(names)


@pytest.mark.parametrize(
    'options, factors',
    [
        ({}, (1, 1, 1, 1)),
        ({'freeze': 'stem'}, (0, 1, 1, 1)),
        ({'freeze': 'stem, group0'}, (0, 0, 1, 1)),
        ({'freeze': 'backbone'}, (0, 0, 0, 1)),
        ({'freeze': 'head'}, (1, 1, 1, 0)),
        ({'lr_factor': 'head=10'}, (1, 1, 1, 10)),
        ({'lr_factor': 'backbone=0.1,stem=0.01'}, (0.01, 0.1, 0.1, 1)),
        ({'lr_factor': 'stem=0.01,backbone=0.1'}, (0.1, 0.1, 0.1, 1)),
        ({'layer_decay': 0.5}, (0.125, 0.25, 0.5, 1)),
        ({'layer_decay': 0.5, 'lr_factor': 'group1=3', 'freeze': 'stem'}, (0, 0.25, 1.5, 1)),
    ],
)
def test_factors(options, factors):
    names = (
        'conv0/bn/s16/gamma',
        'group0/block0/conv1/W',
        'group1/block0/bn_last/beta',
        'linear/b',
    )
    parts = Parts(RESNET)
    found = [parts.factor(name, PartOptions(**options)) for name in names]
    assert found == pytest.approx(factors)


def test_what_a_network_has_beside_learns_with_a_frozen_backbone():
    options = PartOptions(freeze='backbone')
    for name in ('group0/block0/gate1/W', 'alpha'):
        assert Parts(RESNET).factor(name, options, beside=True) == 1
    options = PartOptions(freeze='group0')
    assert Parts(RESNET).factor('group0/block0/gate1/W', options, beside=True) == 0


def test_every_head_of_a_network_with_exits():
    parts, options = Parts(MSDNET), PartOptions(lr_factor='head=10,head0=5', layer_decay=0.5)
    names = ('stem/map0/W', 'block0/layer1/map0/W', 'block1/layer1/W', 'head0/conv1/W', 'head1/W')
    assert [parts.factor(name, options) for name in names] == [0.125, 0.25, 0.5, 5, 10]


@pytest.mark.parametrize(
    'options, words',
    [
        ({'freeze': 'group7'}, ['freeze group7', "no part 'group7'", 'conv0', 'backbone']),
        ({'lr_factor': 'hed=10'}, ['lr_factor hed=10', "'hed'", 'head']),
        ({'lr_factor': 'head'}, ["'head'", 'head=10']),
        ({'lr_factor': 'head=-1'}, ["'head=-1'"]),
        ({'lr_factor': 'head=0'}, ["'head=0'"]),
        ({'lr_factor': 'head=nan'}, ["'head=nan'"]),
        ({'lr_factor': 'head=inf'}, ["'head=inf'"]),
        ({'freeze': 'backbone,head'}, ['nothing is left']),
    ],
)
def test_what_is_refused(options, words):
    with pytest.raises(ValueError) as caught:
        Parts(RESNET).check(PartOptions(**options))
    assert [word for word in words if word not in str(caught.value)] == []
