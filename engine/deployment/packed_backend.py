"""Backend of ``Predictor`` that exports the points of a run in memory for a runtime."""

import threading
from collections.abc import Sequence

from engine.deployment import description, file_backend, trace
from engine.deployment.anytime import Anytime, exits_of
from engine.deployment.backend import Way
from engine.deployment.cascade import Turn, one_by_one
from engine.deployment.run_backend import RunBackend
from engine.deployment.runtimes import REMEDY, load
from engine.errors import UsageError
from engine.results.choice import Choice
from engine.runs.checkpoint import Checkpoint

try:
    from engine.deployment import onnx_file
except ImportError as error:
    raise UsageError(
        f'{error}: a run is exported for a backend; {REMEDY} installs what that needs'
    ) from error


class PackedBackend(RunBackend):
    """A file in memory for each operating point, made when the point is first used.

    Args:
        source: the checkpoint.
        runtime: name of what runs it.
        threads: of one image; 0 takes all cores.
    """

    def __init__(self, source: Checkpoint, runtime: str, threads: int):
        super().__init__(source, threads)
        self._runtime = runtime
        self._lock = threading.Lock()
        self._exits: dict[int | None, Anytime] = {}

    def at(self, point: str) -> Way:
        """How an operating point answers, with every layer executed."""
        whole = trace.of_points(self._source, [point])
        sides = {point: whole.points[point].side}
        (about,) = description.points(self._source, sides)
        content = onnx_file.serialized(whole, {}, packed=True)
        loaded = load(self._runtime, content, self._source.prefix, self._threads)
        images = description.images(self.view_of(point))
        return file_backend.way(loaded.at(0, about.side), about, images)

    def within(self, budget: str | float | None, ms: float | None = None) -> Choice:
        """The most accurate recorded point within a budget, with every layer executed.

        Args:
            budget: mean multiply-adds of an image.
            ms: of no use: recorded times are those of TensorFlow.

        Raises:
            UsageError: nothing was evaluated, or nothing is within the budget.
        """
        if ms is not None or budget is None:
            raise UsageError(
                f'deadline_ms {ms}: {self._source.prefix} has recorded times of TensorFlow, not '
                f'of {self._runtime}; give a point or a budget'
            )
        self._check_recorded(f'budget {budget}')
        sides = {}
        for point in self.points:
            rule = self.view_of(point)
            (sides[point],) = rule.view_sizes
        known = description.points(self._source, sides)
        return file_backend.within(self._source.prefix, known, budget)

    def turns(self, points: Sequence[str]) -> list[Turn]:
        """The passes over the network that give some points: one for each."""
        return one_by_one(self.at, points)

    def leaving_early(
        self, size: int | None, thresholds: Sequence[float] | None, deadline_ms: float
    ) -> Way:
        """How the exits answer, see ``engine.deployment.backend.Backend``.

        Args:
            size: input size in pixels; None is the largest.
            thresholds: None: exits are operating points here, of which nobody leaves one.
            deadline_ms: see ``Anytime``.

        Raises:
            UsageError: there are no exits, or thresholds.
        """
        if thresholds is not None:
            raise UsageError(
                f'thresholds: {self._runtime} runs one exit of {self._source.prefix} at a time; '
                "give backend='tensorflow', or a file of scripts.export that chooses"
            )
        named = exits_of(self.points, size, self._source.prefix)
        with self._lock:
            if size not in self._exits:
                self._exits[size] = Anytime([self.at(point) for point in named])
            return self._exits[size].by(deadline_ms)
