"""All benchmarks in a row, at settings that take less than half an hour on two idle cores.

Every one runs in a process of its own and ends with a line of JSON; these are kept in one file,
which is complete up to the last one that ended.
"""

import argparse
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tabulate import tabulate
from tqdm import tqdm

from engine.files import write_json
from scripts.bench import turns

HEADERS = ('benchmark', 'figure', 'value')


class Entry(NamedTuple):
    """One benchmark.

    Attributes:
        name: for the table and the file.
        flags: of ``python -m scripts.bench``, the benchmark first.
    """

    name: str
    flags: str


ENTRIES = (
    Entry('steps', 'steps --steps 4'),
    Entry('quantizers', 'quantizers --quick'),
    Entry('gates', 'infer --net aig --size 96 --rates 0.5 0.75 1 --rounds 6'),
    Entry('exits', 'infer --net msdnet --images 64 --rounds 4'),
    Entry('widths', 'infer --net dsnet --size 160 --widths 13 0 --rounds 5'),
    Entry('peers', 'peers --size 112 --batch 4 --rounds 5 --jobs 5'),
    Entry('data', 'data --images 128 --rounds 3'),
    Entry('scaling', 'scaling --quick --rounds 3'),
)


def ran(entry: Entry, more: Sequence[str]) -> dict[str, Any]:
    """The record of a benchmark, whose tables are printed; ``error`` where it did not end well.

    Args:
        entry: the benchmark.
        more: flags that only this one has.
    """
    command = [sys.executable, '-m', 'scripts.bench', *shlex.split(entry.flags), *more]
    print(f'\n{entry.name}: python -m scripts.bench {entry.flags}', flush=True)
    start = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=turns.ROOT)
    seconds = time.perf_counter() - start
    *printed, last = done.stdout.splitlines() or ['']
    print('\n'.join(printed), flush=True)
    if done.returncode:
        return {'error': f'exit status {done.returncode}', 'seconds': seconds}
    return {**json.loads(last), 'seconds': seconds}


def figures(results: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str, float]]:
    """Rows of the table of what all of them found."""
    for name, record in results.items():
        if 'error' in record:
            yield name, record['error'], float('nan')
        else:
            for figure, value in _FIGURES[name](record):
                yield name, figure, value


def _steps(record: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for row in record['rows']:
        yield f'{row["step"]}: CPU against float', row['x float']
        yield f'{row["step"]}: CPU against float in bf16', row['x float bf16']
        yield f'{row["step"]}: memory against float', row['MB x float']


def _quantizers(record: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for row in record['step']:
        yield f'{row["quantizer"]} {row["of"]}: CPU of a step against float', row['x CPU']


def _inference(record: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    varied = {'aig': 'rate', 'msdnet': 'budget', 'dsnet': 'width'}[record['net']]
    for row in record['rows']:
        about = f'batch {row["batch"]:g}, {varied} {row[varied]:g}'
        yield f'{about}: time ratio / MAdds ratio', row['time / MAdds']


def _peers(record: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for row in record['rows']:
        about = f'{row["who"]}, {row["sizes"]} sizes, {row["type"]}'
        yield f'{about}: CPU against ours', row['x CPU']
        yield f'{about}: memory against ours', row['x MB']


def _data(record: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for part, ratio in record['ratio'].items():
        yield f'{part}: our speed against tensorpack', ratio
    for row in record['decoders']:
        yield f'{row["decoder"]}: speed against OpenCV', row['its speed / OpenCV']


def _scaling(record: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, found in record.items():
        if isinstance(found, dict):
            for about, line in found['lines'].items():
                yield f'{name}: {about}, furthest from a line', line['departure']


_FIGURES = {
    'steps': _steps,
    'quantizers': _quantizers,
    'gates': _inference,
    'exits': _inference,
    'widths': _inference,
    'peers': _peers,
    'data': _data,
    'scaling': _scaling,
}


def everything(argv: Sequence[str]) -> None:
    """Runs them, and prints their tables, a table of all, and a line of JSON."""
    p = argparse.ArgumentParser(prog='bench all', description=__doc__)
    p.add_argument('--only', nargs='+', choices=tuple(_FIGURES), default=list(_FIGURES))
    p.add_argument('--out', type=Path, help='file of all records, JSON')
    p.add_argument('--python', help='of bench peers: interpreter that has PyTorch')
    args = p.parse_args(argv)
    results: dict[str, dict[str, Any]] = {}
    for entry in tqdm([entry for entry in ENTRIES if entry.name in args.only], unit='benchmark'):
        more = []
        if entry.name == 'peers' and args.python:
            more = ['--python', args.python]
        results[entry.name] = ran(entry, more)
        if args.out:
            write_json(args.out, results)
    print()
    print(tabulate(figures(results), HEADERS, floatfmt='.3f'))
    print(json.dumps({'bench': 'all', 'results': results}))
