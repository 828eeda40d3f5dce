"""Schedules of the learning rate by name: factors of ``lr`` over the length of a training."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from quant.options import option

# The published course of the RS-Nets quantization code: its rate is divided by so much from these
# epochs of 120 on.
PUBLISHED = ((105, 1e5), (95, 1e4), (85, 1e3), (60, 1e2), (30, 1e1))
PUBLISHED_EPOCHS = 120
PUBLISHED_LR = 0.1

# Options of a schedule that a recipe sets for its own length and rate.
MARKS = ('warmup', 'milestones', 'min_lr', 'cooldown')


def names() -> list[str]:
    """Names of all schedules."""
    return list(_SCHEDULES)


def summary(name: str) -> str:
    """One line about a schedule."""
    return (_SCHEDULES[name].rate.__doc__ or '').splitlines()[0].rstrip('.')


@dataclasses.dataclass(frozen=True)
class ScheduleOptions:
    """The length of a training, and the course of its learning rate.

    Attributes:
        absolute: runs that did not record it go on as they began: with the published rates of
            ``step`` whatever ``lr`` is, and with the marks of their recipe whatever their length.
    """

    lr: float = option(0.1, 'learning rate', above=0)
    schedule: str = option('step', 'its course over the training', choices=names)
    warmup: float = option(0.0, 'epochs in which it grows from 0, or from --min_lr', low=0)
    milestones: tuple[float, ...] = option(
        (30, 60, 85, 95, 105), 'of --schedule milestones: epochs after which it drops', low=0
    )
    gamma: float = option(0.1, 'of --schedule milestones: factor at each of them', above=0, high=1)
    min_lr: float = option(0.0, 'of --schedule cosine_epochs: lowest rate', low=0)
    cooldown: int = option(0, 'of --schedule cosine_epochs: last epochs, at --min_lr', low=0)
    epochs: int = option(120, 'length of the training', low=1)
    steps_per_epoch: int = option(
        5000, 'steps of an epoch; default: one pass over the training images', low=1
    )
    absolute: bool = option(False, 'rates and marks as earlier versions had them', flag=False)

    @property
    def steps(self) -> int:
        """Steps of the whole training."""
        return self.epochs * self.steps_per_epoch

    def rate(self) -> Callable[[int], float]:
        """The learning rate as a function of the step, which counts from 0."""
        return _SCHEDULES[self.schedule].rate(self)

    def line(self) -> str:
        """The schedule in one line, for people."""
        rate = self.rate()
        marks = {self.warmup, *_SCHEDULES[self.schedule].marks(self)}
        parts = [f'{rate(0):.4g} at the start']
        for mark in sorted(marks):
            step = math.ceil(mark * self.steps_per_epoch)
            if 0 < step < self.steps:
                parts.append(f'{rate(step):.4g} at epoch {mark:.4g}')
        parts.append(f'{rate(self.steps - 1):.2g} in the last step')
        return f'--schedule {self.schedule} --epochs {self.epochs}: rate {", ".join(parts)}'


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
    """``lr``; 1e-1, 1e-2, 1e-3, 1e-4, 1e-5 of it from epoch 30, 60, 85, 95, 105 of 120 on.

    The epochs scale with the length of the training.
    """
    falling = PUBLISHED_LR if options.absolute else options.lr

    def rate(step: int) -> float:
        for epoch, divisor in PUBLISHED:
            if PUBLISHED_EPOCHS * step >= epoch * options.steps:
                return falling / divisor
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


class _Schedule(NamedTuple):
    """An entry of the registry.

    Attributes:
        rate: makes the learning rate as a function of the step.
        marks: epochs at which something happens, for a reader.
    """

    rate: Callable[[ScheduleOptions], Callable[[int], float]]
    marks: Callable[[ScheduleOptions], Iterable[float]]


def _published_epochs(options: ScheduleOptions) -> list[float]:
    return [epoch * options.epochs / PUBLISHED_EPOCHS for epoch, _ in PUBLISHED]


def _halfway(options: ScheduleOptions) -> list[float]:
    return [(options.warmup + options.epochs) / 2]


# One line per schedule.
_SCHEDULES = {
    'step': _Schedule(published, _published_epochs),
    'cosine': _Schedule(cosine, _halfway),
    'linear': _Schedule(linear, _halfway),
    'milestones': _Schedule(milestones, lambda options: options.milestones),
    'cosine_epochs': _Schedule(cosine_epochs, lambda options: [options.epochs - options.cooldown]),
}


def fitted(layers: Iterable[Mapping[str, Any]], given: Mapping[str, Any]) -> dict[str, Any]:
    """Those ``MARKS`` of a schedule that no flag sets, for the length and the rate of a run.

    A recipe sets them for its own length: half of it, a tenth of it. Milestones belong to the
    length that is set with them.

    Args:
        layers: values of options, later ones win: of the network, the data set, the preset.
        given: values of flags.
    """
    recipe: dict[str, Any] = {}
    for field in dataclasses.fields(ScheduleOptions):
        recipe[field.name] = field.default
    length = recipe['epochs']
    for layer in layers:
        recipe.update(layer)
        if 'milestones' in layer:
            length = recipe['epochs']
    epochs = given.get('epochs', recipe['epochs'])
    longer = epochs / recipe['epochs']
    higher = given.get('lr', recipe['lr']) / recipe['lr']
    cooldown = min(round(recipe['cooldown'] * longer), epochs - 1)
    marks = {
        'warmup': recipe['warmup'] * longer,
        'min_lr': recipe['min_lr'] * higher,
        'cooldown': max(cooldown, 0),
    }
    if given.get('schedule', recipe['schedule']) == 'milestones':
        marks['milestones'] = tuple(epoch * epochs / length for epoch in recipe['milestones'])
    return {name: value for name, value in marks.items() if name not in given}
