"""Reader of pickles that builds plain data only, and runs no code that a pickle asks for.

A pickle is a program for a machine with a stack. This one knows numbers, texts, bytes, tuples,
lists, dicts and sets, protocols 0 to 5, and calls nothing but the functions that it is handed.
Every instruction, text and item is charged to a budget before it takes memory, so that memory and
time are bounded whatever the file says.
"""

import codecs
import pickle
import re
import struct
import sys
from collections.abc import Callable, Mapping
from pickle import UnpicklingError
from typing import Any, BinaryIO, ClassVar

from engine.pickles.budget import Budget, Source
from engine.pickles.values import Class, Function, NotAdmitted, Record, Unfinished, check_key

# Bytes that an instruction may take: an object of Python and its place in a list. An item of a
# dict takes more, and so do an empty set and an array.
INSTRUCTION, ITEM, OBJECT = 96, 136, 256

# Longest number in decimals, longest argument list and largest text outside Latin-1, which takes up
# to four times its bytes.
DIGITS, ARGUMENTS, WIDE_TEXT = 400, 32, 2**20

# Bytes of texts outside Latin-1: in UTF-8, and where a line spells them.
_WIDE = {'utf-8': re.compile(rb'[\xc4-\xff]'), 'raw-unicode-escape': re.compile(rb'\\(U|u(?!00))')}


class Machine:
    """Reads one pickle.

    Args:
        stream: at its start; afterwards behind it.
        names: what a pickle may ask for, by module and name: ``Function``s, or plain values.
        budget: of the objects that it makes.
        text: whether strings of Python 2 are texts (Latin-1) and not bytes.
        find: the object that a persistent reference is about; None if there must be none.
    """

    def __init__(
        self,
        stream: BinaryIO,
        names: Mapping[str, Any],
        budget: Budget,
        *,
        text: bool,
        find: Callable[[Any], Any] | None = None,
    ):
        self._source = Source(stream)
        self._names = names
        self._charge = budget.charge
        self._text = text
        self._find = find
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def load(self) -> Any:
        """The object that the pickle holds.

        Raises:
            NotAdmitted: it asks for another name.
            UnpicklingError: it is damaged, holds something else than plain data, or takes too much.
        """
        take, charge, actions = self._source.take, self._charge, self._ACTIONS
        while (code := take(1)) != pickle.STOP:
            charge(INSTRUCTION)
            action = actions.get(code)
            if action is None:
                raise UnpicklingError(f'an instruction {code!r}, which plain data never need')
            action(self)
        return self._stack.pop()

    # Values that follow their instruction.

    def _number(self, form: str) -> Any:
        (value,) = struct.unpack(form, self._source.take(struct.calcsize(form)))
        return value

    def _raw(self, form: str) -> bytes:
        """Bytes after their length."""
        count = self._number(form)
        self._charge(max(count, 0))
        return self._source.take(count)

    def _decoded(self, data: bytes, codec: str) -> str:
        if len(data) > WIDE_TEXT and _WIDE[codec].search(data):
            raise UnpicklingError(f'a text of {len(data)} bytes')
        errors = 'surrogatepass' if codec == 'utf-8' else 'strict'
        found = data.decode(codec, errors)
        self._charge(sys.getsizeof(found))
        return found

    def _old_string(self, data: bytes) -> str | bytes:
        """A string of Python 2."""
        if not self._text:
            return data
        self._charge(len(data))
        return data.decode('latin1')

    def _line(self) -> bytes:
        data = self._source.line()
        self._charge(len(data))
        return data

    def _decimal(self, kind: Callable[[bytes], Any]) -> Any:
        data = self._line()
        if len(data) > DIGITS:
            raise UnpicklingError(f'a number of {len(data)} digits')
        return kind(data)

    def _integer(self) -> int | bool:
        value = self._decimal(bytes)
        if value in (b'00', b'01'):
            return value == b'01'
        return int(value)

    def _quoted(self) -> str | bytes:
        data = self._line().strip()
        if len(data) < 2 or data[:1] != data[-1:] or data[:1] not in (b'"', b"'"):
            raise UnpicklingError('a string without quotes')
        return self._old_string(codecs.escape_decode(data[1:-1])[0])  # type: ignore[attr-defined]

    def _long(self, form: str) -> int:
        data = self._raw(form)
        if len(data) > DIGITS:
            raise UnpicklingError(f'a number of {len(data)} bytes')
        return int.from_bytes(data, 'little', signed=True)

    # Containers.

    def _marked(self) -> list[Any]:
        """Takes all that was pushed after the last mark off the stack."""
        start = self._marks.pop()
        found = self._stack[start:]
        del self._stack[start:]
        return found

    def _top(self, kind: type) -> Any:
        target = self._stack[-1]
        if not isinstance(target, kind):
            raise UnpicklingError(f'items for something that is no {kind.__name__}')
        return target

    def _extend(self, items: list[Any]) -> None:
        self._top(list).extend(items)

    def _update(self, items: list[Any]) -> None:
        """Adds keys and values in turn."""
        target = self._top(dict)
        self._charge(ITEM * len(items))
        for key, value in zip(items[::2], items[1::2], strict=True):
            check_key(key)
            target[key] = value

    def _add(self, items: list[Any]) -> None:
        target = self._top(set)
        self._charge(ITEM * len(items))
        for item in items:
            check_key(item)
            target.add(item)

    def _popped(self, count: int) -> list[Any]:
        """The last values, the last one last.

        Raises:
            UnpicklingError: there are fewer.
        """
        if len(self._stack) < count:
            raise UnpicklingError('too few values')
        found = self._stack[-count:]
        del self._stack[-count:]
        return found

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _push_dict(self) -> None:
        items = self._marked()
        self._push({})
        self._update(items)

    def _push_set(self) -> None:
        self._charge(OBJECT)
        self._push(set())

    def _push_frozen_set(self) -> None:
        items = self._marked()
        self._push_set()
        self._add(items)
        self._push(frozenset(self._stack.pop()))

    # Memory of what was made.

    def _keep(self, slot: int) -> None:
        # Slots are counted up from zero.
        if not 0 <= slot <= self._source.size:
            raise UnpicklingError('a memo slot that cannot be')
        self._charge(ITEM)
        self._memo[slot] = self._stack[-1]

    def _recall(self, slot: int) -> None:
        value = self._memo[slot]
        if isinstance(value, Unfinished) and value.value is not None:
            value = value.value
        self._push(value)

    # Names, calls and states.

    def _named(self, module: Any, name: Any) -> None:
        place = f'{module}.{name}' if isinstance(module, str) and isinstance(name, str) else '?'
        if place not in self._names:
            raise NotAdmitted(place)
        self._push(self._names[place])

    def _call(self, function: Any, arguments: Any) -> None:
        """Pushes what an admitted function returns.

        Its work is at most that of copying its arguments.

        Raises:
            UnpicklingError: it is no function.
        """
        if not isinstance(function, Function) or not isinstance(arguments, tuple):
            raise UnpicklingError('a call of something that is no function')
        self._charge_copies(arguments)
        self._push(function.call(*arguments))

    def _charge_copies(self, arguments: tuple[Any, ...]) -> None:
        """Charges an object that holds copies of all these.

        Raises:
            UnpicklingError: there are too many.
        """
        if len(arguments) > ARGUMENTS:
            raise UnpicklingError(f'{len(arguments)} arguments')
        self._charge(OBJECT)
        for argument in arguments:
            if isinstance(argument, str | bytes):
                self._charge(len(argument))
            elif isinstance(argument, list | tuple | dict | set | frozenset):
                self._charge(ITEM * len(argument))

    def _make(self, kind: Any, arguments: Any) -> None:
        if not isinstance(kind, Class) or arguments:
            raise UnpicklingError('an instance of something that is no class')
        self._push(kind.call())

    def _instance(self) -> None:
        module, name = self._line().decode('ascii'), self._line().decode('ascii')
        arguments = tuple(self._marked())
        self._named(module, name)
        self._call(self._stack.pop(), arguments)

    def _object(self) -> None:
        function, *arguments = self._marked()
        self._call(function, tuple(arguments))

    def _build(self) -> None:
        target, state = self._popped(2)
        if isinstance(target, Unfinished):
            if not isinstance(state, tuple):
                raise UnpicklingError('a state that is no tuple')
            self._charge_copies(tuple(part for part in state if isinstance(part, str)))
            target.value = target.build(state)
            self._push(target.value)
        elif isinstance(target, Record):
            self._push(target)
        else:
            raise UnpicklingError('a state for something that has none')

    def _refer(self, reference: Any) -> None:
        if self._find is None:
            raise UnpicklingError('a reference to something outside')
        self._push(self._find(reference))

    def _check_protocol(self) -> None:
        version = self._number('<B')
        if version > 5:
            raise UnpicklingError(f'pickle protocol {version}, but 0 to 5 are read')

    _ACTIONS: ClassVar[dict[bytes, Callable[['Machine'], Any]]] = {
        pickle.PROTO: _check_protocol,
        pickle.FRAME: lambda m: m._number('<Q'),
        pickle.NONE: lambda m: m._push(None),
        pickle.NEWTRUE: lambda m: m._push(True),
        pickle.NEWFALSE: lambda m: m._push(False),
        pickle.INT: lambda m: m._push(m._integer()),
        pickle.LONG: lambda m: m._push(m._decimal(lambda data: int(data.rstrip(b'L')))),
        pickle.FLOAT: lambda m: m._push(m._decimal(float)),
        pickle.BININT: lambda m: m._push(m._number('<i')),
        pickle.BININT1: lambda m: m._push(m._number('<B')),
        pickle.BININT2: lambda m: m._push(m._number('<H')),
        pickle.BINFLOAT: lambda m: m._push(m._number('>d')),
        pickle.LONG1: lambda m: m._push(m._long('<B')),
        pickle.LONG4: lambda m: m._push(m._long('<i')),
        pickle.STRING: lambda m: m._push(m._quoted()),
        pickle.BINSTRING: lambda m: m._push(m._old_string(m._raw('<i'))),
        pickle.SHORT_BINSTRING: lambda m: m._push(m._old_string(m._raw('<B'))),
        pickle.UNICODE: lambda m: m._push(m._decoded(m._line(), 'raw-unicode-escape')),
        pickle.BINUNICODE: lambda m: m._push(m._decoded(m._raw('<I'), 'utf-8')),
        pickle.SHORT_BINUNICODE: lambda m: m._push(m._decoded(m._raw('<B'), 'utf-8')),
        pickle.BINUNICODE8: lambda m: m._push(m._decoded(m._raw('<Q'), 'utf-8')),
        pickle.BINBYTES: lambda m: m._push(m._raw('<I')),
        pickle.SHORT_BINBYTES: lambda m: m._push(m._raw('<B')),
        pickle.BINBYTES8: lambda m: m._push(m._raw('<Q')),
        pickle.BYTEARRAY8: lambda m: m._push(m._raw('<Q')),
        pickle.MARK: lambda m: m._marks.append(len(m._stack)),
        pickle.POP: lambda m: m._popped(1),
        pickle.POP_MARK: lambda m: m._marked(),
        pickle.DUP: lambda m: m._push(m._stack[-1]),
        pickle.EMPTY_LIST: lambda m: m._push([]),
        pickle.EMPTY_DICT: lambda m: m._push({}),
        pickle.EMPTY_SET: _push_set,
        pickle.EMPTY_TUPLE: lambda m: m._push(()),
        pickle.LIST: lambda m: m._push(m._marked()),
        pickle.DICT: _push_dict,
        pickle.FROZENSET: _push_frozen_set,
        pickle.TUPLE: lambda m: m._push(tuple(m._marked())),
        pickle.TUPLE1: lambda m: m._push(tuple(m._popped(1))),
        pickle.TUPLE2: lambda m: m._push(tuple(m._popped(2))),
        pickle.TUPLE3: lambda m: m._push(tuple(m._popped(3))),
        pickle.APPEND: lambda m: m._extend(m._popped(1)),
        pickle.APPENDS: lambda m: m._extend(m._marked()),
        pickle.SETITEM: lambda m: m._update(m._popped(2)),
        pickle.SETITEMS: lambda m: m._update(m._marked()),
        pickle.ADDITEMS: lambda m: m._add(m._marked()),
        pickle.PUT: lambda m: m._keep(m._decimal(int)),
        pickle.BINPUT: lambda m: m._keep(m._number('<B')),
        pickle.LONG_BINPUT: lambda m: m._keep(m._number('<I')),
        pickle.MEMOIZE: lambda m: m._keep(len(m._memo)),
        pickle.GET: lambda m: m._recall(m._decimal(int)),
        pickle.BINGET: lambda m: m._recall(m._number('<B')),
        pickle.LONG_BINGET: lambda m: m._recall(m._number('<I')),
        pickle.GLOBAL: lambda m: m._named(m._line().decode(), m._line().decode()),
        pickle.STACK_GLOBAL: lambda m: m._named(*m._popped(2)),
        pickle.REDUCE: lambda m: m._call(*m._popped(2)),
        pickle.NEWOBJ: lambda m: m._make(*m._popped(2)),
        pickle.INST: _instance,
        pickle.OBJ: _object,
        pickle.BUILD: _build,
        pickle.BINPERSID: lambda m: m._refer(m._popped(1)[0]),
    }
