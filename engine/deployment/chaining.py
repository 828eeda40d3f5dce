"""A cascade as one program: operating points one after the other, as a choice image by image.

Stages are what exits are: each says whether it is sure, and what follows is a branch. What several
of them compute, such as normalised images or the layers in front of exits, is there once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from engine.deployment import trace
from engine.deployment.alignment import Group
from engine.deployment.choices import Choose, Chosen, Confident, Number, Probabilities, chosen
from engine.deployment.joining import Joining
from engine.deployment.names import IMAGES, STAGE
from engine.deployment.pool import Constants
from engine.deployment.program import (
    Activation,
    Arithmetic,
    Combine,
    Operation,
    PointProgram,
    Program,
    with_points,
)
from engine.errors import UsageError
from engine.graph import freeze
from engine.results.cascades import Cascade
from engine.runs import fingerprint
from engine.runs.checkpoint import Checkpoint


def of_cascade(source: Checkpoint, cascade: Cascade) -> Program:
    """The program of a cascade, whose one point has the spelling of the chain.

    Args:
        source: the checkpoint.
        cascade: that was chosen for it.

    Raises:
        UsageError: the network has no such point.
    """
    names = stage_names(source, cascade.points)
    return chained(trace.of_points(source, names), names, cascade)


def stage_names(source: Checkpoint, points: Sequence[str]) -> list[str]:
    """Names by which programs know the points of a chain, as evaluation computes them."""
    assert source.config is not None
    network = source.config.network()
    return [network.as_evaluated(point) for point in points]


def checked(source: Checkpoint, cascade: Cascade, place: str) -> str:
    """The spelling of the chain of a cascade that belongs to a checkpoint.

    Args:
        source: the checkpoint.
        cascade: the cascade.
        place: start of messages: the flag that gave it.

    Raises:
        UsageError: it belongs to another one, or has other points.
    """
    if source.weights != 'raw':
        raise UsageError(f'{place}: was chosen for the trained weights; leave --weights out')
    cascade.check_identity(fingerprint.identity(source.prefix), place)
    known = freeze.points(source)
    for point in cascade.points:
        if point not in known:
            raise UsageError(f'{place}: no point {point}; {source.prefix} has {" ".join(known)}')
    return cascade.name


def chained(whole: Program, names: Sequence[str], cascade: Cascade) -> Program:
    """Operating points of a program one after the other.

    Args:
        whole: that has them.
        names: of the points in it, by stage.
        cascade: when an image leaves, and how stages answer.
    """
    points = [whole.points[name] for name in names]
    first, *_ = points
    views: dict[str, int] = {}
    constants = Constants()
    constants.update(whole.constants)
    chain = _Chain(constants, cascade)
    for stage, point in enumerate(points):
        if point.side != first.side:
            point = _apart(point)
            views.update(point.views)
        chain.add(stage, point)
    output, told = chain.nested()
    operations = tuple(chain.operations)
    made = PointProgram(
        IMAGES, first.side, operations, output, (told,), first.channels, tuple(views.items())
    )
    return with_points({cascade.name: made}, constants)


def _apart(point: PointProgram) -> PointProgram:
    """The point with an input of its own, for images that are made in another size."""
    name = f'{IMAGES}_{point.side}'
    operations = []
    for operation in point.operations:
        if operation.x == point.input:
            operation = dataclasses.replace(operation, x=name)
        operations.append(operation)
    views = ((name, point.side),)
    return dataclasses.replace(point, operations=tuple(operations), views=views)


class _Chain:
    """The stages of a cascade in the making.

    Args:
        constants: pool that gets what is made.
        cascade: the cascade.
    """

    def __init__(self, constants: Constants, cascade: Cascade):
        self._constants = constants
        self._cascade = cascade
        self._joining = Joining(1)
        self._logits: list[str] = []
        # What each stage answers, and in front of the latest the sum of all probabilities.
        self._said: list[str] = []
        self._total = ''

    @property
    def operations(self) -> list[Operation]:
        """All so far."""
        return [row[0] for row in self._joining.rows]

    def add(self, stage: int, point: PointProgram) -> None:
        """Adds what a stage computes and none before it, and what it answers.

        Args:
            stage: its number.
            point: that it runs.
        """
        logits, _ = self._joining.add(stage, Group([0], [point]))
        self._logits.append(logits)
        temperature = self._cascade.temperatures[stage]
        said = logits
        if temperature != 1:
            said = self._divided(said, temperature, f'{STAGE}{stage}/scaled')
        if self._cascade.combination.sums:
            said = self._averaged(stage, said)
        self._said.append(said)

    def _averaged(self, stage: int, logits: str) -> str:
        """The logarithm of the mean of the probabilities of all stages so far.

        Args:
            stage: number of the latest.
            logits: of the latest stage.
        """
        place = f'{STAGE}{stage}'
        own = self._then(Probabilities(f'{place}/own', logits))
        if not stage:
            self._total = own
            return logits
        self._total = self._then(Combine(f'{place}/total', self._total, own, 'add'))
        mean = self._divided(self._total, stage + 1.0, f'{place}/mean')
        return self._then(Activation(f'{place}/log', mean, 'log'))

    def nested(self) -> tuple[str, Chosen]:
        """Adds the choices; names what answers, and what is told of the stage that did."""
        last = len(self._said) - 1
        output, told = self._said[last], self._number(last)
        for stage in reversed(range(last)):
            place = f'{STAGE}{stage}'
            limit = np.array([self._cascade.thresholds[stage]], np.float32)
            threshold = self._constants.add(limit, f'{place}/threshold')
            said = self._said[stage]
            sure = self._then(Confident(f'{place}/sure', said, stage, threshold))
            ways = ((output, told), (said, self._number(stage)))
            told = f'{place}/told'
            output = self._then(Choose(f'{place}/answer', sure, ways, (told,)))
        return output, chosen(self.operations, STAGE, told)

    def _number(self, stage: int) -> str:
        return self._then(Number(f'{STAGE}{stage}/number', self._logits[0], stage))

    def _divided(self, x: str, number: float, name: str) -> str:
        """Adds a division, and names its result.

        Args:
            x: name of what is divided.
            number: by which.
            name: of the result.
        """
        part = self._constants.add(np.array([number], np.float32), f'{name}/by')
        return self._then(Arithmetic(name, x, 'divide', part))

    def _then(self, operation: Operation) -> str:
        self._joining.rows.append((operation,))
        return operation.out
