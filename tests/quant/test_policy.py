"""Policies and specs: which rule wins, what a wrong spec says, that plain data stay plain."""

import json
import subprocess
import sys

import pytest

from quant import ROLES, Policy, Rule, low_bit
from quant import specs as registry


def bits(policy, scope, role='body'):
    quantizer = policy.weight(scope, role)
    return quantizer.bits if quantizer else 32


def test_empty_policy_is_float():
    assert Policy().weight('conv0', 'stem') is None
    assert Policy().activation('relu0', 'stem') is None


def test_last_match_wins():
    rules = Rule(weight='lq(bits=2)'), Rule(scope='group1', weight='lq(bits=3)')
    assert bits(Policy(rules), 'group1/conv1') == 3
    assert bits(Policy(rules[::-1]), 'group1/conv1') == 2
    assert bits(Policy((*rules, Rule(weight='float'))), 'group1/conv1') == 32


def test_halves_are_decided_apart():
    policy = Policy(
        (
            Rule(weight='lq(bits=2)', activation='lq(bits=4)'),
            Rule(scope='group3', activation='float'),
        )
    )
    assert policy.weight('group3/conv1', 'body').bits == 2
    assert policy.activation('group3/quant1', 'body') is None
    assert policy.activation('group2/quant1', 'body').bits == 4


@pytest.mark.parametrize(
    'scope, matched',
    [
        ('group1/block0/conv1', True),
        ('group1/block10/conv1', False),
        ('x/group1/block0/conv1', False),
    ],
)
def test_scope_is_a_regular_expression(scope, matched):
    policy = Policy((Rule(scope=r'^group\d/block\d/', weight='lq(bits=2)'),))
    assert bits(policy, scope) == (2 if matched else 32)


def test_scope_is_searched_anywhere():
    assert bits(Policy((Rule(scope='shortcut', weight='lq(bits=2)'),)), 'group1/convshortcut') == 2


@pytest.mark.parametrize('role', ROLES)
def test_low_bit_leaves_stem_gate_and_head(role):
    policy = low_bit('lq(bits=2)', 'lq(bits=3)')
    assert bits(policy, 'any', role) == (2 if role in ('body', 'shortcut', 'depthwise') else 32)
    assert (policy.activation('any', role) is None) == (role in ('stem', 'gate', 'head', 'image'))


def test_policy_survives_json():
    policy = Policy(
        (
            Rule(
                roles=('body', 'head'), weight='lq(bits=2)', activation='lq(bits=4, private=True)'
            ),
            Rule(scope='^group3', weight='float'),
        )
    )
    again = Policy.from_json(json.loads(json.dumps(policy.to_json())))
    assert again == policy
    assert hash(again) == hash(policy)


def test_policy_does_not_change():
    with pytest.raises(AttributeError):
        Policy().rules = ()
    with pytest.raises(AttributeError):
        Rule().weight = 'float'


@pytest.mark.parametrize(
    'spec, expected',
    [
        ('lq', (2, 0.9, False, 'all')),
        ('lq()', (2, 0.9, False, 'all')),
        ('lq(bits=4)', (4, 0.9, False, 'all')),
        ("lq(bits=1, decay=.5, private=True, update='strongest')", (1, 0.5, True, 'strongest')),
    ],
)
def test_valid_specs(spec, expected):
    q = registry.parse(spec)
    assert (q.bits, q.decay, q.private, q.update) == expected


def test_float_spec_is_none():
    assert registry.parse('float') is None


@pytest.mark.parametrize(
    'spec, message',
    [
        ('lq(bits=9)', 'bits=9 must be a whole number from 1 to 8'),
        ('lq(bits=0)', 'bits=0 must'),
        ('lq(3)', 'expected .* form such as'),
        ('nope(bits=2)', "'nope' is unknown; there are float, .*lq, lsq"),
        ('lq(bits=2', 'expected .* form such as'),
        ('lq(foo=1)', 'lq has no option .foo.; it has bits, decay'),
        ('lq(bits=two)', 'expected .* form such as'),
        ('quant.lq.levels(bits=2)', 'expected .* form such as'),
        ('', 'expected .* form such as'),
        ("lq(update='weakest')", "update='weakest' must be 'all' or 'strongest'"),
    ],
)
def test_invalid_specs_say_what_would_be_right(spec, message):
    with pytest.raises(ValueError, match=message) as caught:
        registry.parse(spec)
    assert repr(spec) in str(caught.value)
    with pytest.raises(ValueError, match=message):
        Rule(activation=spec)


@pytest.mark.parametrize('spec', ['lq(bits=2, bits=3)', "lq(private='no')"])
def test_doubtful_specs_are_refused(spec):
    with pytest.raises(ValueError):
        registry.parse(spec)


def test_unknown_role_is_named():
    with pytest.raises(ValueError, match="role 'neck' is unknown; there are stem, body"):
        Rule(roles=('body', 'neck'))


def test_scope_that_is_no_regular_expression():
    with pytest.raises(ValueError, match=r'\(group'):
        Rule(scope='(group')


def loads_tensorflow(code):
    program = f'{code}\nimport sys\nprint("tensorflow" in sys.modules)'
    done = subprocess.run(
        [sys.executable, '-c', program], check=True, capture_output=True, text=True
    )
    return done.stdout.split() == ['True']


def test_importing_the_packages_leaves_tensorflow_alone():
    assert not loads_tensorflow(
        'import quant, quant.policy, quant.specs, nets, nets.points, nets.cost'
    )


def test_naming_a_quantizer_leaves_tensorflow_alone():
    assert not loads_tensorflow(
        'from quant import specs\nfor name in specs.names(): specs.parse(name)'
    )
