"""Whole experiments on the embedded data set: train several networks, then print one table.

    python -m scripts.study demo             # about two minutes on 2 free cores
    python -m scripts.study demo-san         # likewise: float, then W2A2
    python -m scripts.study demo-mobilenet   # float, then W4A4
    python -m scripts.study demo-aig         # gates that skip residual blocks: float, then W2A2
    python -m scripts.study demo-msdnet      # exits: float, then W2A2
    python -m scripts.study demo-dsnet       # widths and a gate for them: float, then W4A4 and W2A2
    python -m scripts.study study            # 20-30 minutes: 3 seeds, every baseline

Each network is a run of its own under ``--folder``; interrupting and starting again continues where it stopped.
"""

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tabulate import tabulate
from tqdm import tqdm

from engine.config.presets import PRESETS
from scripts import accuracy_table, status

ROOT = Path(__file__).resolve().parent.parent

# Bits of the demos that train one network in float and fine-tune it, once for each.
LOW_BIT = {
    'demo-san': (2,),
    'demo-mobilenet': (4,),
    'demo-aig': (2,),
    'demo-msdnet': (2,),
    'demo-dsnet': (4, 2),
}
# Ends of the folders that a command of theirs leaves; they are evaluated once more, for what training does not score.
SCORED = {'demo-msdnet': ('',), 'demo-dsnet': ('', '-gate')}


@dataclasses.dataclass(frozen=True)
class Job:
    """One network to train.

    Attributes:
        row: label of its row in the table; the seeds of a row share it.
        name: its folder.
        flags: what it adds to the preset.
        epochs: for the progress bar.
        after: name of the job whose result it starts from, or empty.
        foreign: its one size is also tested at all sizes, with its own normalisation.
    """

    row: str
    name: str
    flags: tuple[str, ...]
    epochs: int
    after: str = ''
    foreign: bool = False


def jobs(experiment: str) -> list[Job]:
    """The networks of an experiment, each after what it starts from."""
    epochs = int(PRESETS[experiment].values['epochs'])
    sizes = PRESETS[experiment].values['sizes']
    if experiment == 'demo':
        return [
            Job('RS + kd', 'rs_kd', (), epochs),
            Job(
                'individual 28', 'individual_28', ('--sizes', '28', '--no-kd'), epochs, foreign=True
            ),
            Job('RS + kd W2A2, fine-tuned', 'rs_kd_w2a2', _fine_tune(2), 2, after='rs_kd'),
        ]
    if experiment in LOW_BIT:
        return [
            Job('float', 'float', (), epochs),
            *(
                Job(
                    f'W{bits}A{bits}, fine-tuned',
                    f'w{bits}a{bits}',
                    _fine_tune(2, bits),
                    2,
                    after='float',
                )
                for bits in LOW_BIT[experiment]
            ),
        ]
    found = []
    for seed in range(3):
        end, flag = f'_seed{seed}', ('--seed', str(seed))
        found += [Job('RS + kd', f'rs_kd{end}', flag, epochs)]
        found += [
            Job(
                f'individual {size}',
                f'individual_{size}{end}',
                (*flag, '--no-kd', '--sizes', str(size)),
                epochs,
                foreign=size == sizes[0],
            )
            for size in (sizes[0], sizes[2], sizes[-1])
        ]
        found += [
            Job(
                'RS + kd W2A2, fine-tuned',
                f'rs_kd_w2a2{end}',
                (*flag, *_fine_tune(3)),
                3,
                after=f'rs_kd{end}',
            )
        ]
    return [*found, Job('RS, no kd', 'rs', ('--no-kd',), epochs)]


def _fine_tune(epochs: int, bits: int = 2) -> tuple[str, ...]:
    return '--qw', str(bits), '--qa', str(bits), '--epochs', str(epochs), '--lr', '0.02'


class Progress:
    """One bar over the epochs of all jobs, read from the run folders."""

    def __init__(self, todo: Sequence[Job], folder: Path):
        self._todo, self._folder, self._done = todo, folder, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> 'Progress':
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        with tqdm(
            total=sum(job.epochs for job in self._todo), unit='epoch', desc='training'
        ) as bar:
            while True:
                finished = self._done.wait(1.0)
                bar.n = sum(_epochs(self._folder / job.name) for job in self._todo)
                bar.refresh()
                if finished:
                    return


def _epochs(run: Path) -> int:
    try:
        return max(
            (row.get('epoch_num', 0) for row in json.loads((run / 'stats.json').read_text())),
            default=0,
        )
    except (OSError, ValueError):
        return 0


def run(experiment: str, folder: Path, processes: int, *, bf16: bool) -> list[Job]:
    """Trains all jobs, ``processes`` at a time."""
    todo = [
        dataclasses.replace(job, flags=(*job.flags, *['--bf16'] * bf16)) for job in jobs(experiment)
    ]
    finished = {job.name: threading.Event() for job in todo}
    failed = threading.Event()

    def work(job: Job) -> None:
        if job.after:
            finished[job.after].wait()
        if not failed.is_set():
            _train(experiment, job, folder, processes, failed)
        finished[job.name].set()

    # A job that starts from another waits behind the independent ones, so that it never holds a process idle for long.
    with Progress(todo, folder), ThreadPoolExecutor(processes) as pool:
        list(pool.map(work, sorted(todo, key=lambda job: bool(job.after))))
    if failed.is_set():
        sys.exit(f'study: error: a run failed; its output is in {folder}/*.txt')
    return todo


def _train(
    experiment: str, job: Job, folder: Path, processes: int, failed: threading.Event
) -> None:
    path = folder / job.name
    command = ['--preset', experiment, *job.flags, '--logdir', str(path)]
    commands = [command + (['--load', str(folder / job.after)] if job.after else [])]
    if job.foreign:
        own, sizes = job.flags[job.flags.index('--sizes') + 1], PRESETS[experiment].values['sizes']
        commands.append(
            [
                '--eval',
                '-ec',
                str(path),
                '-eos',
                own,
                '-es',
                *(str(s) for s in sizes if str(s) != own),
            ]
        )
    commands += [['--eval', '-ec', f'{path}{end}'] for end in SCORED.get(experiment, ())]
    for arguments in commands:
        if not failed.is_set() and _call(arguments, folder / f'{job.name}.txt', processes):
            failed.set()


def _call(arguments: list[str], output: Path, processes: int) -> int:
    # One thread for each of many runs; in the demo the last run should get both cores.
    threads = (
        {}
        if processes == 1 or output.parent.name.startswith('demo')
        else {'TF_NUM_INTRAOP_THREADS': '1', 'TF_NUM_INTEROP_THREADS': '1'}
    )
    command = [sys.executable, str(ROOT / 'imagenet_tf.py'), *arguments]
    with output.open('a') as stream:
        print('$', *command, file=stream, flush=True)
        return subprocess.run(
            command, stdout=stream, stderr=subprocess.STDOUT, env=os.environ | threads
        ).returncode


def seeds_table(todo: Sequence[Job], folder: Path) -> str:
    """Top-1 by row and size as mean +- standard deviation over the seeds."""
    found: dict[str, dict[int, list[float]]] = {}
    for job in todo:
        for path in (folder / job.name / 'eval').glob('s*.json'):
            record = json.loads(path.read_text())
            row = f'{job.row}, tested at' if record['bn'] != record['point'] else job.row
            found.setdefault(row, {}).setdefault(int(record['point'][1:]), []).append(
                record['top1']
            )
    sizes = sorted({size for row in found.values() for size in row}, reverse=True)
    rows = [
        [row, *(_mean(values.get(size, [])) for size in sizes)] for row, values in found.items()
    ]
    return tabulate(
        rows, headers=['top-1 at', *map(str, sizes)], tablefmt='github', disable_numparse=True
    )


def _mean(values: Sequence[float]) -> str:
    if not values:
        return ''
    spread = f' ±{statistics.stdev(values):.1f}' if len(values) > 1 else ''
    return f'{statistics.mean(values):.1f}{spread}'


def report(experiment: str, todo: Sequence[Job], folder: Path) -> None:
    """Prints the table and writes it, and the picture where matplotlib is there."""
    runs = [f'{folder / job.name}{end}' for job in todo for end in SCORED.get(experiment, ('',))]
    table = folder / 'table.md'
    if experiment != 'study':
        accuracy_table.main([*runs, '--output', str(table)])
    else:
        table.write_text(seeds_table(todo, folder) + '\n')
    print(table.read_text())
    print(f'table: {table}')
    from scripts import plot

    picture = folder / 'accuracy.png'
    if (
        plot.main(
            [*(run for run in runs if 'seed' not in run or 'seed0' in run), '-o', str(picture)]
        )
        == 0
    ):
        print(f'picture: {picture}')


def study(args: argparse.Namespace) -> str:
    """Trains, reports, and says how long it took."""
    folder = args.folder or Path('train_log') / args.experiment
    folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    report(
        args.experiment,
        run(args.experiment, folder, max(1, args.processes), bf16=args.bf16),
        folder,
    )
    return f'{time.perf_counter() - started:.0f} s'


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status, see ``scripts.status``; 1 if a run failed."""
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument('experiment', choices=('demo', 'study', *LOW_BIT))
    p.add_argument('--folder', type=Path, help='default: train_log/<experiment>')
    p.add_argument(
        '--processes',
        type=int,
        default=min(2, os.cpu_count() or 1),
        help='runs at a time (default %(default)s)',
    )
    p.add_argument('--bf16', action='store_true', help='train with activations in bfloat16')
    return status('study', study, p.parse_args(argv))


if __name__ == '__main__':
    sys.exit(main())
