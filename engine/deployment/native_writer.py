"""Writes programs as ``.lqn`` files: operations, tables, and codes as bit planes.

Planes that networks of few bits need come first, see ``runtime/README.md``.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from engine.deployment import native_layout as layout
from engine.deployment import planes, program, shapes
from engine.deployment.alignment import results
from engine.deployment.choices import Chosen
from engine.deployment.native_tables import Numbers, Records, assembled
from engine.deployment.program import Codes, Part, PointProgram, Program
from nets.points import Point


def serialized(whole: Program, texts: Mapping[str, str]) -> bytes:
    """A program as the bytes of a file.

    Args:
        whole: the program.
        texts: by name, that the file carries.

    Raises:
        ValueError: it holds what the file cannot.
    """
    return _Writer(whole).content(texts)


def stages(names: Iterable[str]) -> dict[str, int]:
    """The bits of points by name; 0 of all where one has none, and where one is no point."""
    found = {}
    for name in names:
        point = Point.within(name)
        found[name] = point.bits if str(point) == name and point.bits else 0
    if not all(found.values()):
        return dict.fromkeys(found, 0)
    return found


class _Writer:
    """A file in the making.

    Args:
        whole: the program.
    """

    def __init__(self, whole: Program):
        self._whole = whole
        self._lists, self._strings = Numbers('lists'), Numbers('strings')
        self._tables = {}
        for name, kind in layout.TABLES.items():
            if kind.names is not None:
                self._tables[name] = Records(name)
        # Content of each block, and the number of the section that it is in.
        self._blocks: list[tuple[int, bytes]] = []
        self._constants: dict[str, int] = {}
        self._graphs: dict[Any, int] = {}
        self._bits = stages(whole.points)
        self._sections = sorted(set(self._bits.values()))
        self._add_constants()
        for name, point in whole.points.items():
            self._add_point(name, point)

    def _string(self, text: str) -> int:
        return self._strings.add(list(text.encode() + b'\0'))

    def _used(self) -> dict[str, int]:
        """The first section in which each constant is needed, in the order of their use."""
        found: dict[str, int] = {}
        for name, point in self._whole.points.items():
            section = self._sections.index(self._bits[name])
            for operation in point.operations:
                for part in program.parts(operation).values():
                    found[part.name] = min(section, found.get(part.name, section))
        return found

    def _add_constants(self) -> None:
        """Adds all constants, and codes that several share once."""
        used = self._used()
        kernels = {}
        for name in used:
            constant = self._whole.constants[name]
            if isinstance(constant, Codes):
                kernels[name] = constant
            else:
                self._constants[name] = self._plain(constant.values, used[name])
        for codes in planes.shared(kernels):
            stored = self._codes(codes, used)
            for name, levels in codes.tables.items():
                self._constants[name] = self._coded(codes, levels, stored, used[name])

    def _plain(self, value: np.ndarray, section: int) -> int:
        """The place of a constant without codes.

        Args:
            value: float32.
            section: where it is needed first.
        """
        fields = {'axes': value.ndim, 'extents': _extents(value.shape), 'codes': layout.NONE}
        band = _banded(value)
        if band is not None:
            starts, numbers = band
            content = starts.astype('<u4').tobytes()
            kind, width = layout.BANDED, numbers.shape[1]
        else:
            numbers, content = value, b''
            kind, width = layout.PLAIN, 0
        number, stored = _typed(numbers)
        block = self._block(section, content + stored)
        return self._tables['constants'].add(
            kind=kind, type=number, levels=width, block=block, **fields
        )

    def _codes(self, codes: planes.Shared, used: Mapping[str, int]) -> int:
        """The place of codes, whose planes go where a kernel first needs them.

        Args:
            codes: of some kernels.
            used: section of each constant.
        """
        first = len(self._blocks)
        for number, plane in enumerate(planes.to_planes(codes.codes, codes.bits), 1):
            needing = []
            for name, levels in codes.tables.items():
                if planes.bits_of(len(levels)) >= number:
                    needing.append(used[name])
            self._block(min(needing), plane)
        return self._tables['codes'].add(weights=codes.codes.size, bits=codes.bits, first=first)

    def _coded(self, codes: planes.Shared, levels: np.ndarray, stored: int, section: int) -> int:
        """The place of a kernel of codes.

        Args:
            codes: that it uses.
            levels: [L, C].
            stored: place of the codes.
            section: where it is needed first.
        """
        number, content = _typed(levels)
        shape = codes.codes.shape
        return self._tables['constants'].add(
            kind=layout.CODED,
            axes=len(shape),
            bits=planes.bits_of(len(levels)),
            type=number,
            extents=_extents(shape),
            levels=len(levels),
            codes=stored,
            block=self._block(section, content),
        )

    def _block(self, section: int, content: bytes) -> int:
        self._blocks.append((section, content))
        return len(self._blocks) - 1

    def _add_point(self, name: str, point: PointProgram) -> None:
        """Adds a point, and its graph if no other point has the same."""
        shapes.of_point(self._whole.constants, point)
        tensors = {point.input: 0}
        for view, _ in point.views:
            tensors[view] = len(tensors)
        rows, names, used = [], [], []
        for operation in point.operations:
            rows.append(layout.row(operation, tensors))
            names.append(operation.out)
            for made in results(operation):
                tensors[made] = len(tensors)
            used += [self._part(part) for part in program.parts(operation).values()]
        self._tables['points'].add(
            name=self._string(name),
            graph=self._graph(rows, names, 1 + len(point.views), tensors[point.output], len(used)),
            side=point.side,
            channels=point.channels,
            sections=self._sections.index(self._bits[name]) + 1,
            parts=self._lists.add(used),
            first_choice=self._choices(point.choices, tensors),
            choices=len(point.choices),
            first_view=self._lists.add([side for _, side in point.views]),
            views=len(point.views),
        )

    def _part(self, part: Part) -> int:
        constant = self._constants[part.name]
        return self._tables['parts'].once(constant=constant, extents=_extents(part.shape))

    def _graph(
        self,
        rows: Sequence[layout.Row],
        names: Sequence[str],
        inputs: int,
        output: int,
        parts: int,
    ) -> int:
        """The place of a graph.

        Args:
            rows: its operations.
            names: of their results.
            inputs: how many.
            output: tensor of the logits.
            parts: constants of all operations.
        """
        key = repr((rows, inputs, output))
        if key not in self._graphs:
            operations = self._tables['operations']
            first = len(operations)
            for row, name in zip(rows, names):
                start = self._lists.add(row.numbers)
                operations.add(
                    **row.fields, name=self._string(name), first=start, count=len(row.numbers)
                )
            self._graphs[key] = self._tables['graphs'].add(
                first=first, count=len(rows), inputs=inputs, output=output, parts=parts
            )
        return self._graphs[key]

    def _choices(self, choices: Sequence[Chosen], tensors: Mapping[str, int]) -> int:
        """The place of the first choice of a point."""
        table = self._tables['choices']
        first = len(table)
        for choice in choices:
            table.add(
                name=self._string(choice.name),
                tensor=tensors[choice.result],
                first=self._lists.add(choice.numbers),
                count=len(choice.numbers),
            )
        return first

    def content(self, texts: Mapping[str, str]) -> bytes:
        """The bytes of the file, with texts by name."""
        for name, text in sorted(texts.items()):
            self._tables['texts'].add(name=self._string(name), value=self._string(text))
        data = self._data()
        tables = {name: table.array() for name, table in self._tables.items()}
        tables |= {'lists': self._lists.array(), 'strings': self._strings.array()}
        return assembled(tables, data)

    def _data(self) -> bytes:
        """All sections; adds their records and those of blocks, with places from the first on."""
        content = bytearray()
        places = {}
        for number, bits in enumerate(self._sections):
            first = len(content)
            for place, (section, block) in enumerate(self._blocks):
                if section == number:
                    places[place] = len(content)
                    content += block
                    content += bytes(-len(content) % layout.BLOCK_ALIGNED)
            content += bytes(-len(content) % layout.ALIGNED)
            part = content[first:]
            self._tables['sections'].add(
                place=first, bytes=len(part), checksum=zlib.crc32(part), bits=bits
            )
        for place, (_, block) in enumerate(self._blocks):
            self._tables['blocks'].add(place=places[place], bytes=len(block))
        return bytes(content)


def _extents(shape: Sequence[int]) -> list[int]:
    """Four extents, of which those behind the last axis are 1."""
    return [*shape, *[1] * (4 - len(shape))]


def _typed(numbers: np.ndarray) -> tuple[int, bytes]:
    """The number of the type that numbers are stored in, the smallest that is exact; their bytes.

    Args:
        numbers: float32.
    """
    small = numbers.astype(np.int8) if np.abs(numbers).max(initial=0) <= 128 else None
    # By bytes: a zero can have a sign.
    if small is not None and small.astype(np.float32).tobytes() == numbers.tobytes():
        return 1, small.tobytes()
    return 0, numbers.astype('<f4').tobytes()


def _banded(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Where the numbers of each row begin, and these [rows, width]; None where that takes more.

    Args:
        matrix: float32 of any shape.
    """
    if matrix.ndim != 2 or not matrix.any():
        return None
    rows, columns = matrix.shape
    other = matrix != 0
    starts = other.argmax(axis=1)  # [rows]
    ends = columns - other[:, ::-1].argmax(axis=1)
    width = int(np.where(other.any(axis=1), ends - starts, 1).max())
    starts = np.minimum(starts, columns - width)
    places = starts[:, None] + np.arange(width)  # [rows, width]
    numbers = np.take_along_axis(matrix, places, axis=1)
    if rows * (width + 1) >= matrix.size // 2:
        return None
    again = np.zeros_like(matrix)
    np.put_along_axis(again, places, numbers, axis=1)
    if again.tobytes() != matrix.tobytes():
        return None
    return starts, numbers
