"""The Pareto front: what nothing else beats in both cost and accuracy."""

from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar('T')


def front(
    items: Iterable[T], cost: Callable[[T], float], accuracy: Callable[[T], float]
) -> list[T]:
    """Items that no other beats or equals in both cost and accuracy, cheapest first.

    Args:
        items: To choose from.
        cost: Of an item; less is better.
        accuracy: Of an item; more is better.

    >>> front([(3, 70), (1, 60), (2, 50)], cost=lambda item: item[0], accuracy=lambda item: item[1])
    [(1, 60), (3, 70)]
    """
    found: list[T] = []
    for item in sorted(items, key=lambda item: (cost(item), -accuracy(item))):
        if not found or accuracy(item) > accuracy(found[-1]):
            found.append(item)
    return found
