"""Common parts of the backends of ``Predictor`` for run folders and published checkpoints."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from engine import families
from engine.config.config import Config
from engine.data.preprocessing import Preprocessing
from engine.deployment.asked import Asked
from engine.errors import UsageError, prefixed
from engine.graph import freeze
from engine.importers import pytorch
from engine.quantities import quantity
from engine.results import cascades, selection
from engine.results.cascades import Cascade
from engine.results.choice import Choice
from engine.runs import checkpoint, fingerprint
from engine.runs.checkpoint import Checkpoint
from nets.points import Point


class RunBackend:
    """Base of backends for a run.

    Args:
        source: the checkpoint.
        threads: of one operation; 0 takes all cores.

    Attributes:
        config: the configuration of the run.
        points: spellings of its operating points, strongest first.
        classes: names of the classes, by label.
        has_exits: whether it can stop at exits.
    """

    def __init__(self, source: Checkpoint, threads: int):
        assert source.config is not None
        self.config: Config = source.config
        self.points = freeze.points(source)
        self.classes = source.class_names
        self.has_exits = any(Point.within(name).exit is not None for name in self.points)
        self._source = source
        self._threads = threads

    def view_of(self, point: str) -> Preprocessing:
        """How the one view is made that an operating point reads."""
        named = Point.parse(point)
        config = families.get(self.config.net).at_point(self.config, named)
        size = named.size or max(config.sizes)
        return dataclasses.replace(config.preprocessing, sizes=(size,))

    def identity(self) -> str:
        """The identity of the checkpoint with what was calibrated for it.

        Raises:
            UsageError: the weights are the averages, for which no cascade was chosen.
        """
        self._check_recorded('cascade')
        return fingerprint.identity(self._source.prefix)

    def carried(self, cascade: Cascade) -> None:
        """None: a run holds points, of which a chain is made."""

    def append(self, content: bytes) -> list[str]:
        """Takes nothing.

        Raises:
            UsageError: always: a run is whole.
        """
        raise UsageError(f'{self._source.prefix}: is whole; only .lqn files come in parts')

    def _check_recorded(self, limit: str) -> None:
        """Refuses weights of which no evaluation is recorded.

        Args:
            limit: that was asked for, for messages.

        Raises:
            UsageError: they are averages.
        """
        weights = self._source.weights
        if weights != 'raw':
            raise UsageError(
                f'{limit}: evaluation recorded what the trained weights can do, and these '
                f'are weights={weights!r}; give a point'
            )

    def _of_these_weights(self, found: Sequence[Choice]) -> list[Choice]:
        """Choices without the cascades that were chosen for another checkpoint of the run."""
        identity = self.identity()
        kept = []
        for choice in found:
            if choice.cascade is None or choice.cascade.identity == identity:
                kept.append(choice)
        return kept

    def recorded(self, budget: str | float | None, ms: float | None) -> Choice:
        """The most accurate way to run that the run folder has recorded.

        Args:
            budget: mean multiply-adds of an image; None is no limit.
            ms: milliseconds of one image; None is no limit.

        Raises:
            UsageError: nothing was evaluated, or nothing is within the limits.
        """
        asked = f'budget {budget}' if ms is None else f'deadline_ms {ms:g}'
        self._check_recorded(asked)
        madds = None if budget is None else quantity('budget', str(budget))
        found = selection.choices(Path(self._source.prefix).parent)
        if ms is not None:
            # Each image has the time, and a mean is no promise.
            found = [choice for choice in found if choice.cascade is None]
        elif any(choice.cascade for choice in found):
            found = self._of_these_weights(found)
        with prefixed(f'{asked}: '):
            return selection.best(found, selection.Limits(madds=madds, ms=ms))


def _check(recorded: Checkpoint, asked: Asked) -> None:
    """Checks that a run has what is asked for, as its records say.

    Args:
        recorded: the checkpoint as its run folder describes it.
        asked: what is going to answer.

    Raises:
        UsageError: it has no such point or cascade, or nothing within the budget.
    """
    found = RunBackend(recorded, 0)
    known = [*found.points, *found.config.network().dynamic_names]
    if asked.point is not None and asked.point not in known:
        raise UsageError(f'point {asked.point!r}: {recorded.prefix} has {" ".join(known)}')
    if asked.budget is not None or (asked.deadline_ms is not None and not found.has_exits):
        found.recorded(asked.budget, asked.deadline_ms)
    if asked.cascade is not None:
        cascade = cascades.read(Path(asked.cascade))
        cascade.check_identity(found.identity(), f'cascade {asked.cascade}')


def read(run: str, epoch: int | None, weights: str, asked: Asked | None = None) -> Checkpoint:
    """The checkpoint that a path stands for, of a run folder or a published one.

    Args:
        run: the path.
        epoch: of a run folder; None is the last.
        weights: ``raw`` or ``ema``.
        asked: what is refused before TensorFlow is loaded if the run has no such thing.

    Raises:
        UsageError: there is none, or a published checkpoint is asked for its epoch or averages.
    """
    path = Path(run)
    if (path / 'config.json').exists() or (path.parent / 'config.json').exists():
        prefix = checkpoint.find(run, epoch, 'run')
        if asked is not None and checkpoint.is_recorded(prefix):
            _check(checkpoint.recorded(prefix, weights=weights), asked)
        return checkpoint.read(prefix, flag='run', weights=weights)
    if not path.exists() and not Path(f'{run}.index').exists():
        raise UsageError(f'run {run}: no such run folder or checkpoint')
    if epoch is not None:
        raise UsageError(
            f'epoch {epoch}: {run} is a published checkpoint, which has no epochs; leave it out, '
            'or import each file with scripts/import_checkpoint.py'
        )
    if weights != 'raw':
        raise UsageError(
            f'weights {weights!r}: {run} is a published checkpoint, which has one kind'
        )
    imported = pytorch.read(run, sizes=None, arch=None, allow=())
    return Checkpoint(run, imported.values, imported.config)
