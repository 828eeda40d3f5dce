"""MSDNet: budgeted-batch thresholds, accuracy and expected cost.

Of every data set, at every published budget.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from engine.results import exit_thresholds
from tests.parity.fixtures import Check, Fixture, Result, compare

# Routines of float32 powers differ in the last bits between processors; what follows from the
# shares is exact.
SHARES = 1e-6


def budgets(fixture: Fixture) -> Result:
    """Every case, exactly."""
    result = Result(fixture.name, "each array's maximum")
    costs = np.asarray(fixture.data['model']['flops_per_exit'], np.float32)
    for name, case in fixture.data['cases'].items():
        stored = {
            key.removeprefix(f'{name}_'): value
            for key, value in fixture.arrays.items()
            if key.startswith(f'{name}_')
        }
        result.checks += _case(name, stored, case['results'], costs)
    rows = sum(len(case['results']['p']) for case in fixture.data['cases'].values())
    result.remark = (
        f'{len(fixture.data["cases"])} data sets, {rows} budgets; {len(result.checks)} comparisons'
    )
    return result


def _case(
    name: str, stored: dict[str, np.ndarray], results: dict[str, Any], costs: np.ndarray
) -> Iterator[Check]:
    """Comparisons of one data set, all budgets of a quantity in one."""
    shares = np.stack([exit_thresholds.shares(p, len(costs)) for p in results['p']])
    yield compare(f'{name} shares', shares, stored['probs'], SHARES)
    found = [exit_thresholds.thresholds(stored['val_conf'].T, row) for row in shares]
    yield _exact(f'{name} thresholds', np.stack(found), stored['T'])
    for part in ('val', 'test'):
        right = (stored[f'{part}_pred'] == stored[f'{part}_label']).T
        rows = [
            exit_thresholds.dynamic(stored[f'{part}_conf'].T, right, row, costs) for row in found
        ]
        top1, cost, taken = (np.stack(values) for values in zip(*rows))
        yield _exact(f'{name} {part} accuracy', top1, np.asarray(results[f'{part}_acc']))
        yield _exact(f'{name} {part} cost', cost, np.asarray(results[f'{part}_flops']))
        yield _exact(
            f'{name} {part} images by exit',
            np.rint(taken * len(right)),
            np.asarray(results[f'{part}_count']),
        )


def _exact(what: str, ours: np.ndarray, theirs: np.ndarray) -> Check:
    return compare(what, ours, theirs, 0.0)
