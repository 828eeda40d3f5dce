"""Describes a cascade that is exported: what its file says of points, choices and budgets."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engine.deployment import texts
from engine.deployment.names import STAGE
from engine.deployment.program import PointProgram
from engine.results import cascades, chains, exit_records
from engine.results.cascades import Cascade
from engine.runs.checkpoint import Checkpoint
from nets.points import Point


def of_cascade(source: Checkpoint, cascade: Cascade, point: PointProgram) -> dict[str, Any]:
    """Texts of a file that carries out a cascade, by field of ``Texts``.

    Args:
        source: the checkpoint.
        cascade: the cascade.
        point: what is written.
    """
    assert source.config is not None
    sizes = [Point.parse(name).size for name in cascade.points]
    largest = max(size or max(source.config.sizes) for size in sizes)
    folder = Path(source.prefix).parent
    costs = _costs(folder, cascade.points)
    judged = cascade.validation
    about = texts.PointText(
        cascade.name,
        point.side,
        largest,
        top1=judged.top1,
        top5=judged.top5,
        evaluated=judged.images,
        madds=0 if costs else None,
    )
    numbers = tuple(range(len(cascade.points)))
    sides = tuple(side for _, side in point.views)
    return {
        'points': (about,),
        'choices': (texts.ChoiceText(STAGE, numbers, costs),),
        'executed': 'as the output executed says, image by image',
        'cascade': dataclasses.replace(told(cascade, costs), sides=sides),
        'budgets': tuple(_budgets(folder, cascade, costs)),
    }


def _costs(folder: Path, points: Sequence[str]) -> tuple[int, ...]:
    """Multiply-adds of an image up to each stage of a chain; none without layer records."""
    if not (folder / 'layers.json').exists():
        return ()
    single = exit_records.pass_costs(folder, points, exit_records.MADDS)
    if not single.keys() >= set(points):
        return ()
    return tuple(chains.costs(points, single).round().astype(int).tolist())


def _mean(costs: Sequence[int], shares: Sequence[float]) -> int | None:
    """Mean multiply-adds of images.

    Args:
        costs: by stage, all that ran included; may be none.
        shares: of the images, by the stage that answered.
    """
    if not costs:
        return None
    return round(float(np.dot(costs, shares)))


def told(cascade: Cascade, costs: Sequence[int]) -> texts.CascadeText:
    """The text of a cascade.

    Args:
        cascade: the cascade.
        costs: multiply-adds of an image by stage, all that ran included; may be none.
    """
    holdout, validation = cascade.holdout, cascade.validation
    return texts.CascadeText(
        points=cascade.points,
        thresholds=_as_fed(cascade.thresholds),
        combine=cascade.combine,
        temperatures=cascade.temperatures,
        asked=cascade.asked,
        instead=cascade.instead,
        identity=cascade.identity,
        holdout_images=holdout.images,
        holdout_top1=holdout.top1,
        holdout_shares=holdout.shares,
        validation_images=validation.images,
        validation_top1=validation.top1,
        validation_top5=validation.top5,
        validation_shares=validation.shares,
        holdout_madds=_mean(costs, holdout.shares),
        validation_madds=_mean(costs, validation.shares),
    )


def _as_fed(thresholds: Sequence[float]) -> tuple[float, ...]:
    """Thresholds as exact as the input of a file takes them."""
    return tuple(np.array(thresholds, np.float32).tolist())


def _budgets(folder: Path, cascade: Cascade, costs: Sequence[int]) -> list[texts.BudgetText]:
    """All thresholds of a chain that its run has recorded, cheapest first: only better ones follow.

    Args:
        folder: of the run.
        cascade: that is written.
        costs: as of ``_mean``.
    """
    if not costs:
        return []
    same = [cascade]
    for stored in cascades.read_all(folder):
        other = stored.cascade
        alike = (other.points, other.combination) == (cascade.points, cascade.combination)
        if alike and other.identity == cascade.identity:
            same.append(other)
    made = set()
    for one in same:
        madds = _mean(costs, one.validation.shares)
        assert madds is not None
        made.add((madds, -one.validation.top1, _as_fed(one.thresholds)))
    found: list[texts.BudgetText] = []
    for madds, worse, thresholds in sorted(made):
        if not found or -worse > found[-1].top1:
            found.append(texts.BudgetText(cascade.name, -worse, madds, thresholds))
    return found
