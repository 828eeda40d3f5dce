"""Objects that a pickle may name, call and make: none that it could alter, or run code with."""

from collections.abc import Callable
from pickle import UnpicklingError
from typing import Any

# A key could otherwise take long to hash, or be made to collide with all others.
_KEYS = (str, bytes, int, float, bool, type(None))
_LARGEST_KEY = 2**60


class NotAdmitted(UnpicklingError):
    """A pickle asks for a name that is not among those that it may have."""

    def __init__(self, place: str):
        super().__init__(f'{place[:80]} is not admitted')
        self.place = place


class Function:
    """A function that a pickle can call; unlike a plain one it has nothing that could be set."""

    __slots__ = ('call',)

    def __init__(self, call: Callable[..., Any]):
        self.call = call


class Class(Function):
    """A function that makes an instance, also where a pickle makes one without arguments."""

    __slots__ = ()


class Unfinished:
    """An object whose state a pickle tells later, with the instruction BUILD."""

    value: Any = None  # what it became

    def build(self, state: Any) -> Any:
        """The finished object, with this state.

        Raises:
            UnpicklingError: it has none, or another.
        """
        raise UnpicklingError('an object that has no state')


class Record(dict):
    """A dict that stands for an object; attributes that a pickle sets on it are dropped."""

    __slots__ = ()


def ordered(pairs: Any = ()) -> Record:
    """Record of a dict or of pairs of key and value.

    Raises:
        UnpicklingError: a key is neither text nor number.
    """
    items = pairs.items() if isinstance(pairs, dict) else pairs
    found = Record()
    for key, value in items:
        check_key(key)
        found[key] = value
    return found


def check_key(key: Any) -> None:
    """Refuses keys of dicts and items of sets that are neither texts nor numbers.

    Raises:
        UnpicklingError: it is another one.
    """
    if type(key) not in _KEYS or (isinstance(key, int) and abs(key) > _LARGEST_KEY):
        raise UnpicklingError('a key that is neither text nor number')
