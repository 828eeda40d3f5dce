"""Options of quantization: which rules they stand for, and what wrong ones say."""

import dataclasses
import json

import pytest

from engine.files import read_json
from quant import QuantizationOptions, Rule, low_bit


def test_float_is_the_default():
    policy = QuantizationOptions().to_policy()
    assert policy == low_bit('float', 'float')


@pytest.mark.parametrize(
    'options, weight, activation',
    [
        ({'qw': 2, 'qa': 3}, 'lq(bits=2)', 'lq(bits=3)'),
        ({'qw': 2}, 'lq(bits=2)', 'float'),
        ({'qa': 2, 'private_basis': True}, 'float', 'lq(bits=2, private=True)'),
        ({'qa': 2, 'fixed_qa': True}, 'float', "lq(bits=2, update='strongest')"),
        ({'weight_quantizer': 'lq(bits=4)'}, 'lq(bits=4)', 'float'),
        ({'qw': 4, 'weight_quantizer': 'lq'}, 'lq(bits=4)', 'float'),
        ({'qa': 2, 'activation_quantizer': 'lq(decay=0.5)'}, 'float', 'lq(bits=2, decay=0.5)'),
    ],
)
def test_body_gets_the_specs(options, weight, activation):
    assert QuantizationOptions(**options).to_policy() == low_bit(weight, activation)


def test_bits_of_a_spec_are_those_of_the_body():
    options = QuantizationOptions(weight_quantizer='lq(bits=2)', activation_quantizer='float')
    assert (options.qw, options.qa) == (2, 32)


def test_stem_and_head_have_bits_of_their_own():
    policy = QuantizationOptions(qw=2, qa=2, stem_bits=8, head_bits=4).to_policy()
    assert policy.weight('conv0', 'stem').bits == 8
    assert policy.activation('relu0', 'stem') is None
    assert policy.activation('image', 'image') is None
    assert policy.weight('linear', 'head').bits == 4
    assert policy.activation('linear', 'head').bits == 4
    assert policy.weight('group0/block0/conv1', 'body').bits == 2
    assert policy.weight('gate', 'gate') is None


def test_further_rules_come_last():
    rules = (Rule(scope='^group3/', weight='float'),)
    policy = QuantizationOptions(qw=2, policy=rules).to_policy()
    assert policy.weight('group3/block0/conv1', 'body') is None
    assert policy.weight('group2/block0/conv1', 'body').bits == 2


def test_options_survive_json():
    rules = (Rule(scope='x', roles=('head',), weight='lq(bits=3)'),)
    options = QuantizationOptions(qw=2, qa=2, policy=rules, stem_bits=8)
    plain = json.loads(json.dumps(dataclasses.asdict(options)))
    assert QuantizationOptions(**plain) == options


@pytest.mark.parametrize(
    'options, message',
    [
        ({'qw': 9}, 'qw 9: bits must be 1 to 8, or 32 for float'),
        ({'head_bits': 0}, 'head_bits 0: bits must be 1 to 8'),
        (
            {'qw': 2, 'quantizer': 'lqq'},
            "quantizer lqq: .*'lqq' is unknown; did you mean lq or lsq. There are float",
        ),
        (
            {'qa': 2, 'quantizer': 'lqq'},
            "quantizer lqq: 'lqq' is unknown; did you mean lq or lsq. There are float",
        ),
        ({'quantizer': 'lq('}, r'quantizer lq\(: .* form such as'),
        ({'weight_quantizer': 'lq('}, r'weight_quantizer lq\(: .* form such as'),
        (
            {'weight_quantizer': 'lq'},
            r'weight_quantizer lq: says no bits; give --qw, or lq\(bits=2\)',
        ),
        (
            {'weight_quantizer': 'lq(bit=3)'},
            r"weight_quantizer lq\(bit=3\): .*lq has no option 'bit'; did you mean bits",
        ),
        (
            {'qa': 3, 'activation_quantizer': 'lq(bits=2)'},
            'activation_quantizer lq.bits=2.: qa is 3; give ',
        ),
        (
            {'weight_quantizer': 'lq(bits=32)'},
            'weight_quantizer lq.bits=32.: .* must be a whole number from 1 to 8',
        ),
        ({'qw': 2, 'quantizer': 'lq(foo=1)'}, "quantizer lq.foo=1.: .*lq has no option 'foo'"),
        ({'qa': 2, 'fixed_qa': True, 'private_basis': True}, 'fixed_qa with private_basis: '),
        (
            {'qw': 2, 'quantizer': 'dorefa', 'head_bits': 8},
            'quantizer dorefa: .* role head: no normalisation follows .*; give, without these '
            r'bits, --policy FILE with \[{"roles": \["head"\], "weight": "affine.bits=8."}\]',
        ),
        ({'qw': 2, 'quantizer': 'apot', 'stem_bits': 8}, 'quantizer apot: .*; give, without'),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=f'^{message}'):
        QuantizationOptions(**options).to_policy()


def test_quantizers_of_32_bits_are_asked_for_by_name():
    options = QuantizationOptions(weight_quantizer='anyprecision(bits=32)', qa=2)
    assert options.qw == 32
    assert options.to_policy() == low_bit('anyprecision(bits=32)', 'lq(bits=2)')
    plain = QuantizationOptions(quantizer='anyprecision')
    assert plain.to_policy() == low_bit('float', 'float')


def read_rules(file) -> tuple[Rule, ...]:
    return tuple(read_json(file, list[Rule], 'expected: rules'))


def test_rules_are_read(tmp_path):
    file = tmp_path / 'rules.json'
    file.write_text('[{"roles": ["head"], "weight": "lq(bits=4)"}, {"scope": "^g"}]')
    assert read_rules(file) == (Rule(roles=('head',), weight='lq(bits=4)'), Rule(scope='^g'))


@pytest.mark.parametrize(
    'text, message',
    [
        ('[', 'Expecting value'),
        ('{}', '{}, a list expected'),
        ('[{"role": "head"}]', '"row 1.role": .*none but scope, roles, weight, activation'),
        ('[{}, {"roles": "head"}]', '"row 2.roles": \'head\', a list expected'),
        ('[{"weight": 4}]', '"row 1.weight": 4, a text expected'),
        ('[{"weight": "lq(bits=9)"}]', '"row 1": quantizer spec .* from 1 to 8'),
        ('[{"roles": ["neck"]}]', '"row 1": role \'neck\' is unknown'),
        ('[{"scope": "(" }]', '"row 1": scope .* no regular expression'),
        ('[{"scope": "a{99999999999999999999}" }]', '"row 1": scope .* no regular expression'),
        (f'[{{"scope": "{"(" * 100_000}"}}]', '"row 1": scope .* longer than 1000 characters'),
        (
            f'[{{"weight": "{"(" * 100_000}"}}]',
            '"row 1": quantizer spec .* longer than 1000 characters',
        ),
        ('[' * 100_000, 'nested too deeply'),
    ],
)
def test_wrong_rules_are_named(text, message, tmp_path):
    file = tmp_path / 'rules.json'
    file.write_text(text)
    with pytest.raises(ValueError, match=rf'{file}: damaged \({message}'):
        read_rules(file)


def test_missing_file_of_rules(tmp_path):
    with pytest.raises(ValueError, match='nothing.json: cannot be read'):
        read_rules(tmp_path / 'nothing.json')


def test_whole_levels_need_levels():
    with pytest.raises(ValueError, match='snap_epochs 2: needs qw or qa of 8 bits or less'):
        QuantizationOptions(snap_epochs=2).to_policy()
    assert QuantizationOptions(qw=3, snap_epochs=2).to_policy() == low_bit('lq(bits=3)', 'float')
