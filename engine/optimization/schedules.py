"""Schedules of the learning rate by name: functions of the step."""

import dataclasses
import math
from collections.abc import Callable

from quant.options import option

# The published course of the RS-Nets quantization code: rates from these epochs of 120 on.
PUBLISHED = ((105, 1e-6), (95, 1e-5), (85, 1e-4), (60, 1e-3), (30, 1e-2))
PUBLISHED_EPOCHS = 120


def names() -> list[str]:
    """Names of all schedules."""
    return list(_SCHEDULES)


def summary(name: str) -> str:
    """One line about a schedule."""
    return (_SCHEDULES[name].__doc__ or '').splitlines()[0].rstrip('.')


@dataclasses.dataclass(frozen=True)
class ScheduleOptions:
    """The length of a training, and the course of its learning rate."""

    lr: float = option(0.1, 'learning rate', above=0)
    schedule: str = option('step', 'its course over the training', choices=names)
    warmup: float = option(0.0, 'epochs in which it grows from 0, or from --min_lr', low=0)
    milestones: tuple[int, ...] = option(
        (30, 60, 85, 95, 105), 'of --schedule milestones: epochs after which it drops', low=0
    )
    gamma: float = option(0.1, 'of --schedule milestones: factor at each of them', above=0)
    min_lr: float = option(0.0, 'of --schedule cosine_epochs: lowest rate', low=0)
    cooldown: int = option(0, 'of --schedule cosine_epochs: last epochs, at --min_lr', low=0)
    epochs: int = option(120, 'length of the training', low=1)
    steps_per_epoch: int = option(
        5000, 'steps of an epoch; default: one pass over the training images', low=1
    )

    @property
    def steps(self) -> int:
        """Steps of the whole training."""
        return self.epochs * self.steps_per_epoch

    def rate(self) -> Callable[[int], float]:
        """The learning rate as a function of the step, which counts from 0."""
        make = _SCHEDULES[self.schedule]
        return make(self)


def _warmed_up(options: ScheduleOptions, after: Callable[[int], float]) -> Callable[[int], float]:
    """A linear warm-up from 0 to ``lr``, then ``after``."""
    warm = options.warmup * options.steps_per_epoch

    def rate(step: int) -> float:
        if step < warm:
            return options.lr * step / warm
        return after(step)

    return rate


def _done(options: ScheduleOptions) -> Callable[[int], float]:
    """Share of what follows the warm-up that a step has behind it."""
    warm = options.warmup * options.steps_per_epoch
    rest = max(options.steps - warm, 1)
    return lambda step: (step - warm) / rest


def published(options: ScheduleOptions) -> Callable[[int], float]:
    """``lr`` until epoch 30 of 120, then the absolute rates ``PUBLISHED``.

    The epochs scale with the length of the training.
    """

    def rate(step: int) -> float:
        for epoch, value in PUBLISHED:
            if PUBLISHED_EPOCHS * step >= epoch * options.steps:
                return value
        return options.lr

    return _warmed_up(options, rate)


def cosine(options: ScheduleOptions) -> Callable[[int], float]:
    """Half a cosine from ``lr`` to 0 after the warm-up."""
    done = _done(options)
    return _warmed_up(options, lambda step: options.lr * 0.5 * (1 + math.cos(math.pi * done(step))))


def linear(options: ScheduleOptions) -> Callable[[int], float]:
    """A straight line from ``lr`` to 0 after the warm-up."""
    done = _done(options)
    return _warmed_up(options, lambda step: options.lr * (1 - done(step)))


def milestones(options: ScheduleOptions) -> Callable[[int], float]:
    """``lr``, times ``gamma`` at each of the epochs ``milestones``."""

    def rate(step: int) -> float:
        passed = sum(step >= epoch * options.steps_per_epoch for epoch in options.milestones)
        return options.lr * options.gamma**passed

    return _warmed_up(options, rate)


def cosine_epochs(options: ScheduleOptions) -> Callable[[int], float]:
    """Half a cosine from ``lr`` to ``min_lr`` that is constant within an epoch, as timm has it.

    A straight line from ``min_lr`` takes the place of its first ``warmup`` epochs; the last
    ``cooldown`` epochs, which ``epochs`` counts too, are at ``min_lr``.
    """
    length = options.epochs - options.cooldown

    def rate(step: int) -> float:
        epoch = step // options.steps_per_epoch
        share = 0.0
        if epoch < options.warmup:
            share = epoch / options.warmup
        elif epoch < length:
            share = 0.5 * (1 + math.cos(math.pi * epoch / length))
        return options.min_lr + share * (options.lr - options.min_lr)

    return rate


# One line per schedule.
_SCHEDULES = {
    'step': published,
    'cosine': cosine,
    'linear': linear,
    'milestones': milestones,
    'cosine_epochs': cosine_epochs,
}
