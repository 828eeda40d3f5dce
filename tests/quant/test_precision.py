"""Precisions of one network as options say them."""

import json

import pytest

from quant import QuantizationOptions
from quant.policy import Rule
from quant.precision import Precision

GIVEN = ('4', '3:4', '2:4')
HEAD = Rule(roles=('head',), weight='lq(bits=8)', activation='lq(bits=8)')


def test_each_precision_has_a_policy():
    options = QuantizationOptions(bits=('4', '2:3'), policy=(HEAD,))
    assert (options.qw, options.qa, options.point_bits) == (4, 4, (4, 2))
    policy = options.to_policy()
    for bits, (weights, activations) in ((4, (4, 4)), (2, (2, 3))):
        at = policy.at(bits)
        assert at == QuantizationOptions(qw=weights, qa=activations, policy=(HEAD,)).to_policy()
    assert policy.rules == policy.at(4).rules


@pytest.mark.parametrize(
    'half, role, common',
    [
        ('weight', 'body', False),
        # W4A4 and W2A4 have the same bits of activations, which come from other weights.
        ('activation', 'body', False),
        ('weight', 'head', True),
        ('activation', 'head', True),
        ('weight', 'stem', True),
    ],
)
def test_what_does_not_depend_on_bits_is_common(half, role, common):
    policy = QuantizationOptions(bits=('4', '2:4'), policy=(HEAD,)).to_policy()
    assert policy.is_common(half, 'group0', role) == common


def test_a_record_of_several_precisions_comes_back():
    options = QuantizationOptions(bits=('4', '2:4'))
    values = json.loads(json.dumps({'bits': options.bits, 'qw': options.qw, 'qa': options.qa}))
    assert QuantizationOptions(**values) == options


@pytest.mark.parametrize(
    'wanted, bits, used',
    [
        ([2], ('4', '2:4'), (2,)),
        ([3], ('4', '3:4', '2:4'), (3,)),
        ([8, 4], ('8', '4', '2:4'), (8, 4)),
        ([1], ('4', '2:4', '1'), (1,)),
    ],
)
def test_narrowing_adds_precisions_in_their_place(wanted, bits, used):
    found = QuantizationOptions(bits=('4', '2:4')).at_bits(wanted)
    assert (found.bits, found.point_bits) == (bits, used)
    assert found.qw == found.precisions[0].weights


@pytest.mark.parametrize(
    'fields, words',
    [
        ({'bits': ('4', '4')}, 'twice'),
        ({'bits': ('2:4', '2')}, 'twice'),
        ({'bits': ('2', '4')}, 'most bits first, 4 2'),
        ({'bits': ('4', '2:8')}, 'activations'),
        ({'bits': ('4',)}, '--qw 4 --qa 4'),
        ({'bits': ('32', '2')}, 'bits 32: must be 1 to 8'),
        ({'bits': ('4', '0')}, 'bits 0: must be 1 to 8'),
        ({'bits': ('4', 'w2')}, 'bits w2: expected'),
        ({'bits': ('4', '2'), 'qw': 2}, 'qw 2: --bits 4 2'),
        ({'bits': ('4', '2'), 'qa': 3}, 'qa 3: --bits 4 2'),
        ({'bits': ('4', '2'), 'weight_quantizer': 'ttq'}, 'ttq'),
        ({'bits': ('4', '2'), 'weight_quantizer': 'lq(bits=2)'}, 'lq(bits=2): qw is 4'),
    ],
)
def test_wrong_precisions_are_named(fields, words):
    with pytest.raises(ValueError, match='.') as error:
        QuantizationOptions(**fields).to_policy()
    assert words in str(error.value)


def test_precisions_are_pairs():
    assert QuantizationOptions(bits=GIVEN).precisions == (
        Precision(4, 4),
        Precision(3, 4),
        Precision(2, 4),
    )
