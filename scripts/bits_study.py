"""The study of bits: one network of several precisions against networks of one precision each.

Every seed has a float network of its own, from which all others are fine-tuned. How precisions of
one network learn together is chosen first, on training images that were set aside before the float
networks were trained; joint networks of all kinds of codes then learn so, and are scored on the
test set once.
"""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import NamedTuple

from engine.results import bits_study
from engine.results.bits_study import (
    ADABITS,
    ANY_PRECISION,
    BITS,
    CUT,
    INDIVIDUAL,
    LONGER,
    NESTED,
    OWN,
    TAUGHT,
    UNTRAINED,
)
from engine.results.study_records import HOLDOUT, TEST, Result
from engine.schema import Amount, Positive
from nets.precisions import LOSSES, TEACHERS
from scripts import study_tasks
from scripts.study_tasks import Kind, Task, parent_name

# Of networks of one precision: how many times the steps, and whether the float network teaches.
ALONE = {INDIVIDUAL: (1, False), TAUGHT: (1, True), LONGER: (3, False)}


class Codes(NamedTuple):
    """Quantizers of a network of several precisions.

    Attributes:
        weight: Spec of that of weights.
        activation: Spec of that of activations.
    """

    weight: str
    activation: str


JOINT = {
    NESTED: Codes('lq(nested=True)', 'lq'),
    OWN: Codes('lq', 'lq'),
    CUT: Codes("lq(nested='cut')", 'lq'),
    ADABITS: Codes('adabits', 'adabits'),
    ANY_PRECISION: Codes('anyprecision', 'anyprecision'),
}

# The teacher's answers count as much as the labels, as between precisions of one network.
TEACHING = ('--teacher_weight', '0.5', '--label_weight', '0.5')

# Of a network of all precisions.
TOGETHER = ('--bits', *map(str, BITS))

# A rate at which no weight changes, and steps in which levels and statistics settle.
STILL, SETTLING = 1e-9, 40


@dataclasses.dataclass(frozen=True)
class Form(study_tasks.Form):
    """How much of a study is run.

    Attributes:
        rate: Of fine-tuning.
        choice_seeds: Networks of every way in which precisions learn together.
        choice_steps: Of their fine-tuning.
    """

    rate: Amount
    choice_seeds: Positive
    choice_steps: Positive


FULL = Form(seeds=5, steps=200, rate=0.02, parent_epochs=5, choice_seeds=2, choice_steps=300)
QUICK = Form(seeds=1, steps=40, rate=0.02, parent_epochs=2, choice_seeds=1, choice_steps=40)
QUICK_IS_NOT = (
    'quick form: one seed and short training. It shows that every method trains; it does not rank '
    'them.'
)


class Plan(study_tasks.Plan[Form]):
    """The tasks: first those that choose how precisions learn together, then seed by seed."""

    def tasks(self) -> Iterator[Task]:
        """All tasks that are known, in their order."""
        for seed in range(self.form.choice_seeds):
            yield self.parent(seed)
            for way in ways():
                yield self._choice(way, seed)
        chosen = bits_study.chosen(self.done.values(), len(ways()) * self.form.choice_seeds)
        for seed in range(self.form.seeds):
            if seed >= self.form.choice_seeds:
                yield self.parent(seed)
            yield from self._of_seed(seed, chosen)

    def total(self) -> int:
        """Number of all tasks, those included that wait for the choice."""
        choices = len(ways()) * self.form.choice_seeds
        of_seed = len(ALONE) * len(BITS) + len(JOINT) + 1
        parents = max(self.form.seeds, self.form.choice_seeds)
        return parents + choices + self.form.seeds * of_seed

    def _of_seed(self, seed: int, chosen: str) -> Iterator[Task]:
        """Trainings of one seed that are scored on the test set.

        Args:
            seed: Of all these trainings.
            chosen: How precisions of one network learn; empty where it is not known yet.
        """
        first, *others = ALONE
        for bits in BITS:
            yield self._alone(first, bits, seed)
        if chosen:
            for recipe in JOINT:
                yield self._joint(recipe, chosen, seed)
        yield self._untrained(seed)
        for recipe in others:
            for bits in BITS:
                yield self._alone(recipe, bits, seed)

    def _choice(self, way: str, seed: int) -> Task:
        name = f'choice-{way}-seed{seed}'
        form, codes = self.form, JOINT[NESTED]
        known = (*codes, max(BITS), seed, form.rate, form.choice_steps)
        result = Result(name, *known, scored=HOLDOUT, recipe=way)
        return self.fine_tuning(result, parent_name(seed), (*TOGETHER, *way_flags(way)))

    def _alone(self, recipe: str, bits: int, seed: int) -> Task:
        times, taught = ALONE[recipe]
        name = f'{recipe}-w{bits}a{bits}-seed{seed}'
        form = self.form
        known = ('lq', 'lq', bits, seed, form.rate, times * form.steps)
        result = Result(name, *known, scored=TEST, recipe=recipe)
        flags = ['--qw', str(bits), '--qa', str(bits)]
        if taught:
            flags += ['--teacher', str(self.folder / parent_name(seed)), *TEACHING]
        return self.fine_tuning(result, parent_name(seed), flags)

    def _joint(self, recipe: str, chosen: str, seed: int) -> Task:
        name = f'{recipe}-seed{seed}'
        form, codes = self.form, JOINT[recipe]
        known = (*codes, max(BITS), seed, form.rate, form.steps)
        result = Result(name, *known, scored=TEST, recipe=recipe)
        return self.fine_tuning(result, parent_name(seed), (*TOGETHER, *way_flags(chosen)))

    def _untrained(self, seed: int) -> Task:
        """The network of the most bits, cut: only levels and statistics follow its weights."""
        codes = JOINT[CUT]
        known = (*codes, max(BITS), seed, STILL, SETTLING)
        result = Result(f'untrained-seed{seed}', *known, scored=TEST, recipe=UNTRAINED)
        start = self._alone(INDIVIDUAL, max(BITS), seed).name
        return self.fine_tuning(result, start, TOGETHER)


def ways() -> list[str]:
    """Ways in which precisions of one network can learn together."""
    found = []
    for loss, teacher in itertools.product(LOSSES, TEACHERS):
        found.append(f'{loss}-{teacher}')
    return found


def way_flags(way: str) -> tuple[str, ...]:
    """Flags of one of ``ways``."""
    loss, teacher = way.split('-')
    return '--bits_loss', loss, '--bits_teacher', teacher


def said(study: bits_study.Study) -> list[str]:
    """Lines below the tables."""
    return ['', QUICK_IS_NOT] if study.form.get('seeds') == 1 else []


KIND = Kind('bits', FULL, QUICK, Plan, bits_study.tables, bits_study.draw, said)
