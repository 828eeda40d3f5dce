"""quant.pairs: which quantizers of weights and activations stand for a method, by its own word."""

import dataclasses
import sys
import types

import pytest

from quant import pairs, specs
from quant.pairs import Pair
from quant.policy import LOW_BIT_ROLES, Policy, Rule
from quant.quantizer import Quantizer, check_bits


@dataclasses.dataclass(frozen=True)
class Activations8(Quantizer):
    """Activations alone, of 8 bits."""

    partner = 'sawb'
    variants = ('activations8(bits=8)',)
    bits: int = 8

    def __post_init__(self):
        check_bits(self)
        if self.bits != 8:
            raise ValueError('bits=8')

    def activation(self, x, activations):
        return x


@pytest.fixture
def registered(monkeypatch):
    """One more quantizer, as a line of the registry brings it."""
    module = types.ModuleType('quant.activations8')
    module.Activations8 = Activations8
    monkeypatch.setitem(sys.modules, module.__name__, module)
    path = 'quant.activations8.Activations8'
    monkeypatch.setitem(specs._QUANTIZERS, 'activations8', path)


@pytest.mark.parametrize(
    ('spec', 'bits', 'expected'),
    [
        ('lsq', 2, ('lsq', 'lsq')),
        ("pact(start='error')", 2, ('sawb', "pact(start='error')")),
        ('sawb', 4, ('sawb', 'pact')),
        ('sawb', 7, None),  # no coefficients, and nothing else of its own
        ('pact', 7, (pairs.DEFAULT, 'pact')),
        ('twn', 2, ('twn', pairs.DEFAULT)),
        ('twn', 4, None),
        ('bireal', 1, ('bireal', 'bireal')),
        ('bireal', 2, None),
        ('apot', 8, None),
    ],
)
def test_pair(spec, bits, expected):
    if expected is not None:
        expected = Pair(*expected, bits)
    assert pairs.pair(spec, bits) == expected


def test_every_quantizer_is_a_method():
    found = pairs.methods((2, 4))
    used = {specs.split(spec)[0] for pair in found for spec in (pair.weight, pair.activation)}
    assert used == set(specs.names())
    assert len(set(found)) == len(found)
    for bits in {pair.bits for pair in found}:
        of_bits = [pair for pair in found if pair.bits == bits]
        assert of_bits[0] == Pair(pairs.DEFAULT, pairs.DEFAULT, bits)


@pytest.mark.parametrize('make', [pairs.methods, pairs.variants])
def test_pairs_can_be_asked_for(make):
    for pair in make((2, 4)):
        weight = specs.with_options(pair.weight, {'bits': pair.bits})
        activation = specs.with_options(pair.activation, {'bits': pair.bits})
        rule = Rule(roles=LOW_BIT_ROLES, weight=weight, activation=activation)
        found = Policy((rule,)).weight('group0/conv1', 'body')
        assert found is not None and found.bits == pair.bits


def test_a_new_quantizer_appears_with_its_partner(registered):
    own = Pair('sawb', 'activations8', 8)
    assert own in pairs.methods((2, 4))
    assert Pair(pairs.DEFAULT, pairs.DEFAULT, 8) in pairs.methods((2, 4))
    assert own in pairs.methods((8,))
    assert Pair('sawb', 'activations8(bits=8)', 8) in pairs.variants((2, 8))


def test_variants_are_of_their_own_quantizer():
    for name in specs.names():
        for text in specs.kind(name).variants:
            found, options = specs.split(text)
            assert found == name
            assert options
