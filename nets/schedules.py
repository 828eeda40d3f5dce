"""Target execution rates of ConvNet-AIG's blocks, as the published README lists them. Light: imports nothing."""

# None stands for the rate of the preset's name.
SCHEDULES: dict[str, tuple[float | None, ...]] = {
    'aig50': (1, 1, 0.8, 1, None, None, None, 1, None, None, None, None, None, 1, 0.7, 1),
    'aig101': (1,) * 8 + (None,) * 25,
}


def schedule(name: str, rate: float) -> tuple[float, ...]:
    """Target rates of a published schedule with ``rate`` where it leaves the choice.

    >>> schedule('aig50', 0.4)[:5]
    (1.0, 1.0, 0.8, 1.0, 0.4)
    """
    return tuple(rate if entry is None else float(entry) for entry in SCHEDULES[name])
