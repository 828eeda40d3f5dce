"""Whole experiments on the embedded data set: train several networks, then print one table.

    python -m scripts.study demo             # 5 minutes on 2 cores: float, then W2A2
    python -m scripts.study demo-san         # likewise: float, then W2A2
    python -m scripts.study demo-mobilenet   # float, then W4A4
    python -m scripts.study demo-aig         # gates that skip residual blocks: float, then W2A2
    python -m scripts.study demo-msdnet      # exits: float, then W2A2
    python -m scripts.study demo-dsnet       # widths and a gate for them: float, then W4A4 and W2A2
    python -m scripts.study study            # 45 minutes: 3 seeds, every baseline
    python -m scripts.study quantizers       # hours: every quantizer at W2A2 and W4A4, 3 seeds
    python -m scripts.study quantizers --quick                 # minutes: one seed, one rate
    python -m scripts.study quantizers --table FOLDER          # its table in any --format
    python -m scripts.study bits             # hours: one network of 4, 3 and 2 bits against three
    python -m scripts.study bits --table FOLDER --picture FILE # likewise, and its picture

Each network is a run of its own under ``--folder``. After an interruption the same command resumes.
"""

import argparse
import dataclasses
import importlib
import math
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from engine import families
from engine.families.family import FLOAT_RUN
from engine.files import read_text, write_text
from engine.results import formats, study_records, tables
from engine.results.records import read_score
from scripts import accuracy_table, add_format, export, parser, plot, status
from scripts.trainings import ONE_THREAD, Job, Trainer

PRESETS = families.presets()
# Studies of many tasks, and the modules that say which.
QUANTIZERS, BITS = 'quantizers', 'bits'
STUDIES = {QUANTIZERS: 'quantizer_study', BITS: 'bits_study'}
# Their flags, as argparse names them.
OF_STUDIES = ('quick', 'table', 'picture', 'seeds', 'steps')
SEEDS = 3


def of_bits(qw: int, qa: int) -> tuple[str, ...]:
    """Flags of the bits of weights and of activations."""
    return '--qw', str(qw), '--qa', str(qa)


def course(epochs: int) -> tuple[str, ...]:
    """Flags of a fine-tuning of a float network to fewer bits."""
    return '--epochs', str(epochs), '--lr', '0.02', '--warmup', '0.5'


def others(sizes: Sequence[int], own: int) -> tuple[int, ...]:
    """Sizes but one."""
    return tuple(size for size in sizes if size != own)


def demo_jobs() -> list[Job]:
    """A joint network, one of a single size, and the joint one at 2 bits."""
    values = PRESETS['demo'].values
    epochs, sizes = values['epochs'], values['sizes']
    individual = Job(
        f'individual {sizes[0]}',
        f'individual_{sizes[0]}',
        ('--sizes', str(sizes[0]), '--no-kd'),
        epochs,
        foreign=others(sizes, sizes[0]),
    )
    flags = (*of_bits(2, 2), *course(2))
    low = Job('RS + kd W2A2, fine-tuned', 'rs_kd_w2a2', flags, 2, after='rs_kd')
    return [Job('RS + kd', 'rs_kd', (), epochs), individual, low]


def low_bit_jobs(experiment: str) -> list[Job]:
    """One network in float, and fine-tuned to the low bits of its preset."""
    preset = PRESETS[experiment]
    found = [Job('float', FLOAT_RUN, (), preset.values['epochs'])]
    teacher = FLOAT_RUN if preset.with_teacher else ''
    for low in preset.low_bits:
        flags, epochs = of_bits(low.qw, low.qa), 2
        if low.name in preset.at_bits:
            epochs = preset.at_bits[low.name]['epochs']
        else:
            flags += course(epochs)
        row = f'{low.name.upper()}, fine-tuned'
        found.append(Job(row, low.name, flags, epochs, after=low.start, teacher=teacher))
    return found


def study_jobs() -> list[Job]:
    """Joint, individual and low-bit networks of every seed, and one joint network without kd."""
    values = PRESETS['study'].values
    epochs, sizes = values['epochs'], values['sizes']
    found = []
    for seed in range(SEEDS):
        end, flag = f'_seed{seed}', ('--seed', str(seed))
        found.append(Job('RS + kd', f'rs_kd{end}', flag, epochs))
        for size in (sizes[0], sizes[2], sizes[-1]):
            row, name = f'individual {size}', f'individual_{size}{end}'
            flags = (*flag, '--no-kd', '--sizes', str(size))
            foreign = others(sizes, size) if size == sizes[0] else ()
            found.append(Job(row, name, flags, epochs, foreign=foreign))
        low = (*flag, *of_bits(2, 2), *course(3))
        found.append(
            Job('RS + kd W2A2, fine-tuned', f'rs_kd_w2a2{end}', low, 3, after=f'rs_kd{end}')
        )
    return [*found, Job('RS, no kd', 'rs', ('--no-kd',), epochs)]


def jobs(experiment: str) -> list[Job]:
    """The networks of an experiment, each after what it starts from."""
    if experiment == 'demo':
        return demo_jobs()
    if experiment == 'study':
        return study_jobs()
    return low_bit_jobs(experiment)


def experiments() -> list[str]:
    """Names of the experiments."""
    low = [name for name, preset in PRESETS.items() if preset.low_bits]
    return ['demo', 'study', *low]


def seeds_scores(todo: Sequence[Job], folder: Path) -> dict[str, dict[str, list[float]]]:
    """Top-1 of all seeds by row and size."""
    found: dict[str, dict[str, list[float]]] = {}
    for job in todo:
        for path in sorted((folder / job.name / 'eval').glob('s*.json')):
            score = read_score(path)
            own = score.bn == score.point
            row = found.setdefault(job.row if own else f'{job.row}, tested at', {})
            row.setdefault(tables.size_label(score.point), []).append(score.top1)
    return found


def seeds_rows(todo: Sequence[Job], folder: Path) -> list[dict[str, Any]]:
    """Mean and standard deviation over the seeds by row and size, as records have them."""
    rows = []
    for name, scores in seeds_scores(todo, folder).items():
        for size, values in scores.items():
            mean, deviation = statistics.mean(values), study_records.deviation(values)
            found = {'top1': mean, 'deviation': deviation, 'seeds': len(values)}
            rows.append({'row': name, 'size': size, **found})
    return rows


def seeds_cells(rows: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """The sizes, and a line of text for each network with its values at these.

    Args:
        rows: As of ``seeds_rows``.
    """
    found: dict[str, dict[str, str]] = {}
    for row in rows:
        text = study_records.spread_text(row['top1'], row['deviation'], 1)
        found.setdefault(row['row'], {})[row['size']] = text
    sizes = sorted({row['size'] for row in rows}, key=int, reverse=True)
    lines = []
    for name, texts in found.items():
        lines.append([name, *(texts.get(size, '') for size in sizes)])
    return sizes, lines


def seeds_table(todo: Sequence[Job], folder: Path) -> str:
    """Top-1 by row and size as mean and standard deviation over the seeds."""
    sizes, lines = seeds_cells(seeds_rows(todo, folder))
    return tabulate(lines, headers=['top-1 at', *sizes], tablefmt='github', disable_numparse=True)


def ship(run: Path) -> str:
    """Exports all points of a run to one file beside it, and returns a table of what that is.

    Empty where what writes or checks the file is not installed: it is said why.
    """
    file = run.with_suffix('.onnx')
    file.unlink(missing_ok=True)
    if export.main([str(run), '--out', str(file)]) != 0:
        return ''
    from engine.deployment import onnx_file, texts

    found = texts.parse(onnx_file.described(file), str(file))
    points = ' '.join(point.point for point in found.points)
    rows = []
    for runtime in dict.fromkeys(one.runtime for one in found.verified):
        checks = [one for one in found.verified if one.runtime == runtime]
        images, differing = 0, 0
        for one in checks:
            alike = len(one.point.split())
            images += alike * one.images
            differing += alike * one.differing
        rows.append([file.name, file.stat().st_size / 1e3, points, runtime, images, differing])
    headers = ['file', 'kB', 'points', 'checked with', 'images, all points', 'answers that differ']
    return tabulate(rows, headers, tablefmt='github', floatfmt='.1f')


def report(experiment: str, todo: Sequence[Job], folder: Path) -> None:
    """Prints the table and writes it, and the picture where matplotlib is there.

    The last network, which has the fewest bits, is exported.

    Args:
        experiment: Its name.
        todo: Its jobs.
        folder: Of the experiment.
    """
    runs, drawn = [], []
    for job in todo:
        for end in PRESETS[experiment].scored or ('',):
            path = f'{folder / job.name}{end}'
            runs.append(path)
            if 'seed' not in job.name or 'seed0' in job.name:
                drawn.append(path)
    table = folder / 'table.md'
    if experiment == 'study':
        write_text(table, seeds_table(todo, folder) + '\n')
    else:
        accuracy_table.main([*runs, '--format', 'markdown', '--output', str(table)])
        if shipped := ship(folder / todo[-1].name):
            write_text(table, f'{read_text(table, "run the experiment again")}\n{shipped}\n')
    print(read_text(table, 'run the experiment again'))
    print(f'table: {table}')
    picture = folder / 'accuracy.png'
    if plot.main([*drawn, '-o', str(picture)]) == 0:
        print(f'picture: {picture}')


def study(args: argparse.Namespace) -> str:
    """Trains, reports, and says how long it took. Ends the program where a run failed.

    Raises:
        UsageError: The folder holds another study.
    """
    if args.experiment in STUDIES:
        from scripts import study_tasks

        module = importlib.import_module(f'scripts.{STUDIES[args.experiment]}')
        return study_tasks.run(module.KIND, args)
    folder = args.folder or Path('train_log') / args.experiment
    folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    todo = jobs(args.experiment)
    if args.bf16:
        todo = [dataclasses.replace(job, flags=(*job.flags, '--bf16')) for job in todo]
    processes = max(1, args.processes)
    # In a demo the last run should get all cores.
    many = processes > 1 and not folder.name.startswith('demo')
    environment = ONE_THREAD if many else {}
    scored = PRESETS[args.experiment].scored
    trainer = Trainer(args.experiment, scored, folder, processes, environment)
    if not trainer.run(todo):
        sys.exit(f'study: error: a run failed; its output is in {folder}/*.txt')
    report(args.experiment, todo, folder)
    return f'{time.perf_counter() - started:.0f} s'


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    p = parser('study', __doc__)
    p.add_argument('experiment', choices=[*experiments(), *STUDIES])
    p.add_argument('--folder', type=Path, help='default: train_log/<experiment>')
    p.add_argument(
        '--processes',
        type=int,
        default=min(2, os.cpu_count() or 1),
        help='runs at a time (default %(default)s)',
    )
    p.add_argument('--bf16', action='store_true', help='train with activations in bfloat16')
    group = p.add_argument_group('quantizers and bits')
    group.add_argument('--quick', action='store_true', help='one seed, one rate, short trainings')
    group.add_argument(
        '--table', type=Path, metavar='PATH', help='print the table of a folder or file of records'
    )
    group.add_argument('--picture', metavar='FILE', help='of --table: draw it, too')
    add_format(group)
    group.add_argument('--seeds', type=int, metavar='N', help='float networks to start from')
    group.add_argument('--steps', type=int, metavar='N', help='of fine-tuning')
    group.add_argument(
        '--rates', type=float, nargs='+', metavar='LR', help='of quantizers, to choose from'
    )
    args = p.parse_args(argv)
    _check(p, args)
    return args


def _check(p: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuses flags that the experiment does not have, and values that are none."""
    named = ' and '.join(f'`{name}`' for name in STUDIES)
    if args.experiment not in STUDIES:
        for name in OF_STUDIES:
            if getattr(args, name):
                p.error(f'--{name}: only {named} have it')
        if args.format != formats.FORMATS[0]:
            p.error(f'--format {args.format}: only {named} have it')
    elif args.bf16:
        p.error(f'--bf16: `{args.experiment}` trains in float32')
    if args.picture and not args.table:
        p.error('--picture: draws the records of --table; give it, too')
    if args.rates and args.experiment != QUANTIZERS:
        p.error('--rates: only `quantizers` has it')
    for name in ('seeds', 'steps'):
        value = getattr(args, name)
        if value is not None and value < 1:
            p.error(f'--{name} {value}: must be at least 1')
    for rate in args.rates or ():
        if not 0 < rate < math.inf:
            p.error(f'--rates {rate}: must be greater than 0')


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status, see ``scripts.status``; 1 if a run failed."""
    return status('study', study, parse_args(argv))


if __name__ == '__main__':
    sys.exit(main())
