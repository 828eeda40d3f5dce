"""The course of the learning rate: every schedule, warm-up, and the published values."""

import dataclasses
import math

import pytest

from engine.optimization.schedules import ScheduleOptions, names
from quant.options import check


def oracle_step(epoch: int) -> float:
    """The published schedule: value from each epoch on."""
    rate = 0.1
    for start, value in {30: 1e-2, 60: 1e-3, 85: 1e-4, 95: 1e-5, 105: 1e-6}.items():
        if epoch >= start:
            rate = value
    return rate


@pytest.mark.parametrize('steps', [1, 7, 5000])
def test_step_schedule_at_every_epoch(steps):
    rate = ScheduleOptions(steps_per_epoch=steps).rate()
    for epoch in range(120):
        assert rate(epoch * steps) == rate(epoch * steps + steps - 1) == oracle_step(epoch)


@pytest.mark.parametrize('lr', [0.4, 0.02, 1e-3, 1e-7])
def test_every_part_is_a_factor_of_lr(lr):
    rate = ScheduleOptions(lr=lr, steps_per_epoch=10).rate()
    assert [rate(10 * epoch) for epoch in (0, 29, 30, 60, 85, 95, 105, 119)] == pytest.approx(
        [lr, lr, lr / 10, lr / 100, lr / 1e3, lr / 1e4, lr / 1e5, lr / 1e5]
    )


@pytest.mark.parametrize('lr', [0.1, 0.001])
def test_a_run_of_an_earlier_version_keeps_its_absolute_rates(lr):
    rate = ScheduleOptions(lr=lr, steps_per_epoch=10, absolute=True).rate()
    assert [rate(10 * epoch) for epoch in (0, 29, 30, 60, 85, 95, 105)] == [
        lr,
        lr,
        1e-2,
        1e-3,
        1e-4,
        1e-5,
        1e-6,
    ]


@pytest.mark.parametrize('epochs', [24, 60, 240])
def test_step_schedule_scales_with_the_epochs(epochs):
    rate = ScheduleOptions(epochs=epochs, steps_per_epoch=10).rate()
    for step in range(0, epochs * 10, 5):
        assert rate(step) == oracle_step(step * 120 // (epochs * 10))


@pytest.mark.parametrize('schedule', sorted(set(names()) - {'cosine_epochs'}))
def test_schedules_of_steps_warm_up_from_zero(schedule):
    rate = ScheduleOptions(schedule=schedule, warmup=2, steps_per_epoch=5).rate()
    assert [rate(step) for step in range(11)] == pytest.approx([0.01 * k for k in range(11)])


@pytest.mark.parametrize('warmup', [0.3, 0.5])
def test_warm_up_that_ends_within_a_step(warmup):
    rate = ScheduleOptions(warmup=warmup, steps_per_epoch=3, schedule='linear', epochs=10).rate()
    warm = 3 * warmup
    assert [rate(k) for k in range(3)] == pytest.approx(
        [0.1 * k / warm if k < warm else 0.1 * (30 - k) / (30 - warm) for k in range(3)]
    )


def test_without_warm_up_the_first_step_has_the_whole_rate():
    assert {ScheduleOptions(schedule=schedule).rate()(0) for schedule in names()} == {0.1}


@pytest.mark.parametrize('warmup', [0.0, 0.5, 2.0])
def test_cosine_with_warm_up(warmup):
    epochs, steps, lr = 5, 8, 0.3
    rate = ScheduleOptions(
        schedule='cosine', warmup=warmup, epochs=epochs, steps_per_epoch=steps, lr=lr
    ).rate()
    warm, total = int(warmup * steps), epochs * steps
    expected = [lr * k / warm for k in range(warm)]
    expected += [
        lr * math.cos(math.pi / 2 * (k - warm) / (total - warm)) ** 2 for k in range(warm, total)
    ]
    assert [rate(k) for k in range(total)] == pytest.approx(expected)
    assert rate(total) == pytest.approx(0)


def test_cosine_that_is_all_warm_up():
    rate = ScheduleOptions(schedule='cosine', warmup=2, epochs=1, steps_per_epoch=4, lr=0.8).rate()
    assert [rate(k) for k in range(4)] == pytest.approx([0, 0.1, 0.2, 0.3])


@pytest.mark.parametrize('warmup', [0.0, 0.5, 2.0])
def test_linear_with_warm_up(warmup):
    rate = ScheduleOptions(
        schedule='linear', warmup=warmup, epochs=5, steps_per_epoch=8, lr=0.3
    ).rate()
    warm = int(warmup * 8)
    expected = [0.3 * k / warm for k in range(warm)] + [
        0.3 * (40 - k) / (40 - warm) for k in range(warm, 40)
    ]
    assert [rate(k) for k in range(40)] == pytest.approx(expected)
    assert rate(40) == pytest.approx(0)


@pytest.mark.parametrize(
    'warmup, milestones', [(0, (2, 4)), (1, (4, 2)), (3, (2, 4)), (0, (0, 9)), (0, ())]
)
def test_milestones(warmup, milestones):
    """Relative to ``lr``, in any order, counted over a warm-up too; unreached ones do nothing."""
    rate = ScheduleOptions(
        schedule='milestones',
        warmup=warmup,
        milestones=milestones,
        gamma=0.2,
        epochs=6,
        steps_per_epoch=7,
        lr=0.5,
    ).rate()
    for step in range(42):
        passed = len([m for m in milestones if m <= step // 7])
        expected = 0.5 * step / (7 * warmup) if step < 7 * warmup else 0.5 * 0.2**passed
        assert rate(step) == pytest.approx(expected)


@pytest.mark.parametrize('schedule', names())
@pytest.mark.parametrize('steps', [1, 3, 125])
def test_the_rate_never_exceeds_lr(steps, schedule):
    rate = ScheduleOptions(schedule=schedule, warmup=0.5, epochs=4, steps_per_epoch=steps).rate()
    assert (
        0
        <= min(rate(step) for step in range(4 * steps))
        <= max(rate(step) for step in range(4 * steps))
        <= 0.1
    )


DSNET = ScheduleOptions(
    schedule='cosine_epochs',
    lr=0.08,
    min_lr=1e-5,
    warmup=5,
    epochs=160,
    cooldown=10,
    steps_per_epoch=7,
)


def test_cosine_epochs_has_the_published_values():
    """FACTS_DSNET, section 3."""
    rate = DSNET.rate()
    for epoch, expected in enumerate([1e-5, 0.016008, 0.032006, 0.048004, 0.064002, 0.079781]):
        assert rate(7 * epoch) == rate(7 * epoch + 6) == pytest.approx(expected, abs=5e-7)
    for epoch in range(5, 150):
        assert rate(7 * epoch) == pytest.approx(
            1e-5 + 0.07999 * math.cos(math.pi / 2 * epoch / 150) ** 2
        )
    assert 1e-5 < rate(7 * 150 - 1) < 2e-5
    assert {rate(step) for step in range(7 * 150, 7 * 160)} == {1e-5}


@pytest.mark.parametrize(
    'warmup, expected', [(0, [0.3, 0.2, 0.1, 0.1]), (1.5, [0.1, 0.1 + 0.2 / 1.5, 0.1, 0.1])]
)
def test_cosine_epochs_of_any_warm_up(warmup, expected):
    config = dataclasses.replace(
        DSNET, lr=0.3, min_lr=0.1, warmup=warmup, epochs=4, cooldown=2, steps_per_epoch=1
    )
    assert [config.rate()(step) for step in range(4)] == pytest.approx(expected)


@pytest.mark.parametrize('schedule', names())
@pytest.mark.parametrize('lr', [3.0, 0.1, 1e-3, 1e-6])
@pytest.mark.parametrize('epochs, warmup', [(1, 0.0), (7, 0.3), (40, 3.0), (3, 5.0)])
def test_it_is_a_factor_of_lr_that_falls_after_the_warm_up(schedule, lr, epochs, warmup):
    options = ScheduleOptions(
        schedule=schedule, epochs=epochs, warmup=warmup, steps_per_epoch=11, milestones=(1, 5)
    )
    rate = dataclasses.replace(options, lr=lr).rate()
    unit = dataclasses.replace(options, lr=1.0).rate()
    rates = [rate(step) for step in range(options.steps)]
    assert rates == pytest.approx([lr * unit(step) for step in range(options.steps)])
    warm = math.ceil(warmup) * 11
    assert rates[warm:] == sorted(rates[warm:], reverse=True)
    assert max(rates) <= lr


def test_it_is_told_in_one_line():
    for schedule in names():
        line = ScheduleOptions(schedule=schedule, lr=0.3, epochs=60, warmup=2).line()
        assert '\n' not in line
        assert f'--schedule {schedule} --epochs 60' in line
        assert '0.3 at epoch 2' in line or schedule == 'cosine_epochs'
    text = ScheduleOptions(lr=0.001, epochs=12).line()
    assert '0.001 at the start, 0.0001 at epoch 3, 1e-05 at epoch 6, 1e-06 at epoch 8.5' in text


def test_a_rising_factor_is_refused():
    with pytest.raises(ValueError, match='gamma 2.0: must be greater than 0 and at most 1'):
        check(ScheduleOptions(schedule='milestones', gamma=2.0))
