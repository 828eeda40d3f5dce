"""Time of alternatives that take turns: what slows the machine down slows all of them."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Runs = Mapping[str, Callable[[], Any]]


class Taken(NamedTuple):
    """Seconds of all processors and of the clock that a call took."""

    cpu_s: float
    wall_s: float


def costs_by_turns(runs: Runs, rounds: int) -> dict[str, list[Taken]]:
    """Times of callables that take turns, after one call of each for warming up."""
    costs: dict[str, list[Taken]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    for _ in range(rounds):
        for name, run in runs.items():
            cpu, wall = time.process_time(), time.perf_counter()
            run()
            costs[name].append(Taken(time.process_time() - cpu, time.perf_counter() - wall))
    return costs


def take_turns(runs: Runs, rounds: int) -> dict[str, list[float]]:
    """Wall seconds of callables that take turns, after one call of each for warming up.

    >>> {name: len(seconds) for name, seconds in take_turns({'a': list, 'b': dict}, 3).items()}
    {'a': 3, 'b': 3}
    """
    times = {}
    for name, costs in costs_by_turns(runs, rounds).items():
        times[name] = [taken.wall_s for taken in costs]
    return times


def median_seconds(runs: Runs, rounds: int) -> dict[str, float]:
    """Median wall seconds of callables that take turns."""
    times = take_turns(runs, rounds)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def images_per_second(runs: Runs, images: int, rounds: int) -> dict[str, float]:
    """Median throughput of callables that take turns.

    Args:
        runs: Callables by name; each computes all the images once.
        images: How many these are.
        rounds: Measured calls of each.
    """
    seconds = median_seconds(runs, rounds)
    return {name: images / taken for name, taken in seconds.items()}
