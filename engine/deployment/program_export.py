"""Export of programs: what the forms that are written from one have in common."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from engine.deployment import chaining, interpreter, trace
from engine.deployment.forms import Exporter
from engine.deployment.program import Program
from engine.deployment.texts import Texts
from engine.files import in_shell
from engine.runs.checkpoint import Checkpoint

# Images of a batch that the interpreter runs: it takes a hundred times as long as a runtime.
INTERPRETED = 4


class OfProgram(Exporter):
    """Base of these forms."""

    static = True
    chooses = True

    def __init__(self) -> None:
        self._program = Program({}, {})

    def write(self, source: Checkpoint, points: Sequence[str], path: Path) -> None:
        """Operating points in a new file.

        Args:
            source: where they are from.
            points: their spellings, strongest first; of a cascade, that of its chain.
            path: to make.

        Raises:
            UsageError: the form cannot hold them.
        """
        if self.cascade is not None:
            whole = chaining.of_cascade(source, self.cascade)
        else:
            whole = trace.of_points(source, points, self.thresholds)
        self._program = self._formed(whole, in_shell(Path(source.prefix).parent))
        self._save(self._described(source), path)

    def rewrite(self, whole: Program, texts: Texts, path: Path) -> None:
        """Points of another file in a new one.

        Args:
            whole: the program of the other one.
            texts: of the new one.
            path: to make.

        Raises:
            UsageError: the form cannot hold them.
        """
        self._program = self._formed(whole, 'RUN')
        self._save(texts, path)

    def _formed(self, whole: Program, run: str) -> Program:
        """The program as this form has it.

        Args:
            whole: the program.
            run: that it is from, for messages.

        Raises:
            UsageError: the form cannot hold it.
        """
        del run
        return whole

    def _described(self, source: Checkpoint) -> Texts:
        """The texts of the file.

        Raises:
            NotImplementedError: a form must have this method.
        """
        raise NotImplementedError(type(self).__name__)

    def _save(self, texts: Texts, path: Path) -> None:
        """Writes the program.

        Raises:
            NotImplementedError: a form must have this method.
        """
        raise NotImplementedError(type(self).__name__)

    def _interpreted(self, views: Sequence[np.ndarray], number: int) -> np.ndarray:
        """Answers of the interpreter to the first images, see ``Runtime``.

        Args:
            views: images by view, [N, side, side, C] each.
            number: of the point.
        """
        point = list(self._program.points)[number]
        some = [view[:INTERPRETED] for view in views]
        return np.concatenate(interpreter.answers(self._program, point, *some), axis=1)
