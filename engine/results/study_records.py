"""Records of a study: what each of its tasks gave. Tables and figures are made of them alone."""

import dataclasses
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.errors import UsageError
from engine.files import read_json, write_json
from engine.schema import Amount, Count, Part, Percent
from quant.pairs import Pair

# What a training was scored on: images that were set aside to choose by, or the test set.
HOLDOUT, TEST = 'holdout', 'test'

# What there is to say of a study without numbers.
NOTHING = 'nothing is scored yet; run the study again'

# The file with all records of a study.
RECORDS = 'records.json'

REMEDY = 'give the folder of a study, or the records.json of one'


@dataclasses.dataclass(frozen=True)
class Result:
    """The result of one task of a study.

    Attributes:
        task: Its name, by which others of the study know it.
        weight: Spec of the quantizer of weights, without bits; ``float`` of a parent.
        activation: Spec of that of activations.
        bits: Of both; 32 is float; of a network of several precisions the most.
        seed: Of the training.
        rate: Learning rate.
        steps: Of the training.
        scored: Which images ``top1`` is of: ``holdout`` or ``test``; empty where none were scored.
        top1: Percent by operating point.
        step_ms: CPU time of a training step in milliseconds; None where nothing was trained.
        cpu_seconds: CPU time of the whole task.
        weight_bytes: Of the packed weights as the cost model has them.
        file_bytes: Of the exported file; None where none was made.
        failed: Why there is no number; empty where there is one.
        recipe: Name of how it was trained, in studies that compare this.
        code_bytes: Of the codes of quantized weights alone, each stored once.
    """

    task: str
    weight: str
    activation: str
    bits: Count
    seed: Count
    rate: Amount
    steps: Count
    scored: str = ''
    top1: dict[str, Percent] = dataclasses.field(default_factory=dict)
    step_ms: Amount | None = None
    cpu_seconds: Amount = 0.0
    weight_bytes: Count | None = None
    file_bytes: Count | None = None
    failed: str = ''
    recipe: str = ''
    code_bytes: Count | None = None

    @property
    def method(self) -> Pair:
        """The quantizers with their bits."""
        return Pair(self.weight, self.activation, self.bits)

    @property
    def mean(self) -> float:
        """Mean top-1 over the operating points; 0 of a training that failed."""
        if not self.top1:
            return 0.0
        return statistics.fmean(self.top1.values())


@dataclasses.dataclass(frozen=True)
class Study(Part):
    """A finished or unfinished study.

    Attributes:
        form: What was planned, for a reader.
        results: Of its tasks.
    """

    form: dict[str, Any]
    results: list[Result]


def read(path: Path) -> Study:
    """The records of a study.

    Args:
        path: Its folder, or its file of records.

    Raises:
        UsageError: There are none, or they are damaged.
    """
    file = path / RECORDS if path.is_dir() else path
    if not file.exists():
        raise UsageError(f'{file}: no such file; {REMEDY}')
    return read_json(file, Study, REMEDY)


def write(path: Path, study: Study) -> None:
    """Writes the records of a study into its folder."""
    write_json(path / RECORDS, dataclasses.asdict(study))


def failures(study: Study) -> list[str]:
    """Lines about trainings that did not come to their end, and why."""
    return [f'* {result.task}: {result.failed}' for result in study.results if result.failed]


def deviation(values: Sequence[float]) -> float | None:
    """Standard deviation; None of fewer than two values."""
    return statistics.stdev(values) if len(values) > 1 else None


def spread(values: Sequence[float]) -> str:
    """Mean, and the deviation where there are several values."""
    return spread_text(statistics.fmean(values), deviation(values), 2)


def spread_text(mean: float, deviation: float | None, digits: int) -> str:
    """A mean, and the deviation where there is one.

    Args:
        mean: of some values.
        deviation: of them; None of a single one.
        digits: behind the point.

    >>> spread_text(91.25, 0.5, 1), spread_text(91.25, None, 2)
    ('91.2 ±0.5', '91.25')
    """
    text = f'{mean:.{digits}f}'
    if deviation is not None:
        text += f' ±{deviation:.{digits}f}'
    return text


def difference(differences: Sequence[float]) -> str:
    """Mean of differences, and their deviation where there are several."""
    if not differences:
        return ''
    mean = round(statistics.fmean(differences), 2) + 0.0  # never -0.0
    text = f'{mean:+.2f}'
    if len(differences) > 1:
        text += f' ({statistics.stdev(differences):.2f})'
    return text


def by_point(results: Sequence[Result]) -> dict[str, float]:
    """Mean top-1 of every operating point over the seeds."""
    found = {}
    for point in results[0].top1:
        found[point] = statistics.fmean(result.top1[point] for result in results)
    return found
