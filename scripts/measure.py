"""Measures what README.md and docs/*.md say, on the code of one commit: docs/measured/*.json.

    python -m scripts.measure                      # all of it, hours; `make measure`
    python -m scripts.measure demo demo-san        # some experiments
    python -m scripts.measure --list               # what there is, when and on which commit

Interrupted, the same command resumes: trainings are kept in ``--folder`` by commit, and what was
measured on the commit already is not measured again. ``scripts.pages`` then draws pages anew.
"""

import argparse
import datetime
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from engine import processor
from engine.errors import UsageError
from engine.results import rendering, study_records, tables
from engine.runs import environment
from nets.points import ENSEMBLE
from quant.spelling import unknown
from scripts import measured, parser, status, study
from scripts.bench import everything
from scripts.page_tables import DEMOS

# Fields of a row that are kept.
FIELDS = ('qw', 'qa', 'point', 'bn', 'madds', 'bit_ops', 'weight_bytes', 'ms', 'top1', 'top5')
# In front of the names of benchmarks.
BENCH = 'bench-'
# Flags of benchmarks where pages say more than `make bench` measures.
LONGER = {
    'steps': 'steps --bits 2 4 8 --sizes 224 128 --threads 1',
    'bits': 'bits --steps 12',
    'quantizers': 'quantizers --rounds 9',
    'gates': 'infer --net aig --arch resnet20 --size 28 --batches 32 --rates 0.5 0.75 1 '
    '--rounds 25 --threads 1',
    'widths': 'infer --net dsnet --size 160 --widths 13 0 --rounds 6 --threads 1',
}
QUANTIZERS = 'quantizers --seeds 3 --steps 300 --rates 0.01 0.03'


class Experiment(NamedTuple):
    """Something to be measured.

    Attributes:
        command: Words behind ``python -m``.
        minutes: That it takes on two idle cores, until it was measured.
        content: Fields of its file, of the name, the command and the folder for its trainings.
    """

    command: str
    minutes: float
    content: Callable[[str, str, Path], Mapping[str, Any]]


def studied(command: str, folder: Path) -> None:
    """Runs an experiment of ``scripts.study``.

    Raises:
        UsageError: A training failed.
    """
    words = [*command.split()[1:], '--folder', str(folder)]
    if code := study.main(words):
        raise UsageError(f'{command}: ended with status {code}; its outputs are in {folder}')


def of_demo(name: str, command: str, folder: Path) -> dict[str, Any]:
    """Rows of the networks of a demo that run at all of its points."""
    studied(command, folder)
    network = next(demo.short for demo in DEMOS if demo.name == name)
    paths = []
    for job in study.jobs(name):
        if not job.foreign:
            ends = study.PRESETS[name].scored or ('',)
            paths += [f'{folder / job.name}{end}' for end in ends]
    rows: dict[tuple[int, int, str], dict[str, Any]] = {}
    for row in json.loads(rendering.render(tables.read_runs(paths, ''), 'json', False))['rows']:
        # Of all sizes, and of an exit with those before it.
        if row['point'].startswith(ENSEMBLE):
            continue
        # A second stage scores widths that the first one has scored.
        kept = {field: row[field] for field in FIELDS}
        rows.setdefault((row['qw'], row['qa'], row['point']), {'run': network, **kept})
    return {'rows': list(rows.values())}


def of_study(name: str, command: str, folder: Path) -> dict[str, Any]:
    """Rows of the study: mean and standard deviation over its seeds."""
    studied(command, folder)
    return {'rows': study.seeds_rows(study.jobs(name), folder)}


def of_records(name: str, command: str, folder: Path) -> dict[str, Any]:
    """The records of a study of quantizers or of bits."""
    studied(command, folder)
    content = json.loads((folder / study_records.RECORDS).read_text())
    return {'form': content['form'], 'results': content['results']}


def of_bench(name: str, command: str, folder: Path) -> dict[str, Any]:
    """The record of a benchmark, and its figures by name.

    Raises:
        UsageError: It did not end well.
    """
    record = everything.ran(name, command.split()[1:])
    if 'error' in record:
        raise UsageError(f'{command}: {record["error"]}')
    entry = everything.ENTRIES.get(name.removeprefix(BENCH))
    if entry is not None:
        record['figures'] = dict(entry.figures(record))
    return record


def experiments() -> dict[str, Experiment]:
    """All experiments, short ones first."""
    found = {}
    for demo in DEMOS:
        found[demo.name] = Experiment(f'scripts.study {demo.name}', 6, of_demo)
    for name, entry in everything.ENTRIES.items():
        if name != 'peers':  # needs an environment of its own
            flags = LONGER.get(name, entry.flags)
            found[f'{BENCH}{name}'] = Experiment(f'scripts.bench {flags}', 5, of_bench)
    found[f'{BENCH}deploy'] = Experiment('scripts.bench deploy', 15, of_bench)
    found['study'] = Experiment('scripts.study study', 45, of_study)
    found['quantizers'] = Experiment(f'scripts.study {QUANTIZERS}', 180, of_records)
    found['bits'] = Experiment('scripts.study bits', 120, of_records)
    return found


def machine() -> str:
    """This machine in words."""
    gpus = ''.join(f', {gpu}' for gpu in environment.gpus())
    return f'{processor.cores()} cores of {processor.name()}{gpus}'


def seconds(name: str, experiment: Experiment, folder: Path) -> float:
    """How long an experiment took the last time, or is thought to take."""
    if measured.path_of(name, folder).exists():
        took = measured.origin(name, folder).seconds
        if took:
            return took
    return 60 * experiment.minutes


def is_done(name: str, commit: str, folder: Path) -> bool:
    """Whether an experiment was measured on that commit."""
    path = measured.path_of(name, folder)
    return path.exists() and measured.origin(name, folder).commit == commit


def measure(name: str, commit: str, args: argparse.Namespace) -> None:
    """Runs an experiment and writes its file.

    Args:
        name: Of the experiment.
        commit: Of the code.
        args: Of the command line.
    """
    experiment = experiments()[name]
    start = time.time()
    content = experiment.content(name, experiment.command, args.folder / commit[:12] / name)
    source = measured.Origin(
        command=f'python -m {experiment.command}',
        commit=commit,
        machine=machine(),
        date=datetime.datetime.now(datetime.timezone.utc).strftime('%Y-%m-%d'),
        seconds=round(time.time() - start),
    )
    measured.write(measured.path_of(name, args.out), source, content)


def run(args: argparse.Namespace) -> str | None:
    """Measures what was asked for and is not measured yet.

    Raises:
        UsageError: An experiment is not known, or the code is that of no commit.
    """
    known = experiments()
    for name in args.names:
        if name not in known:
            raise UsageError(f'{name}: {unknown(name, known)}')
    if args.list:
        return listed(args.out)
    commit, changed = environment.checkout(besides='docs/measured')
    if not commit or changed:
        raise UsageError('numbers name the commit of their code: commit what is changed first')
    wanted = args.names or list(known)
    todo = [name for name in wanted if not is_done(name, commit, args.out)]
    for place, name in enumerate(todo):
        left = sum(seconds(later, known[later], args.out) for later in todo[place:])
        about = f'about {left / 3600:.1f} hours left'
        print(f'{name}, {place + 1} of {len(todo)}, {about}', file=sys.stderr, flush=True)
        measure(name, commit, args)
    return f'{args.out}: all of {commit[:12]}; python -m scripts.pages draws the pages'


def listed(folder: Path) -> str:
    """A line for every experiment."""
    lines = []
    for name, experiment in experiments().items():
        about = 'not measured'
        if measured.path_of(name, folder).exists():
            source = measured.origin(name, folder)
            about = f'{source.commit[:7]}, {source.date}'
        minutes = seconds(name, experiment, folder) / 60
        lines.append(f'{name:18}{about:22}{minutes:5.0f} min  python -m {experiment.command}')
    return '\n'.join(lines)


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    p = parser('measure', __doc__)
    p.add_argument('names', nargs='*', metavar='NAME', help='experiments (default: all)')
    p.add_argument(
        '--folder',
        type=Path,
        default=Path('train_log/measure'),
        help='of trainings (default %(default)s)',
    )
    p.add_argument(
        '--out', type=Path, default=measured.FOLDER, help='of the numbers (default docs/measured)'
    )
    p.add_argument('--list', action='store_true', help='what there is, and when it was measured')
    return p.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status, see ``scripts.status``."""
    return status('measure', run, parse_args(argv))


if __name__ == '__main__':
    sys.exit(main())
