"""Exported files by form and runtime (`bench deploy`): bytes, time, memory and answers.

Every file runs one image at a time with one thread, in a process of its own; all files of an
operating point take turns.
"""

import argparse
import json
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from engine.deployment import forms, runtimes
from engine.errors import UsageError
from quant.spelling import unknown
from scripts import check_counts, parser
from scripts.bench import turns

# Without a run: the published network, random but calibrated.
UNTRAINED = shlex.split(
    '--data fake -d 18 --mode preact --qw 2 --qa 2 --sizes 224 192 160 128 96 --no-kd'
)

FORMS = [*forms.onnx(), 'native']

HEADERS = (
    'point',
    'file',
    'runtime',
    'kB',
    'CPU ms',
    'the least',
    'of the middle half',
    'times as fast as float',
    'ms',
    'first answer, CPU s',
    'MB',
    'answers that differ',
    'top-1, %',
)


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """The flags.

    Raises:
        UsageError: A number is too small.
    """
    p = parser('bench deploy', __doc__)
    p.add_argument(
        'run',
        metavar='RUN',
        nargs='?',
        help='run folder; default: ResNet-18 W2A2 at five sizes, random but calibrated',
    )
    p.add_argument(
        '--parent',
        metavar='RUN',
        help='float run of the same network, of which others make 8-bit files',
    )
    p.add_argument('--points', nargs='+', metavar='POINT', help='default: all of the run')
    p.add_argument('--forms', nargs='+', choices=FORMS, default=FORMS, help='default: all')
    p.add_argument('--rounds', type=int, default=50, help='of one image by each file in turn')
    p.add_argument('--images', type=int, default=500, help='evaluation images for the answers')
    args = p.parse_args(argv)
    check_counts(args, 'rounds', 'images')
    return args


def deploy(argv: Sequence[str]) -> None:
    """Compares files, and prints a table and a line of JSON.

    Raises:
        UsageError: There is no such run or point.
    """
    args = parse_args(argv)
    if set(runtimes.installed()) != set(runtimes.RUNTIMES):
        raise UsageError(f'bench deploy: {runtimes.REMEDY} installs the runtimes')
    from engine.graph import freeze
    from scripts.bench import deploy_files

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        run = args.run or deploy_files.untrained(UNTRAINED, folder / 'untrained')
        source = deploy_files.read(run)
        known = freeze.points(source)
        points = args.points or known
        foreign = sorted(set(points) - set(known))
        if foreign:
            raise UsageError(f'--points {foreign[0]}: {unknown(foreign[0], known)}')
        files = deploy_files.ours(source, points, args.images, folder, args.forms)
        if args.parent:
            parent = deploy_files.read(args.parent)
            files += deploy_files.of_others(parent, points, args.images, folder)
        rows = []
        for point in points:
            rows += measured([file for file in files if file.point == point], args.rounds)
    print(tabulate(rows, HEADERS, floatfmt='.4g', missingval='-'))
    records = [dict(zip(HEADERS, row)) for row in rows]
    print(json.dumps({'bench': 'deploy', 'run': str(args.run or 'untrained'), 'rows': records}))


def measured(files: Sequence[Any], rounds: int) -> list[list[Any]]:
    """Rows of files of one operating point, which take turns.

    Args:
        files: see ``scripts.bench.deploy_files.File``.
        rounds: of one image by each.
    """
    processes = {}
    for file in files:
        arguments = [file.runtime, str(file.path), str(file.number), str(file.side)]
        process = turns.Process('scripts.bench.deploy_process', arguments)
        processes[f'{file.what} {file.runtime}'] = process
    costs = turns.by_turns(processes, rounds, files[0].point)
    in_float = {}
    for file, taken in zip(files, costs.values(), strict=True):
        if file.what == 'float':
            in_float[file.runtime] = taken
    rows = []
    for file, process, taken in zip(files, processes.values(), costs.values()):
        rows.append(row(file, process.about, taken, in_float.get(file.runtime)))
    return rows


def row(
    file: Any,
    about: Mapping[str, Any],
    taken: Sequence[turns.Step],
    in_float: Sequence[turns.Step] | None,
) -> list[Any]:
    """A row of the table, see ``HEADERS``.

    Args:
        file: see ``scripts.bench.deploy_files.File``.
        about: what its process says.
        taken: by round.
        in_float: by the float file in the same runtime, if there is one.
    """
    cpu, wall, _ = np.transpose(taken)  # [rounds] each
    low, middle, high = 1e3 * np.percentile(cpu, (25, 50, 75))
    faster = None
    if in_float is not None:
        # Of the same rounds: a machine with other work is faster in some than in others.
        float_cpu, _, _ = np.transpose(in_float)
        faster = float(np.median(float_cpu / cpu))
    return [
        file.point,
        file.what,
        file.runtime,
        file.path.stat().st_size / 1e3,
        float(middle),
        1e3 * float(cpu.min()),
        f'{low:.3g}-{high:.3g}',
        faster,
        1e3 * float(np.median(wall)),
        about['start_cpu_s'],
        about['start_mb'],
        file.compared.differing,
        file.compared.percent(file.compared.right),
    ]
