"""Exits as stages: the program of a network, cut behind each of its exits.

How stages are run is in ``engine.deployment.stages``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from engine.config.config import Config
from engine.deployment import trace
from engine.deployment.choices import Choose, Confident
from engine.deployment.program import Operation, PointProgram, Program
from engine.deployment.regions import Region, reads
from engine.deployment.stages import Stage, Staged
from engine.deployment.tf_choices import Values
from engine.deployment.tf_graph import Writer, serving
from engine.graph.freeze import Frozen, Signature
from engine.results.exit_thresholds import NEVER
from engine.runs.checkpoint import Checkpoint
from nets.losses import log_confidence
from quant.backend import new_graph, tf


class EarlyExit(Staged):
    """Runs the program of a network with exits stage by stage.

    Args:
        source: a network with exits.
        size: input size in pixels, one of the network's.
        threads: of one operation; 0 takes all cores.
    """

    def __init__(self, source: Checkpoint, size: int, *, threads: int = 0):
        config = source.config
        assert config is not None
        network = config.network()
        (name,) = [name for name, other in network.choosing.items() if other == size]
        # Who leaves is decided between the stages.
        whole = trace.of_points(source, [name], [NEVER] * len(network.points))
        cut = steps(whole.points[name])
        runs = serving(_graph(whole, name, cut, config), threads)
        made = []
        for step, run in zip(cut, runs, strict=True):
            made.append(Stage(step.reads, step.makes, run))
        super().__init__(made)


class Step(NamedTuple):
    """Operations between two exits.

    Attributes:
        operations: in an order of execution.
        logits: name of what the exit says.
        reads: as of ``engine.deployment.stages.Stage``, names of results.
        makes: as of ``engine.deployment.stages.Stage``, names of results.
    """

    operations: list[Operation]
    logits: str
    reads: list[str]
    makes: list[str]


def steps(point: PointProgram) -> list[Step]:
    """The program of a network that chooses among its exits, cut behind each of them.

    Args:
        point: the program.
    """
    answers = _answers(point)
    made = _made(point, answers)
    last_read: dict[str, int] = {}
    for operation in point.operations:
        number = made.get(operation.out, 0)
        for name in reads(operation):
            last_read[name] = max(number, last_read.get(name, 0))
    found = []
    for number, logits in enumerate(answers):
        own = [one for one in point.operations if made.get(one.out) == number]
        later = [name for name in made if last_read.get(name, 0) > number]
        found.append(
            Step(
                own,
                logits,
                reads=[name for name in made if made[name] < number <= last_read.get(name, 0)],
                makes=[name for name in later if made[name] == number],
            )
        )
    return found


def _made(point: PointProgram, answers: Sequence[str]) -> dict[str, int]:
    """The exit that is the first to need a result, by name; those that no exit needs are left out.

    Args:
        point: the program.
        answers: names of the logits of all exits.
    """
    found: dict[str, int] = {}
    for number, logits in enumerate(answers):
        needed = {logits}
        for operation in reversed(point.operations):
            if operation.out in needed and operation.out not in found:
                found[operation.out] = number
                needed.update(reads(operation))
    return found


def _answers(point: PointProgram) -> list[str]:
    """Names of the logits of all exits, in turn."""
    choices: dict[str, Choose] = {}
    found: dict[int, str] = {}
    for operation in point.operations:
        if isinstance(operation, Choose):
            choices[operation.out] = operation
        elif isinstance(operation, Confident):
            found[operation.exit] = operation.x
    # Who leaves at none of them is answered by the last exit.
    last = point.output
    while last in choices:
        last, _ = choices[last].branches[0]
    return [*(found[exit] for exit in sorted(found)), last]


def _graph(whole: Program, name: str, cut: Sequence[Step], config: Config) -> Frozen:
    """All steps in one graph, a part for each.

    Args:
        whole: the program.
        name: of the choice among exits.
        cut: the steps of it.
        config: of the network.
    """
    point = whole.points[name]
    signatures: list[Signature] = []
    maps: dict[str, tf.Tensor] = {}
    with new_graph() as graph:
        writer = Writer(whole, [name])
        for step in cut:
            values = _waiting(step, maps)
            feeds = [*values.values()]
            if not signatures:
                views = _views(config)
                feeds += views.values()
                values[point.input] = views[point.side]
            writer.write(Region([(operation,) for operation in step.operations]), values)
            maps |= {made: values[made] for made in step.makes}
            fetches = [*_answer(values[step.logits]), *(maps[made] for made in step.makes)]
            signatures.append(_signature(feeds, fetches))
        return Frozen(graph.as_graph_def(), signatures)


def _views(config: Config) -> dict[int, tf.Tensor]:
    """Placeholders of the images, uint8 [N, side, side, C] by side, as the data flow has them.

    Args:
        config: of the network.
    """
    found = {}
    for side in config.preprocessing.view_sizes:
        shape = [None, side, side, config.preprocessing.channels]
        found[side] = tf.placeholder(tf.uint8, shape, f'images_{side}')
    return found


def _waiting(step: Step, maps: Mapping[str, tf.Tensor]) -> Values:
    """Placeholders of the maps that a step reads, of the images that are still there.

    Args:
        step: that reads them.
        maps: as earlier steps make them.
    """
    values = Values()
    for name in step.reads:
        values[name] = tf.placeholder(maps[name].dtype, [None, *maps[name].shape[1:]])
    return values


def _answer(logits: tf.Tensor) -> list[tf.Tensor]:
    """Labels, confidence, and logits."""
    return [tf.argmax(logits, axis=1), log_confidence(logits), logits]


def _signature(feeds: Sequence[tf.Tensor], fetches: Sequence[tf.Tensor]) -> Signature:
    kept = [tf.identity(tensor) for tensor in fetches]
    return Signature([tensor.name for tensor in feeds], [tensor.name for tensor in kept])
