"""The table of choices: operating points, thresholds and gates that nothing else beats."""

from collections.abc import Sequence

from engine.results.choice import Choice
from engine.results.formats import Column, Table

COLUMNS = (
    Column('run', 'run'),
    Column('point', 'point'),
    Column('', 'how'),
    Column('top1', 'top-1, %', 2),
    Column('madds', 'MAdds, M', 2, 1e6),
    Column('ms', 'ms', 2),
    Column('device'),
    Column('weight_bytes', 'weights, kB', 1, 1e3),
    Column('thresholds'),
    Column('conditions'),
    Column('commands'),
)


def table(found: Sequence[Choice]) -> Table:
    """A row per choice, and below whose milliseconds they are."""
    rows = []
    for choice in found:
        policy = choice.policy or choice.cascade
        thresholds = None
        if policy is not None:
            thresholds = ' '.join(map(str, policy.thresholds))
        device = choice.device if choice.ms is not None else None
        rows.append(
            (
                choice.run,
                choice.point,
                choice.kind,
                choice.top1,
                choice.madds,
                choice.ms,
                device,
                choice.weight_bytes,
                thresholds,
                choice.conditions,
                '; '.join(choice.commands),
            )
        )
    devices = dict.fromkeys(choice.device for choice in found if choice.ms is not None)
    notes = [f'ms: of one image alone on {device}' for device in devices]
    return Table('choices', COLUMNS, rows, notes=notes)
