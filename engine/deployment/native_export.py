"""Export as a ``.lqn`` file, for programs without a runtime of others."""

from collections.abc import Mapping
from pathlib import Path

from engine.deployment import integer_program, native_reader, native_runtimes, native_writer
from engine.deployment.description import describe
from engine.deployment.forms import Runtime
from engine.deployment.native_reader import NativeFile
from engine.deployment.program import Program
from engine.deployment.program_export import OfProgram
from engine.deployment.runtimes import COMPILED, INTERPRETER
from engine.deployment.texts import Texts
from engine.errors import UsageError
from engine.graph import freeze
from engine.runs.checkpoint import Checkpoint
from nets.points import Point


class Native(OfProgram):
    """Operations and bit planes, in whole numbers where levels are such."""

    def __init__(self) -> None:
        super().__init__()
        self._bits: int | None = None

    def cut(self, bits: int) -> None:
        self._bits = bits

    def check(self, source: Checkpoint) -> None:
        if self._bits is None:
            return
        known = []
        for name in freeze.points(source):
            bits = Point.parse(name).bits
            if bits is not None and bits not in known:
                known.append(bits)
        if self._bits not in known:
            there = ', '.join(map(str, known)) or 'no points of several bits; leave it out'
            raise UsageError(f'--bits-first {self._bits}: {source.prefix} has {there}')

    def _formed(self, whole: Program, run: str) -> Program:
        """The program in whole numbers; as it is where it has others."""
        if integer_program.is_integer(whole):
            found = whole
        else:
            try:
                found = integer_program.integer(whole)
            except integer_program.NotWhole as error:
                print(
                    f'layers stay in float: {error} has levels that are no whole numbers of 8 '
                    f'bits; --snap, or python -m scripts.snap {run}, makes a run whose levels are'
                )
                return whole
            except UsageError:  # no layer is quantized on both sides
                return whole
        self.tolerated = 0.001
        return found

    def _described(self, source: Checkpoint) -> Texts:
        return describe(source, self._program, 'native', library='numpy', cascade=self.cascade)

    def _save(self, texts: Texts, path: Path) -> None:
        content = native_writer.serialized(self._program, texts.spelled())
        if self._bits is not None:
            # Bits that it lacks are refused at once. All of it is checked, and cut by ``note``.
            NativeFile(content, '--out').first(self._bits)
        path.write_bytes(content)

    def runtimes(self, path: Path) -> dict[str, Runtime]:
        """The interpreter of what stands in the file, and the library in C where it is there."""
        file = native_reader.read(path)
        self._program = file.program()
        found: dict[str, Runtime] = {INTERPRETER: self._interpreted}
        if native_runtimes.is_there(COMPILED):
            compiled = native_runtimes.Compiled(file, 1)
            ways = [compiled.at(number, 0) for number in range(len(file.points))]
            found[f'{COMPILED} {compiled.version}'] = lambda views, number: ways[number](*views)
        return found

    def note(self, path: Path, texts: Mapping[str, str]) -> None:
        """Adds texts to the file, and keeps the part of it that was asked for."""
        content = native_reader.read(path).with_texts(texts)
        if self._bits is not None:
            content = NativeFile(content, '--out').first(self._bits)
        path.write_bytes(content)
