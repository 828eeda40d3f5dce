"""Nodes of an ONNX file that say which branch of a choice is executed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from engine.deployment.choices import ByPoint, Confident, Largest, Number, Probabilities
from engine.deployment.names import THRESHOLDS
from engine.deployment.program import Operation

if TYPE_CHECKING:
    from engine.deployment.onnx_graph import OnnxGraph, Rule


def _by_point(w: OnnxGraph, row: Sequence[ByPoint]) -> None:
    w.add('Gather', row, [w.indices(*row[0].numbers), w.x(row)])


def _number(w: OnnxGraph, row: Sequence[Number]) -> None:
    w.number_of(row[0])


def _largest(w: OnnxGraph, row: Sequence[Operation]) -> None:
    w.add('ArgMax', row, [w.x(row)], axis=1, keepdims=0)


def _probabilities(w: OnnxGraph, row: Sequence[Probabilities]) -> None:
    w.add('Softmax', row, [w.x(row)], axis=1)


def _confident(w: OnnxGraph, row: Sequence[Confident]) -> None:
    """Compares odds against the answer: near 1 its probability does not tell them apart."""
    out = w.place
    below = w.node('Greater', [_odds(w, row), _most(w, row[0].exit)], f'{out}/below')
    reached = w.node('Not', [below], f'{out}/reached')
    w.add('Cast', row, [reached], to=TensorProto.INT64)


def _odds(w: OnnxGraph, row: Sequence[Confident]) -> str:
    """Name of the probability of all other classes by that of the answer, [N]."""
    out, x = w.place, w.x(row)
    best = w.node('ReduceMax', [x], f'{out}/best', axes=[1], keepdims=1)
    under = w.node('Sub', [x, best], f'{out}/under')
    shares = w.node('Exp', [under], f'{out}/shares')
    answer = w.node('ArgMax', [x], f'{out}/answer', axis=1, keepdims=0)
    kept = w.array(np.array([1, 0], np.float32), 'others')
    others = w.node('OneHot', [answer, w.indices(w.classes), kept], f'{out}/others', axis=1)
    left = w.node('Mul', [shares, others], f'{out}/left')
    return w.node('ReduceSum', [left], f'{out}/odds', axes=[1], keepdims=0)


def _most(w: OnnxGraph, exit: int) -> str:
    """Name of the most odds of a threshold t: ``expm1(-t) = tanh(-t / 2) * (exp(-t) + 1)``."""
    out = w.place
    least = w.node('Gather', [THRESHOLDS, w.indices(exit)], f'{out}/least')
    half = w.node('Mul', [least, w.number(-0.5)], f'{out}/half')
    steep = w.node('Tanh', [half], f'{out}/steep')
    turned = w.node('Neg', [least], f'{out}/turned')
    power = w.node('Exp', [turned], f'{out}/power')
    more = w.node('Add', [power, w.number(1.0)], f'{out}/more')
    return w.node('Mul', [steep, more], f'{out}/most')


RULES: Mapping[type[Operation], Rule] = {
    ByPoint: _by_point,
    Number: _number,
    Largest: _largest,
    Probabilities: _probabilities,
    Confident: _confident,
}
