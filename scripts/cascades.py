"""Cascades for ``scripts.thresholds``: chosen on the hold-out images, judged on the others."""

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from engine.console import followed
from engine.errors import UsageError, prefixed
from engine.files import check_writable, in_shell, writable, write_json
from engine.quantities import quantity
from engine.results import (
    cascade_search,
    cascade_table,
    cascades,
    chains,
    exit_records,
    formats,
    point_answers,
    records,
)
from engine.results.cascade_search import Candidate
from engine.results.cascades import FOLDER, Calibrated, Cascade, Judged
from engine.results.exit_records import BITOPS, HOLDOUT, MADDS, MS, VALIDATION
from engine.results.point_answers import Answers
from engine.results.replays import Replay
from engine.runs import fingerprint, holdout
from engine.runs.folder import checkpoints
from scripts import noted

AUTO = 'auto'
# Start of an accuracy that is said by its distance from the best point.
BEST = 'best'

# Of ``--sweep``, each of which is searched for.
MOST_BUDGETS = 1000

# What limits the cost of a cascade -> its unit, in which the stages ascend.
UNITS = {'--budget': MADDS, '--bitops': BITOPS, '--latency': MS}


@dataclasses.dataclass(frozen=True)
class Study:
    """All that a cascade of a run is chosen by.

    Attributes:
        held: chains on the hold-out images.
        test: on the validation images.
        single: cost of each point alone.
        unit: of costs.
        combine: which stages answer.
        calibration: by point; empty where it was not asked for.
        checkpoint: prefix.
        identity: of the checkpoint.
    """

    held: Replay
    test: Replay
    single: Mapping[str, float]
    unit: str
    combine: str
    calibration: Mapping[str, Calibrated]
    checkpoint: str
    identity: str

    def expected(self, point: str) -> float:
        """Percent right that is to be expected of a point, by the hold-out images."""
        return cascade_search.alone(self.held, point, self.single[point]).expected

    def best_point(self, most: float) -> str:
        """The most accurate point, by the hold-out images, that costs at most so much."""
        cheap = [name for name, cost in self.single.items() if cost <= most]
        if not cheap:
            cheap = [min(self.single, key=lambda name: self.single[name])]
        return max(cheap, key=lambda name: (self.expected(name), -self.single[name]))


def run(args: argparse.Namespace) -> str:
    """Chooses cascades, writes them, and says what they give.

    Raises:
        UsageError: flags do not fit, there are no records, or nothing keeps the limits.
    """
    _check_flags(args)
    found = list(checkpoints(args.run).values())
    if not found:
        raise UsageError(
            f'RUN {args.run}: no checkpoint (model-<step>.index) in this folder; a run has one '
            'after its first epoch'
        )
    out = output(args.out, args.run / FOLDER / file_name(args))
    study = prepared(args, found[-1])
    tried = candidates(args, study)
    chosen = [finished(study, one, asked) for asked, one in selected(args, study, tried)]
    out.parent.mkdir(parents=True, exist_ok=True)
    lines = []
    if args.sweep:
        write_json(out, [dataclasses.asdict(one) for one in chosen])
    else:
        cascades.write(out, chosen[0])
        lines = cascade_table.remarks(chosen[0])
        command = f'python imagenet_tf.py --eval -ec {in_shell(args.run)}'
        lines.append(f'run it: {command} --cascade {in_shell(out)}')
    note = '\n'.join([*lines, f'{out}: cascade of {args.run}'])
    return noted(formats.render([cascade_table.table(chosen)], args.format), note, args.format)


def output(out: Path | None, default: Path) -> Path:
    """Path of the file that ``--out`` names, or else of a result in the run folder.

    Raises:
        UsageError: it cannot be written.
    """
    if out is None:
        return writable(default)
    check_writable(out.parent, f'--out {out}')
    if out.is_dir():
        raise UsageError(f'--out {out}: is a folder; give a file')
    return out


def _check_flags(args: argparse.Namespace) -> None:
    """Checks flags before anything is read.

    Raises:
        UsageError: they do not fit together.
    """
    if args.size is not None:
        raise UsageError(f'--size {args.size} with --cascade: the points of a cascade have sizes')
    check_sweep(args.sweep)
    flag, text = limit(args)
    if text:
        quantity(flag, text)
    if args.accuracy:
        below(args.accuracy)
    if AUTO in args.cascade and len(args.cascade) > 1:
        named = ' '.join(args.cascade)
        raise UsageError(f'--cascade {named}: {AUTO} stands alone, or give points')


def check_sweep(count: int | None) -> None:
    """Checks the number of budgets.

    Raises:
        UsageError: there are no ends of a range, or more budgets than anyone looks at.
    """
    if count is not None and not 2 <= count <= MOST_BUDGETS:
        raise UsageError(
            f'--sweep {count}: at least 2 budgets, for the least cost and the largest, and at most '
            f'{MOST_BUDGETS}'
        )


def limit(args: argparse.Namespace) -> tuple[str, str]:
    """The flag that limits the cost, and its text: that of ``--budget``, empty, without any."""
    for flag in UNITS:
        text = getattr(args, flag.lstrip('-'))
        if text:
            return flag, text
    return '--budget', ''


def below(text: str) -> tuple[float | None, float]:
    """An accuracy: percent, or None and percentage points below the best point.

    Raises:
        UsageError: the text is none.

    >>> below('best-1%'), below('94.5')
    ((None, 1.0), (94.5, 0.0))
    """
    value = text.strip().removesuffix('%')
    start, found = None, 0.0
    try:
        if value.startswith(BEST):
            rest = value.removeprefix(BEST)
            found = -float(rest or 0)
        else:
            start = float(value)
    except ValueError:
        found = -1.0
    # No number is neither above nor below others.
    if not (found >= 0 and 0 <= (start or 0.0) <= 100):
        raise UsageError(f'--accuracy {text}: expected such as best-1% or 94.5')
    return start, abs(found)


def file_name(args: argparse.Namespace) -> str:
    """Of the cascade, where ``--out`` names none."""
    _, text = limit(args)
    asked = text or args.accuracy or f'{cascades.SWEEP}{args.sweep}'
    if args.bitops:
        asked += '-bitops'
    parts = [chains.spelled(args.cascade), asked.replace('/', '-')]
    if args.combine != chains.LAST:
        parts.append(args.combine)
    if args.calibrate_confidence:
        parts.append('calibrated')
    return f'{"-".join(parts)}.json'


def prepared(args: argparse.Namespace, prefix: str) -> Study:
    """The answers that cascades of a run are chosen by, recorded first where they are not.

    Args:
        args: the flags.
        prefix: of the last checkpoint.

    Raises:
        UsageError: something is not there.
    """
    flag, _ = limit(args)
    unit = UNITS[flag]
    identity = fingerprint.identity(prefix)
    path = args.run / FOLDER / point_answers.FILE
    found = point_answers.read(path, identity)
    if found is None:
        _check_run(args, unit)
        found = recorded(args)
    single = exit_records.pass_costs(args.run, list(found[HOLDOUT].points), unit)
    if not single:
        raise UsageError(f'{args.run}: no point has a cost; {records.evaluate_again(args.run)}')
    if args.cascade != [AUTO]:
        chains.check(args.cascade, single, f'--cascade {" ".join(args.cascade)}')
    held, test = found[HOLDOUT], found[VALIDATION]
    calibration = cascades.calibrated(held, test) if args.calibrate_confidence else {}
    temperatures = {name: one.temperature for name, one in calibration.items()}
    return Study(
        Replay(held, args.combine, temperatures),
        Replay(test, args.combine, temperatures),
        single,
        unit,
        args.combine,
        calibration,
        prefix,
        identity,
    )


def _check_run(args: argparse.Namespace, unit: str) -> None:
    """Checks what would stop a recording, before the network is loaded.

    Args:
        args: the flags.
        unit: of costs.

    Raises:
        UsageError: the run set no images aside, or the chain is none of it.
    """
    held = holdout.read(args.run)
    if held is None and not records.read_config(args.run).get('holdout'):
        raise UsageError(
            f'{args.run}: set no images aside, which a cascade is chosen by; train with --holdout N'
        )
    layers = records.read_layers(args.run)
    if args.cascade != [AUTO]:
        known = exit_records.pass_costs(args.run, list(layers), unit)
        chains.check(args.cascade, known, f'--cascade {" ".join(args.cascade)}')


def recorded(args: argparse.Namespace) -> dict[str, Answers]:
    """Answers of all points, which the network gives now."""
    from engine.config.cli import parse
    from engine.evaluation import point_answers as recording

    line = ['--eval', '-ec', str(args.run)]
    if args.data:
        line += ['--data', args.data]
    return recording.record(parse(line))


def candidates(args: argparse.Namespace, study: Study) -> list[Candidate]:
    """Every chain that is asked for, with many thresholds."""
    wanted = [tuple(args.cascade)]
    if args.cascade == [AUTO]:
        wanted = cascade_search.all_chains(study.single, study.expected)
    budgets = budgets_of(args, study, wanted)
    found = []
    for points in followed(wanted, 'choosing', len(wanted), 'chains', delay=3):
        found += cascade_search.candidates(study.held, points, study.single, budgets)
    return found


def budgets_of(
    args: argparse.Namespace, study: Study, wanted: Sequence[tuple[str, ...]]
) -> list[float]:
    """The budgets that are asked for.

    Args:
        args: the flags.
        study: of the run.
        wanted: chains.
    """
    flag, text = limit(args)
    if text:
        return [quantity(flag, text)]
    if args.accuracy:
        return []
    costs = [chains.costs(points, study.single) for points in wanted]
    low = min(one[0] for one in costs)
    high = max(study.single[points[-1]] for points in wanted)
    return np.linspace(low, high, args.sweep).tolist()


def selected(
    args: argparse.Namespace, study: Study, tried: Sequence[Candidate]
) -> list[tuple[str, Candidate]]:
    """Budgets or accuracy that were asked for, as text, each with the best candidate.

    Args:
        args: the flags.
        study: of the run.
        tried: candidates.

    Raises:
        UsageError: none keeps the limit.
    """
    flag, text = limit(args)
    if args.accuracy:
        flag, text = '--accuracy', args.accuracy
    with prefixed(f'{flag} {text}: '):
        if args.accuracy:
            start, distance = below(args.accuracy)
            if start is None:
                start = study.expected(study.best_point(np.inf))
            return [(text, cascade_search.reaching(tried, start - distance))]
        budgets = budgets_of(args, study, [one.points for one in tried])
        found = []
        for budget in budgets:
            found.append((text or f'{budget:.10g}', cascade_search.within(tried, budget)))
        return found


def finished(study: Study, chosen: Candidate, asked: str) -> Cascade:
    """A candidate with all that is known about it.

    Args:
        study: of the run.
        chosen: the candidate.
        asked: budget or accuracy, as text.
    """
    instead = study.best_point(chosen.cost)
    costs = chains.costs(chosen.points, study.single)
    found: list[Judged] = []
    for replay in (study.held, study.test):
        stages = replay.stages(chosen.points)
        fixed = replay.stages([instead]).right[:, 0]
        found.append(cascades.judged(stages, chosen.thresholds, costs, fixed))
    own = {name: one for name, one in study.calibration.items() if name in chosen.points}
    temperatures = []
    for name in chosen.points:
        temperatures.append(own[name].temperature if own else 1.0)
    return Cascade(
        chosen.points,
        tuple(chosen.thresholds.tolist()),
        study.combine,
        tuple(temperatures),
        asked,
        study.unit,
        study.checkpoint,
        study.identity,
        instead,
        found[0],
        found[1],
        own,
    )
