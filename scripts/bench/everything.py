"""All benchmarks in a row, at settings that take less than half an hour on two idle cores.

Every one runs in a process of its own and ends with a line of JSON; these are kept in one file,
which is complete up to the last one that ended.
"""

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tabulate import tabulate

from engine.console import followed
from engine.files import write_json
from scripts import parser

HEADERS = ('benchmark', 'figure', 'value')


class Entry(NamedTuple):
    """One benchmark.

    Attributes:
        flags: of ``python -m scripts.bench``, the benchmark first.
        figures: rows of the table of all, each a name and a value, from its record.
    """

    flags: str
    figures: Callable[[Mapping[str, Any]], Iterator[tuple[str, float]]]


def ran(name: str, flags: Sequence[str]) -> dict[str, Any]:
    """The record of a benchmark, whose tables are printed; ``error`` where it did not end well.

    Args:
        name: its own.
        flags: of ``python -m scripts.bench``.
    """
    command = [sys.executable, '-m', 'scripts.bench', *flags]
    print(f'\n{name}: python -m scripts.bench {shlex.join(flags)}', flush=True)
    start = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
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
            for figure, value in ENTRIES[name].figures(record):
                yield name, figure, value


def _steps(record: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for row in record['rows']:
        yield f'{row["step"]}: CPU against float', row['x float']
        if row['x float bf16'] is not None:
            yield f'{row["step"]}: CPU against float in bf16', row['x float bf16']
        yield f'{row["step"]}: memory against float', row['MB x float']


def _quantizers(record: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for row in record['step']:
        about = f'{row["quantizer"]} {row["of"]}: CPU of a step'
        yield f'{about} against float', row['x CPU']
        if row['native x CPU'] is not None:
            yield f'{about} in one pass against float', row['native x CPU']


def _inference(record: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for row in record['rows']:
        _, varied, *_ = row  # the second column is what is chosen at run time
        about = f'batch {row["batch"]:g}, {varied} {row[varied]:g}'
        yield f'{about}: MAdds ratio', row['MAdds ratio']
        yield f'{about}: time ratio / MAdds ratio', row['time / MAdds']
        if 'CPU / MAdds' in row:
            yield f'{about}: CPU ratio / MAdds ratio', row['CPU / MAdds']
            yield f'{about}: the same, over evaluation', row['CPU / MAdds, unfolded']
    for batch, found in record.get('mixed', {}).items():
        yield f'mixed batch of {batch}: time against its groups', found['ratio']
        yield f'mixed batch of {batch}: CPU against its groups', found['cpu_ratio']


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
    for name, found in record['sweeps'].items():
        for about, line in found['lines'].items():
            yield f'{name}: {about}, furthest from a line', line['departure']


def _bits(record: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    ratio = record['ratio']
    yield 'CPU of a joint step against one precision', ratio['median']
    yield 'the same, lower quartile', ratio['lower']
    yield 'the same, upper quartile', ratio['upper']


ENTRIES = {
    'steps': Entry('steps --steps 4', _steps),
    'bits': Entry('bits --steps 6', _bits),
    'quantizers': Entry('quantizers --quick', _quantizers),
    'gates': Entry('infer --net aig --size 96 --rates 0.5 0.75 1 --rounds 6', _inference),
    'exits': Entry('infer --net msdnet --images 64 --rounds 4', _inference),
    'widths': Entry('infer --net dsnet --size 160 --widths 13 0 --rounds 5', _inference),
    'peers': Entry('peers --size 112 --batch 4 --rounds 5 --jobs 5', _peers),
    'data': Entry('data --images 128 --rounds 3', _data),
    'scaling': Entry('scaling --quick --rounds 3', _scaling),
}


def everything(argv: Sequence[str]) -> None:
    """Runs them, and prints their tables, a table of all, and a line of JSON."""
    p = parser('bench all', __doc__)
    p.add_argument('--only', nargs='+', choices=tuple(ENTRIES), default=list(ENTRIES))
    p.add_argument('--out', type=Path, help='file of all records, JSON')
    p.add_argument('--python', help='of bench peers: interpreter that has PyTorch')
    args = p.parse_args(argv)
    results: dict[str, dict[str, Any]] = {}
    chosen = [name for name in ENTRIES if name in args.only]
    for name in followed(chosen, 'running', len(chosen), 'benchmarks'):
        flags = shlex.split(ENTRIES[name].flags)
        if name == 'peers' and args.python:
            flags += ['--python', args.python]
        results[name] = ran(name, flags)
        if args.out:
            write_json(args.out, results)
    print()
    print(tabulate(figures(results), HEADERS, floatfmt='.3f'))
    print(json.dumps({'bench': 'all', 'results': results}))
