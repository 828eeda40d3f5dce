"""Scales kernels to a largest level of one; what multiplies their channels next takes the scale."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import numpy as np

from engine.deployment import program
from engine.deployment.coding import are_pairs
from engine.deployment.joining import Joint, Row, readers
from engine.deployment.program import Codes, Constant, Floats, Part, Program


def with_unit_levels(whole: Joint) -> Joint:
    """The operations with kernels of levels of both signs divided by the largest of each channel.

    A channel of two bits then has one level of its own where it had two. Left alone is a kernel
    that several operations read, and one whose result is not multiplied as soon as it is there.
    """
    constants = dict(whole.constants)
    times = readers(whole)
    kernels: Counter[str] = Counter()
    for row in whole.rows:
        kernels.update({part.name for one in row for part in program.parts(one).values()})
    # Largest levels by name of the result, and the place of what computes this.
    scales: dict[str, tuple[np.ndarray, int]] = {}
    rows = list(whole.rows)
    for place, row in enumerate(whole.rows):
        first = row[0]
        if type(first) in (program.Convolution, program.Dense) and times[first.out] == 1:
            found = _largest(row, constants)
            if found is not None and kernels[_kernel(row).name] == 1:
                scales[first.out] = found, place
        elif first.x in scales and _factors(first) is not None:
            scale, before = scales[first.x]
            rows[before] = _divided(rows[before], scale, constants)
            rows[place] = _multiplied(row, scale, constants)
    return whole._replace(rows=rows, constants=constants)


def _kernel(row: Row) -> Part:
    return program.parts(row[0])['kernel']


def _largest(row: Row, constants: dict[str, Constant]) -> np.ndarray | None:
    """Largest level of each channel, [C]; None where levels are no pairs of both signs.

    Args:
        row: what has a kernel, at every point.
        constants: with that kernel.
    """
    part = _kernel(row)
    stored = constants[part.name]
    if not isinstance(stored, Codes) or stored.shape != part.shape:
        return None
    if any(program.parts(one)['kernel'] != part for one in row):
        return None
    levels = stored.levels
    if not are_pairs(levels) or not levels[-1].all():
        return None
    return levels[-1]


def _factors(operation: program.Operation) -> str | None:
    """The field with a factor for each channel, of an operation that multiplies by such."""
    field = None
    if isinstance(operation, program.Affine):
        field = 'scale'
    elif isinstance(operation, program.Arithmetic) and operation.function == 'multiply':
        field = 'y'
    if field is None or program.parts(operation)[field].shape == (1,):
        return None
    return field


def _divided(row: Row, scale: np.ndarray, constants: dict[str, Constant]) -> Row:
    """An operation with the levels of its kernel divided.

    Args:
        row: the operation at every point.
        scale: of each channel, [C].
        constants: pool that gets the kernel.
    """
    part = _kernel(row)
    stored = constants[part.name]
    assert isinstance(stored, Codes)
    name = f'{part.name}/unit'
    constants[name] = Codes(stored.codes, stored.levels / scale)
    kernel = Part(name, part.shape)
    changed: dict[str, Any] = {'kernel': kernel}
    return tuple(dataclasses.replace(one, **changed) for one in row)


def _multiplied(row: Row, scale: np.ndarray, constants: dict[str, Constant]) -> Row:
    """An operation with its factors multiplied.

    Args:
        row: the operation at every point.
        scale: of each channel, [C].
        constants: pool that gets the factors.
    """
    pool = Program({}, constants)
    field = _factors(row[0])
    assert field is not None
    made = []
    for place, one in enumerate(row):
        factors = pool.value(program.parts(one)[field])
        name = f'{one.out}/{field}/unit{place}'
        constants[name] = Floats(factors * scale)
        changed: dict[str, Any] = {field: Part(name, factors.shape)}
        made.append(dataclasses.replace(one, **changed))
    return tuple(made)
