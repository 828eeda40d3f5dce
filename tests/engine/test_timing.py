"""Alternatives take turns: order of the calls, warm-up, and what is made of the seconds."""

import time

import pytest

from engine import timing


def test_alternatives_take_turns_after_one_call_of_each():
    calls = []
    runs = {name: lambda name=name: calls.append(name) for name in 'ab'}
    times = timing.take_turns(runs, 2)
    assert calls == ['a', 'b', 'a', 'b', 'a', 'b']
    assert {name: len(seconds) for name, seconds in times.items()} == {'a': 2, 'b': 2}


@pytest.fixture
def clock(monkeypatch):
    """A clock that only calls of the alternatives advance."""
    now = [0.0]
    monkeypatch.setattr(time, 'perf_counter', lambda: now[0])
    return now


def test_throughput_is_that_of_the_median_round(clock):
    seconds = iter([9.0, 4.0, 1.0, 2.0])  # the first call warms up

    def run():
        clock[0] += next(seconds)

    assert timing.images_per_second({'net': run}, images=8, rounds=3) == {'net': 4.0}
