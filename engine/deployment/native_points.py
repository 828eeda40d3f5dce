"""Operating points of a ``.lqn`` file."""

from __future__ import annotations

from typing import Any

from engine.deployment import native_layout as layout
from engine.deployment import shapes
from engine.deployment.choices import Chosen
from engine.deployment.names import IMAGES
from engine.deployment.native_constants import Stored
from engine.deployment.native_head import Head
from engine.deployment.program import Constant, Operation, Part, PointProgram


class PointReader:
    """Reads a point.

    Args:
        head: of the file.
        stored: its constants.
        record: of the point.
        constants: pool that gets what it uses.
    """

    def __init__(self, head: Head, stored: Stored, record: Any, constants: dict[str, Constant]):
        self._head = head
        self._stored = stored
        self._record = record
        self._constants = constants
        self._graph = head.row('graphs', record['graph'])
        self._names = [IMAGES]
        self._views: list[tuple[str, int]] = []
        for side in head.rows('lists', record['first_view'], record['views']).tolist():
            name = f'{IMAGES}_{side}'
            if side < 1 or name in self._names:
                raise ValueError(f'further images of side {side}')
            self._views.append((name, side))
            self._names.append(name)

    def made(self, left: int) -> PointProgram:
        """The point.

        Args:
            left: operations that other points may still have.

        Raises:
            ValueError: its record fits no point.
        """
        if left < 0:
            raise ValueError('more operations than a file may have')
        record, graph = self._record, self._graph
        if graph['inputs'] != len(self._names) or graph['zero']:
            raise ValueError(f'{graph["inputs"]} inputs, of {len(self._names)}')
        side, channels = int(record['side']), int(record['channels'])
        if channels not in (1, 3) or side < 1 or side * side * channels > shapes.LARGEST:
            raise ValueError(f'images of {channels} channels and side {side}')
        views = tuple(self._views)
        bare = PointProgram(IMAGES, side, (), '', (), channels, views)
        known = shapes.Shapes(self._constants, bare)
        operations = tuple(self._operations(known))
        output = layout.named(graph['output'], self._names)
        if len(known.tensors[output].shape) != 1:
            raise ValueError('logits that are no rows')
        choices = tuple(self._choices(known))
        return PointProgram(IMAGES, side, operations, output, choices, channels, views)

    def _operations(self, known: shapes.Shapes) -> list[Operation]:
        """The operations, whose shapes are added to those that are known.

        Raises:
            ValueError: one is none, or has other constants.
        """
        graph = self._graph
        parts = self._head.rows('lists', self._record['parts'], graph['parts']).tolist()
        taken = 0
        found = []
        for record in self._head.rows('operations', graph['first'], graph['count']):
            if not 1 <= record['kind'] <= len(layout.KINDS):
                raise ValueError(f'an operation of kind {record["kind"]}')
            kind = layout.KINDS[record['kind'] - 1]
            count = len(layout.part_fields(kind))
            own = [self._part(place) for place in parts[taken : taken + count]]
            taken += count
            if len(own) < count:
                raise ValueError(f'{kind.__name__} has {len(own)} constants, not {count}')
            operation = self._operation(record, own, known)
            known.add(operation)
            found.append(operation)
        if taken != len(parts):
            raise ValueError(f'{len(parts)} constants, of which {taken} are used')
        return found

    def _part(self, place: int) -> Part:
        return self._stored.part(place, int(self._record['sections']), self._constants)

    def _operation(self, record: Any, parts: list[Part], known: shapes.Shapes) -> Operation:
        """An operation, whose results get names."""
        numbers = self._head.rows('lists', record['first'], record['count']).tolist()
        name = self._head.string(int(record['name']))
        made: list[str] = []
        for number in range(layout.results(record)):
            own = f'{name}/{number}' if number else name
            if own in known.tensors:
                own = f'{own}+{len(self._names) + number}'
            made.append(own)
        found = layout.operation(record, numbers, self._names, made, parts, known.tensors)
        self._names += made
        return found

    def _choices(self, known: shapes.Shapes) -> list[Chosen]:
        record = self._record
        found = []
        rows = self._head.rows('choices', record['first_choice'], record['choices'])
        for place, tensor, first, count in rows.tolist():
            result = layout.named(tensor, self._names)
            if known.tensors[result].shape != ():
                raise ValueError('a choice that is told by what is no number')
            numbers = tuple(self._head.rows('lists', first, count).tolist())
            found.append(Chosen(self._head.string(place), result, numbers))
        return found
