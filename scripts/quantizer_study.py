"""The study of quantizers: which trainings there are, which rate each method gets, in which order.

Every seed has a float network of its own, from which all methods are fine-tuned in equally many
steps. The first seed tries the rates, scored on training images that were set aside before the
float network was trained; the best is the method's rate, and its networks are scored on the test
set once. What is tried follows from the registry of quantizers, see ``quant.pairs``.
"""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

from engine.results import quantizer_study
from engine.results.formats import Table
from engine.results.study_records import HOLDOUT, TEST, Result, Study
from engine.schema import Amount
from quant import pairs
from quant.pairs import Pair
from scripts import study_tasks
from scripts.study_tasks import Kind, Task, parent_name

# Bits of weights and activations; methods that have none of these come at their own.
BITS = 2, 4


@dataclasses.dataclass(frozen=True)
class Form(study_tasks.Form):
    """How much of a study is run.

    Attributes:
        rates: That are tried with the first seed.
        variants: Whether what quantizers name as possible improvements is tried, too.
        exported: Whether a network of every method is exported.
    """

    rates: tuple[Amount, ...]
    variants: bool = True
    exported: bool = True


FULL = Form(seeds=3, rates=(0.005, 0.02, 0.05), steps=600, parent_epochs=5)
QUICK = Form(seeds=1, rates=(0.02,), steps=120, parent_epochs=2, variants=False, exported=False)
QUICK_IS_NOT = (
    'quick form: one seed, one rate for all and short training. It shows that every method trains '
    'and roughly where it starts; it does not rank them.'
)


@functools.cache
def groups(form: Form) -> list[list[Pair]]:
    """All methods, then what they name as possible improvements, in groups of equal bits."""
    found: dict[tuple[int, bool], list[Pair]] = {}
    for pair in pairs.methods(BITS):
        found.setdefault((pair.bits, False), []).append(pair)
    if form.variants:
        for pair in pairs.variants(BITS):
            found.setdefault((pair.bits, True), []).append(pair)
    return list(found.values())


def methods(form: Form) -> list[Pair]:
    """All that is tried."""
    found = []
    for group in groups(form):
        found += group
    return found


class Plan(study_tasks.Plan[Form]):
    """The tasks: of groups of methods with equal bits, then the exports."""

    def tasks(self) -> Iterator[Task]:
        """All tasks whose rate is known, in their order."""
        for place, group in enumerate(groups(self.form)):
            yield from self._of_group(group, with_parents=place == 0)
        if self.form.exported:
            for pair in methods(self.form):
                chosen = self.rate(pair)
                if chosen is not None:
                    yield self._export(pair, chosen)

    def _of_group(self, group: list[Pair], *, with_parents: bool) -> Iterator[Task]:
        """Tasks of methods with the same bits: rates, then what they are compared by.

        Args:
            group: The methods.
            with_parents: Whether the float networks come with them, each when it is needed.
        """
        several = len(self.form.rates) > 1
        if with_parents:
            yield self.parent(0)
        if several:
            for pair in group:
                for rate in self.form.rates:
                    yield self._training(pair, 0, rate, HOLDOUT)
        for seed in range(self.form.seeds):
            if with_parents and seed > 0:
                yield self.parent(seed)
            for pair in group:
                chosen = self.rate(pair)
                if chosen is None:
                    continue
                if seed == 0 and several:
                    yield self._test(pair, chosen)
                else:
                    yield self._training(pair, seed, chosen, TEST)

    def total(self) -> int:
        """Number of all tasks, those whose rate is not known yet included."""
        rates = len(self.form.rates)
        of_method = self.form.seeds + self.form.exported
        if rates > 1:
            of_method += rates
        return self.form.seeds + len(methods(self.form)) * of_method

    def rate(self, pair: Pair) -> float | None:
        """The rate of the best score of the held-out images; None where it is not known yet.

        Of equally good ones it is the smallest. None, too, where no training came to its end.
        """
        if len(self.form.rates) == 1:
            return self.form.rates[0]
        scores = {}
        for rate in sorted(self.form.rates):
            result = self.done.get(name_of(pair, 0, rate))
            if result is None:
                return None
            scores[rate] = result.mean
        best = max(scores, key=scores.__getitem__)
        return best if scores[best] > 0 else None

    def _training(self, pair: Pair, seed: int, rate: float, scored: str) -> Task:
        name = name_of(pair, seed, rate)
        result = Result(name, *pair, seed, rate, self.form.steps, scored)
        bits = str(pair.bits)
        return self.fine_tuning(result, parent_name(seed), ('--qw', bits, '--qa', bits))

    def _test(self, pair: Pair, rate: float) -> Task:
        run = name_of(pair, 0, rate)
        result = Result(f'{run}-test', *pair, 0, rate, self.form.steps, TEST)
        return Task(result, (run,), 'score', ('--eval', '--no-score_holdout'), run)

    def _export(self, pair: Pair, rate: float) -> Task:
        run = name_of(pair, 0, rate)
        result = Result(f'{run}-file', *pair, 0, rate, self.form.steps)
        return Task(result, (run,), 'export', ('--verify', '100'), run)


def name_of(pair: Pair, seed: int, rate: float) -> str:
    """Name of a training, by which its folder is known.

    Args:
        pair: The quantizers.
        seed: Of the training.
        rate: Learning rate.
    """
    label = pair.label.replace(' ', '').replace("'", '').replace('"', '')
    return f'w{pair.bits}a{pair.bits}-{label}-rate{rate:g}-seed{seed}'


def said(study: Study) -> list[str]:
    """Lines below the table."""
    if study.form.get('seeds') == 1 and len(study.form.get('rates', ())) == 1:
        return ['', QUICK_IS_NOT]
    return []


def tables(study: Study) -> list[Table]:
    """The table, in which methods are compared with the default quantizer."""
    return [quantizer_study.table(study, pairs.DEFAULT)]


def draw(study: Study) -> Any:
    """The figure of the study."""
    return quantizer_study.draw(study, pairs.DEFAULT)


KIND = Kind('quantizers', FULL, QUICK, Plan, tables, draw, said)
