"""The Pareto front: what nothing else beats in all costs and in accuracy."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

T = TypeVar('T')

# Of an item, in an order that all items have; None is not known.
Costs = Sequence[float | None]


def front(
    items: Iterable[T], costs: Callable[[T], Costs], accuracy: Callable[[T], float]
) -> list[T]:
    """Items that no other beats or equals in every cost and in accuracy, cheapest first.

    Where a cost of one of two is not known, the others say which of them is better.

    Args:
        items: To choose from.
        costs: Of an item, the one first that the front is sorted by; less is better.
        accuracy: Of an item; more is better.

    >>> triples = [(3, 9, 70), (1, 9, 60), (2, 9, 50), (3, 4, 65)]
    >>> front(triples, costs=lambda item: item[:1], accuracy=lambda item: item[2])
    [(1, 9, 60), (3, 9, 70)]
    >>> front(triples, costs=lambda item: item[:2], accuracy=lambda item: item[2])
    [(1, 9, 60), (3, 4, 65), (3, 9, 70)]
    """
    found: list[tuple[list[float], T]] = []
    ranked = [(_sortable(costs(item)), item) for item in items]
    # An item is beaten by one that comes before it, if by any.
    ranked.sort(key=lambda pair: (-accuracy(pair[1]), pair[0]))
    for own, item in ranked:
        if not any(_at_most(others, own) for others, _ in found):
            found.append((own, item))
    found.sort(key=lambda pair: pair[0])
    return [item for _, item in found]


def _sortable(costs: Costs) -> list[float]:
    """Costs, infinite where they are not known."""
    return [math.inf if cost is None else cost for cost in costs]


def _at_most(costs: Sequence[float], others: Sequence[float]) -> bool:
    """Whether no cost is above the other one that is known."""
    pairs = zip(costs, others, strict=True)
    return not any(other < cost < math.inf for cost, other in pairs)
