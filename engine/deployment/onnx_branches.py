"""Choices in an ONNX file: branches of ``If``, of which one is executed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, helper

from engine.deployment.alignment import results
from engine.deployment.choices import Choose, Confident
from engine.deployment.joining import Row
from engine.deployment.names import IMAGES, POINT
from engine.deployment.program import Dense, Program
from engine.deployment.regions import Region
from engine.errors import UsageError

if TYPE_CHECKING:
    from engine.deployment.onnx_graph import OnnxGraph

# A branch, and names of its results in the program.
Way = tuple[Region, tuple[str, ...]]


def choose(w: OnnxGraph, choice: Choose, branches: Sequence[Region]) -> None:
    """Adds a choice.

    Args:
        w: the graph in the making.
        choice: the operation.
        branches: what each branch executes.
    """
    ways = list(zip(branches, choice.branches))
    found = _among(w, w.place, w.named(choice.x), ways, 0)
    for result, tensor, like in zip(results(choice), found, choice.branches[0]):
        w.become(result, tensor, like)


def _among(w: OnnxGraph, place: str, number: str, ways: Sequence[Way], first: int) -> list[str]:
    """Names of the tensors that hold the results.

    Args:
        w: the graph in the making.
        place: start of the names that are made.
        number: name of the tensor that chooses.
        ways: to choose from.
        first: number of the first of them.
    """
    if len(ways) == 1:
        region, names = ways[0]
        w.write(region)
        return [w.named(name) for name in names]
    middle = len(ways) // 2
    name = f'{place}/{first}-{first + len(ways)}'
    early = w.node('Less', [number, w.indices(first + middle)], f'{name}/early')
    graphs = []
    for part, start in ((ways[:middle], first), (ways[middle:], first + middle)):
        nodes: list[Any] = []
        infos = []
        with w.inside(nodes):
            tensors = _among(w, place, number, part, start)
            _, results_of_first = part[0]
            for k, (tensor, result) in enumerate(zip(tensors, results_of_first)):
                out = w.node('Identity', [tensor], f'{name}/{start}/{k}')
                kind = TensorProto.INT64 if w.is_number(result) else TensorProto.FLOAT
                infos.append(helper.make_tensor_value_info(out, kind, None))
        graphs.append(helper.make_graph(nodes, f'{name}/{start}', [], infos))
    found = [f'{name}/{k}' for k in range(len(infos))]
    w.node('If', [early], *found, then_branch=graphs[0], else_branch=graphs[1])
    return found


def choose_by_height(w: OnnxGraph, whole: Program) -> None:
    """Adds the nodes that find the point; of another height they find none, an error.

    Args:
        w: the graph in the making.
        whole: the points.

    Raises:
        UsageError: two points have images of one height.
    """
    sides = [point.side for point in whole.points.values()]
    if len(set(sides)) < len(sides):
        names = ' '.join(whole.points)
        raise UsageError(
            f'--no-preprocess with --points {names}: the height of an image chooses the point, '
            'and some have the same; give each a file of its own'
        )
    shape = w.node('Shape', [IMAGES], 'shape')
    height = w.node('Gather', [shape, w.indices(1)], 'height')
    same = w.node('Equal', [w.indices(*sides), height], 'same')
    found = w.node('NonZero', [same], 'found')
    flat = w.node('Reshape', [found, w.indices(-1)], 'flat')
    # Of all that takes one number it alone refuses none in every runtime.
    w.node('Split', [flat], POINT, split=[1])


def classes(rows: Sequence[Row]) -> int:
    """How many logits there are.

    Raises:
        UsageError: nothing says it.
    """
    for row in reversed(rows):
        if isinstance(row[0], Dense):
            return row[0].kernel.shape[1]
    raise UsageError('the network has no classifier; nothing says how many classes it has')


def thresholds(rows: Sequence[Row], whole: Program) -> np.ndarray:
    """Thresholds [exits] float32 of exits that choose; none of a file without them.

    Args:
        rows: all operations.
        whole: with their constants.
    """
    found: dict[int, float] = {}
    for row in rows:
        if isinstance(row[0], Confident):
            (found[row[0].exit],) = whole.value(row[0].threshold)
    if not found:
        return np.empty(0, np.float32)
    # Whoever reaches the last exit leaves there.
    return np.array([*(found[exit] for exit in sorted(found)), -np.inf], np.float32)
