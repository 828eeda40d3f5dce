"""Export as an ONNX file, and the runtimes that are installed for it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from engine.data.preprocess import resized
from engine.deployment import integer_program, snapping
from engine.deployment.description import describe
from engine.deployment.forms import Runtime
from engine.deployment.program import Program
from engine.deployment.program_export import INTERPRETED, OfProgram
from engine.deployment.resizing import without_resize
from engine.deployment.runtimes import (
    REMEDY,
    CannotRun,
    Loaded,
    first_line,
    installed,
    load,
    one_by_one,
)
from engine.deployment.texts import Texts
from engine.errors import UsageError
from engine.runs.checkpoint import Checkpoint
from nets.points import Point

try:
    from engine.deployment import onnx_file
except ImportError as error:
    raise UsageError(
        f'--form packed, int8 and float: {error}; {REMEDY} installs what they need'
    ) from error


class Packed(OfProgram):
    """One file for one or several operating points, low-bit kernels as packed codes.

    Attributes:
        form: name in the registry.
        packed: whether kernels are stored as codes.
    """

    form = 'packed'
    packed = True

    def __init__(self) -> None:
        super().__init__()
        self._resizes = True
        self._resize = ''

    def leave_resize(self) -> None:
        self._resizes = False
        # Means of pixels, not of normalised ones: a sum in another order can cross a threshold.
        self.tolerated = 0.001

    def write(self, source: Checkpoint, points: Sequence[str], path: Path) -> None:
        assert source.config is not None
        self._resize = source.config.resize
        if self.cascade is not None:
            self._check_resize()
        super().write(source, points, path)

    def _formed(self, whole: Program, run: str) -> Program:
        del run
        return whole if self._resizes else without_resize(whole)

    def _described(self, source: Checkpoint) -> Texts:
        return describe(
            source, self._program, self.form, resizes=self._resizes, cascade=self.cascade
        )

    def _save(self, texts: Texts, path: Path) -> None:
        onnx_file.save(
            self._program,
            path,
            texts.spelled(),
            packed=self.packed,
            by_height=not self._resizes,
        )

    def _check_resize(self) -> None:
        """Refuses to leave the resize of several sizes to others, who do not know which will run.

        Raises:
            UsageError: there are several.
        """
        sizes = {Point.parse(name).size for name in self.cascade.points}
        if not self._resizes and len(sizes) > 1:
            raise UsageError(
                f'--no-preprocess: {self.cascade.name} makes the size of a stage when the stage '
                'runs, which only the file knows; leave it out, or give a cascade of one size'
            )

    def runtimes(self, path: Path) -> dict[str, Runtime]:
        found: dict[str, Runtime] = {'interpreter': self._interpreted}
        content = path.read_bytes()
        for name in installed():
            loaded = load(name, content, 'the file', threads=1)
            found[f'{name} {loaded.version}'] = self._run_by(name, loaded)
        return found

    def _run_by(self, name: str, loaded: Loaded) -> Runtime:
        """A function that runs every point of a loaded file.

        Args:
            name: of the runtime.
            loaded: the file.
        """
        runs = []
        for number, point in enumerate(self._program.points.values()):
            one = loaded.at(number, point.side)
            if point.choices:
                one = one_by_one(one)
            runs.append(one)

        def run(views: Sequence[np.ndarray], number: int) -> np.ndarray:
            """Answers of the runtime.

            Raises:
                CannotRun: it fails.
            """
            given = [self._sized(view, number) for view in views]
            try:
                return runs[number](*given)
            except Exception as error:  # every runtime has classes of its own for every fault
                point = list(self._program.points)[number]
                raise CannotRun(
                    f'the file: {name} cannot run it at {point} ({first_line(error)})'
                ) from error

        return run

    def _interpreted(self, views: Sequence[np.ndarray], number: int) -> np.ndarray:
        some = [self._sized(view[:INTERPRETED], number) for view in views]
        return super()._interpreted(some, number)

    def _sized(self, images: np.ndarray, number: int) -> np.ndarray:
        """Views of evaluation as the file takes them."""
        if self._resizes:
            return images
        side = list(self._program.points.values())[number].side
        return resized(images, self._resize, side)

    def note(self, path: Path, texts: Mapping[str, str]) -> None:
        onnx_file.annotate(path, texts)


class Float(Packed):
    """The same with kernels in float32."""

    form = 'float'
    packed = False


class Int8(Packed):
    """The same with layers of whole numbers of 8 bits, which runtimes can compute in integers."""

    form = 'int8'
    snapped = True
    tolerated = 0.001

    def check(self, source: Checkpoint) -> None:
        assert source.config is not None
        policy = source.config.quantization.to_policy()
        if not policy.quantizers('weight') or not policy.quantizers('activation'):
            raise UsageError(integer_program.NOTHING)
        if snapping.is_left_out(source):
            raise UsageError(_not_whole(source.prefix, str(Path(source.prefix).parent)))

    def _formed(self, whole: Program, run: str) -> Program:
        """The program in whole numbers.

        Raises:
            UsageError: its levels are none, or nothing is quantized on both sides.
        """
        if integer_program.is_integer(whole):
            return super()._formed(whole, run)
        try:
            return super()._formed(integer_program.integer(whole), run)
        except integer_program.NotWhole as error:
            raise UsageError(_not_whole(error, run)) from error


def _not_whole(what: object, run: str) -> str:
    """The message about levels that are no whole numbers.

    Args:
        what: has them.
        run: the run folder.
    """
    return (
        f'--form int8: {what} has levels that are no whole numbers of 8 bits; --snap, or '
        f'python -m scripts.snap {run}, makes a run whose levels are'
    )
