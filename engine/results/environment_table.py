"""The environment of a run in short: versions, machine, state of the checkout, commands."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from engine.errors import UsageError
from engine.quantities import counted
from engine.results.formats import Column, Table
from engine.runs import environment
from engine.runs.environment import Environment

COLUMNS = (Column('fact', 'fact'), Column('value', 'computed with'))

NAME = 'environment'

# Digits of a commit, as git shortens it.
SHORT = 8


def table(folder: Path) -> Table | None:
    """A row for every fact; those in which starts of the training differ name their steps.

    None for a run that has no record of it.
    """
    if not (folder / environment.FILE).exists():
        return None
    try:
        starts = environment.parsed(folder, 'its next start makes it anew')
    except UsageError as error:
        return Table(NAME, COLUMNS, [('unknown', str(error))])
    if not starts:
        return None
    facts = [_facts(start) for start in starts]
    steps = [start.step for start in starts]
    rows = []
    for name in facts[0]:
        values = [own[name] for own in facts]
        rows.append((name, _spelled(steps, values)))
    return Table(NAME, COLUMNS, rows)


def _facts(start: Environment) -> Mapping[str, str]:
    versions = [f'{name} {version}' for name, version in start.packages.items()]
    commit = start.commit[:SHORT] or 'no checkout'
    if start.changed:
        commit += ', with changed files'
    machine = [start.processor, counted(start.cores, 'core'), f'{start.memory / 1e9:.0f} GB']
    return {
        'command': start.command,
        'began': start.began,
        'versions': ', '.join([f'suite {start.suite}', f'Python {start.python}', *versions]),
        'git': commit,
        'machine': ', '.join([*machine, start.system]),
        'features': ' '.join(start.features),
        'GPUs': ', '.join(start.gpus) or 'none',
    }


def _spelled(steps: Sequence[int], values: Sequence[str]) -> str:
    """A value that all starts share, or every one behind the step that it begins at."""
    if len(set(values)) == 1:
        return values[0]
    parts = []
    before = None
    for step, value in zip(steps, values, strict=True):
        if value != before:
            parts.append(f'step {step}: {value}')
        before = value
    return '; '.join(parts)
