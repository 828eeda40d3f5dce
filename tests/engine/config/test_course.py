"""The learning rate of every published recipe, and of the recipes at other lengths and rates."""

import functools
import math

import pytest

from engine.config.presets import PRESETS
from engine.config.resolve import resolve


def course(**given):
    """Options of the schedule, and the rate at the first step of every epoch."""
    config, _, _ = resolve({'data': 'fake', **given})
    rate = config.course.rate()
    steps = config.steps_per_epoch
    return config.course, [rate(epoch * steps) for epoch in range(config.epochs)]


def drops(lr, epochs, *marks):
    """``lr``, a tenth of it from each of these epochs on."""
    return [lr * 0.1 ** sum(epoch >= mark for mark in marks) for epoch in range(epochs)]


def cosine(lr, epochs):
    return [lr * (1 + math.cos(math.pi * epoch / epochs)) / 2 for epoch in range(epochs)]


def linear(lr, epochs):
    return [lr * (1 - epoch / epochs) for epoch in range(epochs)]


def timm(lr, low, warm, epochs, cooldown):
    """FACTS_DSNET, section 3 and 4."""
    length = epochs - cooldown
    found = []
    for epoch in range(epochs):
        value = low + 0.5 * (lr - low) * (1 + math.cos(math.pi * epoch / length))
        if epoch < warm:
            value = low + epoch * (lr - low) / warm
        if epoch >= length:
            value = low
        found.append(value)
    return found


# FACTS_RSQ section 7, FACTS_RSF and FACTS_SAN section 6, FACTS_AIG, FACTS_MSD section 3.
QUANTIZED = drops(0.1, 120, 30, 60, 85, 95, 105)
PUBLISHED = {
    **dict.fromkeys(['rs18_w2a32', 'rs18_w2a2', 'rs50_w2a32', 'rs50_w2a2'], QUANTIZED),
    **dict.fromkeys(['rsnet18', 'rsnet50', 'san18', 'san50'], cosine(0.1, 120)),
    **dict.fromkeys(['rsnet_mobilenetv2', 'san_mobilenetv2'], cosine(0.05, 150)),
    **dict.fromkeys(
        [name for name in PRESETS if name.startswith(('aig50', 'aig101'))],
        drops(0.1, 100, 30, 60, 90),
    ),
    'aig110_cifar10': drops(0.1, 350, 150, 250),
    **dict.fromkeys(
        [name for name in PRESETS if name.startswith('msd_cifar')], drops(0.1, 300, 150, 225)
    ),
    **dict.fromkeys(
        [name for name in PRESETS if name.startswith('msd_imagenet')], drops(0.1, 90, 30, 60)
    ),
    'dsnet_mbv1': timm(0.08, 1e-5, 5, 160, 10),
    'dsnet_mbv1_gate': timm(0.08, 1e-5, 0, 40, 10),
    # FACTS_QUANTIZERS, by section.
    **dict.fromkeys(['lq', 'pact', 'sawb'], QUANTIZED),
    'adabits': cosine(0.05, 150),
    'anyprecision': drops(0.1, 120, 30, 60, 85, 95, 105),
    'lsq': cosine(0.01, 90),
    'n2uq': linear(1.25e-3, 128),
    'apot': drops(0.04, 100, 30, 60, 90),
    'dorefa': [*60 * [2e-4], *15 * [4e-5], *15 * [8e-6]],
    'ewgs': cosine(0.01, 100),
    'bireal': linear(1e-3, 256),
    'reactnet': linear(2.5e-3, 128),
}
# Share of the rate that is left, of recipes that end high.
PUBLISHED_ENDS = {'dorefa': 0.04}
MEASURED = [name for name in PRESETS if name.startswith(('demo', 'study'))]


def test_every_recipe_is_pinned():
    assert {*PUBLISHED, *MEASURED} == set(PRESETS)


@pytest.mark.parametrize('preset', PUBLISHED)
def test_a_published_recipe_is_exactly_what_it_was(preset):
    assert course(preset=preset)[1] == pytest.approx(PUBLISHED[preset], rel=1e-12)


@pytest.mark.parametrize('preset', MEASURED)
def test_a_measured_recipe_is_exactly_what_it_was(preset):
    """A cosine after half an epoch of warm-up."""
    options, rates = course(preset=preset, data='animals28')
    epochs = PRESETS[preset].values['epochs']
    lr = PRESETS[preset].values.get('lr', 0.05)
    assert (options.warmup, options.epochs, options.lr) == (0.5, epochs, lr)
    after = [
        lr * (1 + math.cos(math.pi * (epoch - 0.5) / (epochs - 0.5))) / 2
        for epoch in range(1, epochs)
    ]
    assert rates == pytest.approx([0.0, *after], rel=1e-3)


@functools.cache
def shares(preset, lr, epochs):
    """Share of ``lr`` at ten places of a training."""
    options, _ = course(preset=preset, lr=lr, epochs=epochs)
    rate = options.rate()
    return [rate(k * options.steps // 10) / lr for k in range(10)]


@pytest.mark.parametrize('preset', PUBLISHED)
@pytest.mark.parametrize('lr, epochs', [(1e-6, 40), (5.0, 40), (0.003, 80)])
def test_a_recipe_of_another_rate_and_length_has_the_same_shape(preset, lr, epochs):
    values = PRESETS[preset].values
    published = shares(preset, values.get('lr', 0.1), values['epochs'])
    assert shares(preset, lr, epochs) == pytest.approx(published, abs=0.04)


@pytest.mark.parametrize('preset', PUBLISHED)
@pytest.mark.parametrize('epochs', [1, 2, 5])
def test_a_short_run_of_a_recipe_falls(preset, epochs):
    options, _ = course(preset=preset, epochs=epochs, lr=0.01, steps_per_epoch=100)
    rate = options.rate()
    rates = [rate(step) for step in range(options.steps)]
    highest = rates.index(max(rates))
    assert rates[: highest + 1] == sorted(rates[: highest + 1])
    assert rates[highest:] == sorted(rates[highest:], reverse=True)
    if options.schedule == 'cosine_epochs':  # one rate per epoch, that of its first step
        assert max(rates) <= 0.01
    else:
        assert max(rates) == pytest.approx(0.01)
        if preset in PUBLISHED_ENDS:
            assert rates[-1] == pytest.approx(PUBLISHED_ENDS[preset] * max(rates))
        else:
            assert rates[-1] < 0.02 * max(rates)
    assert options.cooldown < epochs
    assert options.warmup < 0.1 * epochs


@pytest.mark.parametrize(
    'given, milestones',
    [
        ({'net': 'aig', 'data': 'animals28', 'epochs': 10}, (3, 6, 9)),
        ({'data': 'animals28', 'epochs': 12}, (3, 6, 8.5, 9.5, 10.5)),
        ({'data': 'animals28', 'epochs': 12, 'milestones': (5, 7)}, (5, 7)),
    ],
)
def test_milestones_lie_within_the_run(given, milestones):
    config, _, _ = resolve({'schedule': 'milestones', **given})
    assert config.milestones == pytest.approx(milestones)


def test_marks_that_are_asked_for_stay():
    given = {'warmup': 3.0, 'cooldown': 2, 'min_lr': 1e-4}
    config, _, _ = resolve({'preset': 'dsnet_mbv1', 'data': 'fake', 'epochs': 20, **given})
    assert (config.warmup, config.cooldown, config.min_lr) == (3.0, 2, 1e-4)
