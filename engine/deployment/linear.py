"""Merges affine functions that are added up, so that their constants are stored as one."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from engine.deployment import program
from engine.deployment.joining import Joint, Row, readers
from engine.deployment.pool import Constants
from engine.deployment.program import Part, Program

# One vector for each point, float64 [C] or [1].
Vectors = list[np.ndarray]


class Sum(NamedTuple):
    """A weighted sum of results, and a constant.

    Attributes:
        weights: by name of the result.
        shift: what is added.
        affine: whether an affine function is part of it.
        inside: names of results that are put together here.
    """

    weights: dict[str, Vectors]
    shift: Vectors
    affine: bool
    inside: tuple[str, ...] = ()


def folded(whole: Joint) -> Joint:
    """The operations with sums of affine functions, and such functions of sums, put together.

    A residual branch ends in an affine function, its shortcut in another, and the next block may
    begin with a third: six vectors for each size, of which three say the same. What would take as
    many numbers stays as it is, and so does what is read twice.
    """
    constants = Constants()
    constants.update(whole.constants)
    pool = Program({}, constants)
    times = readers(whole)
    sums: dict[str, Sum] = {}
    made: dict[str, list[Row]] = {}
    for row in whole.rows:
        out = row[0].out
        made[out] = [row]
        own = _sum(row, pool)
        if own is None:
            continue
        for name in list(own.weights):
            if name in sums and times[name] == 1:
                own = _put_in(own, name, sums[name])
        sums[out] = own
        if not own.inside or not own.affine:
            continue
        found = _rows(out, own, constants)
        replaced = [out, *(name for name in own.inside if name in made)]
        if found and _numbers(found) < sum(_numbers(made[name]) for name in replaced):
            for name in replaced[1:]:
                del made[name]
            made[out] = found
    rows = [row for several in made.values() for row in several]
    return whole._replace(rows=rows, constants=dict(constants))


def _sum(row: Row, pool: Program) -> Sum | None:
    """An operation as a sum; None for one that neither adds nor scales.

    Args:
        row: the operation at every point.
        pool: with its constants.
    """
    first = row[0]
    one = [np.ones(1) for _ in row]
    zero = [np.zeros(1) for _ in row]

    def vectors(field: str) -> Vectors:
        return [pool.value(getattr(each, field)).astype(np.float64) for each in row]

    if isinstance(first, program.Affine):
        return Sum({first.x: vectors('scale')}, vectors('shift'), True)
    if isinstance(first, program.Combine) and first.function == 'add' and first.x != first.y:
        return Sum({first.x: one, first.y: one}, zero, False)
    if isinstance(first, program.Arithmetic):
        y = vectors('y')
        if first.function == 'multiply':
            return Sum({first.x: y}, zero, False)
        if first.function == 'add':
            return Sum({first.x: one}, y, False)
    return None


def _put_in(outer: Sum, name: str, inner: Sum) -> Sum:
    """A sum with another one in the place of a result.

    Args:
        outer: that reads the result.
        name: of the result.
        inner: what it is.
    """
    weights = dict(outer.weights)
    factor = weights.pop(name)
    shift = _added(outer.shift, _multiplied(factor, inner.shift))
    for leaf, weight in inner.weights.items():
        weight = _multiplied(factor, weight)
        if leaf in weights:
            weight = _added(weights[leaf], weight)
        weights[leaf] = weight
    inside = (*outer.inside, name, *inner.inside)
    return Sum(weights, shift, outer.affine or inner.affine, inside)


def _multiplied(x: Vectors, y: Vectors) -> Vectors:
    return [one * other for one, other in zip(x, y)]


def _added(x: Vectors, y: Vectors) -> Vectors:
    return [one + other for one, other in zip(x, y)]


def _rows(out: str, whole: Sum, constants: Constants) -> list[Row]:
    """Operations that compute a sum.

    Args:
        out: name of the result.
        whole: the sum.
        constants: pool that gets what it needs.
    """
    rows: list[Row] = []

    def stored(values: Vectors, name: str) -> list[Part]:
        return [constants.add(value, f'{out}/{name}{place}') for place, value in enumerate(values)]

    def multiplied(name: str) -> str:
        """Name of a result times its weight."""
        weight = whole.weights[name]
        if _all(weight, 1):
            return name
        result = f'{out}/part{len(rows)}'
        parts = stored(weight, f'weight{len(rows)}')
        rows.append(tuple(program.Arithmetic(result, name, 'multiply', part) for part in parts))
        return result

    # The constant goes to one that has a weight, and shares its operation.
    first, *others = sorted(whole.weights, key=lambda name: _all(whole.weights[name], 1))
    if _all(whole.shift, 0):
        result = multiplied(first)
    elif _all(whole.weights[first], 1):
        result = f'{out}/first'
        parts = stored(whole.shift, 'shift')
        rows.append(tuple(program.Arithmetic(result, first, 'add', part) for part in parts))
    else:
        result = f'{out}/first'
        scales = stored(whole.weights[first], 'scale')
        shifts = stored(whole.shift, 'shift')
        pairs = zip(scales, shifts)
        rows.append(tuple(program.Affine(result, first, *pair) for pair in pairs))
    for place, name in enumerate(others):
        part = multiplied(name)
        total = f'{out}/sum{place}'
        rows.append(tuple(program.Combine(total, result, part, 'add') for _ in whole.shift))
        result = total
    if rows:
        rows[-1] = tuple(dataclasses.replace(one, out=out) for one in rows[-1])
    return rows


def _all(values: Vectors, number: float) -> bool:
    return all(np.array_equal(value, np.full_like(value, number)) for value in values)


def _numbers(rows: Sequence[Row]) -> int:
    """Numbers that operations store for a point."""
    count = 0
    for row in rows:
        for part in program.parts(row[0]).values():
            count += int(np.prod(part.shape))
    return count
