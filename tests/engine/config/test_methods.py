"""Recipes of quantizers: what their sources say, at other bits, in chains and with a teacher."""

import pytest

from engine.config.presets import PRESETS
from engine.config.resolve import resolve
from engine.training import stages
from quant import specs as registry
from quant.state import Kind

METHODS = [name for name in registry.names() if registry.recipe(name)]


def config(**given):
    return resolve({'data': 'fake', **given})[0]


def test_methods_whose_sources_say_no_recipe_have_none():
    others = {'affine', 'lsqplus', 'ttq', 'twn', 'xnor'}
    assert set(METHODS) == set(registry.names()) - others
    assert set(METHODS) <= set(PRESETS)


@pytest.mark.parametrize(
    'name, qw, qa, expected',
    [
        ('lsq', 4, 4, {'wd': 1e-4, 'decay': 'all', 'nesterov': False}),
        ('lsq', 3, 3, {'wd': 5e-5, 'stem_bits': 8, 'head_bits': 8}),
        ('lsq', 2, 2, {'wd': 2.5e-5}),
        ('lsq', 2, 32, {'wd': 2.5e-5}),
        ('apot', 4, 4, {'lr': 0.01, 'wd': 1e-4, 'batch_size': 1024}),
        ('apot', 2, 2, {'lr': 0.04, 'wd': 2e-5}),
        ('n2uq', 4, 4, {'optimizer': 'adam', 'activation': 'rprelu', 'wd': 0.0}),
        ('ewgs', 4, 4, {'quantizer_optimizer': 'adam', 'quantizer_lr': 1e-5, 'lr': 0.01}),
        ('anyprecision', 8, 8, {'wd': 1e-4, 'lr': 0.1}),
        ('anyprecision', 1, 1, {'wd': 1e-5}),
        ('reactnet', 32, 1, {'wd': 1e-5, 'batch_size': 512}),
        ('reactnet', 1, 1, {'wd': 0.0}),
    ],
)
def test_what_follows_from_the_bits(name, qw, qa, expected):
    found = config(preset=name, qw=qw, qa=qa)
    assert {key: getattr(found, key) for key in expected} == expected


def test_flags_beat_what_follows_from_the_bits():
    assert config(preset='lsq', qw=4, qa=4, wd=0.5).wd == 0.5


def test_several_precisions_take_the_place_of_one():
    found = config(preset='adabits', bits=('8', '6', '5', '4'), bits_loss='sum')
    assert (found.qw, found.qa, found.lr, found.stem_bits) == (8, 8, 0.05, 8)
    policy = found.quantization.to_policy()
    assert [policy.at(bits).weight('x', 'body').bits for bits in (8, 6, 5, 4)] == [8, 6, 5, 4]


def specs(name, role, **given):
    policy = config(preset=name, **given).quantization.to_policy()
    return policy.weight('x', role), policy.activation('x', role)


def test_starts_rates_and_decays_of_what_is_learned():
    weight, activation = specs('pact', 'body')
    assert type(weight).__name__ == 'DoReFa'
    assert (activation.start, activation.decay_factor) == (8.0, 1.0)
    weight, activation = specs('n2uq', 'body')
    assert weight.divided and activation.lr_factor == 0.1
    weight, activation = specs('apot', 'body')
    assert (activation.start, activation.decay_factor) == (6.0, 1.0)
    weight, activation = specs('adabits', 'body')
    assert (weight.scheme, activation.start, activation.decay_factor) == ('modified', 8.0, 0.0)
    assert specs('lsq', 'body')[0].decay_factor == 1.0


@pytest.mark.parametrize('name', METHODS)
def test_the_first_and_the_last_layer(name):
    bits = {'adabits': (8, 8), 'lsq': (8, 8), 'apot': (8, 32)}.get(name)
    stem, _ = specs(name, 'stem')
    head, of_input = specs(name, 'head')
    if bits is None:
        assert stem is head is of_input is None
    else:
        found = of_input.bits if of_input else 32
        assert (stem.bits, head.bits, found) == (bits[0], bits[0], bits[1])
    float_shortcut = specs(name, 'shortcut')[0] is None
    assert float_shortcut == (name in ('anyprecision', 'sawb', 'bireal', 'reactnet'))


@pytest.mark.parametrize('name', ['n2uq', 'reactnet'])
def test_a_teacher_takes_the_place_of_the_labels(name):
    assert config(preset=name).label_weight == 1
    assert config(preset=name, teacher='RUN').label_weight == 0
    assert config(preset=name, teacher='RUN', label_weight=0.5).label_weight == 0.5


@pytest.mark.parametrize(
    'name, expected',
    [
        ('apot', [('w5a5', 0.01), ('w4a4', 0.01), ('w3a3', 0.01), ('w2a2', 0.04)]),
        ('reactnet', [('w32a1', 2.5e-3), ('w1a1', 2.5e-3)]),
        ('lsq', []),
    ],
)
def test_chains(name, expected):
    given = {'preset': name, 'data': 'fake'}
    found = []
    for stage in stages.chain(given, None):
        if stage.end:
            found.append((stage.end[1:], resolve(stage.given)[0].lr))
    assert found == expected
    assert len(stages.chain({**given, 'qw': 2, 'qa': 2}, None)) == 1
    assert [stage.end for stage in stages.chain(given, ('2', '1'))] == ['-w2a2', '-w1a1']


@pytest.mark.parametrize('rate, factor', [(0.0, 1.0), (1e-3, 0.02)])
def test_what_quantizers_learn_has_its_own_optimizer_and_rate(rate, factor):
    from quant.backend import new_graph
    from quant.state import declared
    from tests.engine.graph.test_tower import build

    with new_graph():
        model = build(
            quantizer='lsq(lr_factor=0.5)',
            qw=2,
            qa=2,
            lr=0.05,
            quantizer_optimizer='adam',
            quantizer_lr=rate,
        )
        kinds = {}
        for name, state in declared().items():
            kinds[name] = state.kind
        seen = set()
        for variable, own in model._settings.items():
            name = variable.deref().op.name
            learned = kinds.get(name) is Kind.QUANTIZER
            seen.add(learned)
            assert (type(own.rule).__name__ == 'Adam') == learned
            assert own.rate == pytest.approx(0.5 * factor if learned else 1.0)
        assert seen == {True, False}


def test_a_rule_of_its_own(run):
    """A step of Adam and one of plain gradient, side by side."""
    from engine.optimization.optimizers import OptimizerOptions
    from engine.optimization.rule import PerVariable, RuleOptimizer
    from quant.backend import tf

    options = OptimizerOptions(momentum=0.0, nesterov=False, quantizer_optimizer='adam')
    weight, step = [tf.get_variable(name, initializer=2.0) for name in ('weight', 'step')]
    settings = {
        weight.ref(): PerVariable(),
        step.ref(): PerVariable(0.5, None, options.quantizer_rule()),
    }
    optimizer = RuleOptimizer(
        options.rule(),
        tf.constant(0.1),
        count=lambda: tf.constant(1),
        settings=lambda variable: settings[variable.ref()],
    )
    update = optimizer.apply_gradients([(tf.constant(4.0), weight), (tf.constant(4.0), step)])
    run(update)
    assert run([weight, step]) == pytest.approx([2 - 0.1 * 4, 2 - 0.5 * 0.1], rel=1e-6)


def test_no_rule_of_its_own_where_it_is_the_same():
    from engine.optimization.optimizers import OptimizerOptions

    assert OptimizerOptions().quantizer_rule() is None
    assert OptimizerOptions(optimizer='adam', quantizer_optimizer='adam').quantizer_rule() is None
