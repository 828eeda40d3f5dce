"""Every reader of a file that a disk, a person or another program may have damaged.

A new reader is a line in ``READERS``: how a good file is made, and what reads it.
"""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from engine import arrays
from engine.config.config import Config, read_config
from engine.data import datasets, packed
from engine.data.layouts import label_list, shards, table
from engine.deployment import native_library, native_reader, native_writer
from engine.errors import UsageError
from engine.files import read_json, write_json
from engine.results import exit_records, exit_thresholds, page, profiles, records, tables
from engine.runs import data_record, history, holdout
from nets import cost
from quant.policy import Rule
from tests.engine.data.layouts import makers
from tests.engine.deployment import small_programs
from tests.engine.importers.fuzzed import ENTRIES
from tests.fuzz.harness import Reader

REMEDY = 'make it anew'
LAYERS = {
    's28': [
        cost.LayerRecord('stem/conv', 'stem', (3, 3, 3, 16), (28, 28), inputs=2352),
        cost.LayerRecord('group0/conv', 'body', (3, 3, 16, 16), (28, 28), weight_bits=2, basis=32),
    ],
    's20': [cost.LayerRecord('head', 'head', (1, 1, 16, 10), (1, 1), bias=10, inputs=16)],
}
SCORE = {
    'point': 's28',
    'bn': 's28',
    'top1': 61.25,
    'top5': 97.5,
    'images': 2000,
    'seconds': 1.25,
    'data': 'animals28',
    'checkpoint': '/runs/ä/model-60',
    'dataset': 'animals28',
    'draws': 1,
    'deviation': 0.0,
}
ROWS = [
    {
        'loss': 2.5 / epoch,
        'val/s28/top1': 40.0 + epoch,
        'val/mean/top1': 40.5 + epoch,
        'epoch_num': epoch,
        'global_step': 60 * epoch,
    }
    for epoch in (1, 2, 3)
]
GATES = {
    'point': 's28',
    'blocks': ['group0/block0', 'group1/block0'],
    'targets': [0.7, 0.7],
    'rates': [0.5, 0.75],
    'by_class': [[0.5, 0.75], [0.25, 1.0]],
    'madds': 1234567.5,
    'always': 1e6,
    'everything': 2e6,
    'activation': 0.625,
}
TIMES = {'s28': {'batch1_ms': 1.25, 'batch1_iqr': 0.125}, 's20': {'batch1_ms': 0.75}}
POLICY = exit_thresholds.ExitPolicy(28, (0, 1), (-0.125, -1e8), 6e7, 5.5e7, 'MAdds', 'run/model-3')
RULES = [{'roles': ['head'], 'weight': 'lq(bits=4)'}, {'scope': '^group3/', 'activation': 'float'}]
FOLDER = Path('run')


def recorded(
    name: str, data: Any, read: Callable[[Path], Any], file: str = 'x.json', *, closed: bool = True
) -> Reader:
    """A reader of a record in JSON.

    Args:
        name: Of the reader.
        data: What the record holds.
        read: Reads the path.
        file: Its path in a run folder.
        closed: Whether it is written as today, with a checksum, or as earlier versions did.
    """

    def write(root: Path) -> Path:
        path = root / FOLDER / file
        path.parent.mkdir(parents=True, exist_ok=True)
        if closed:
            write_json(path, data)
        else:
            path.write_text(json.dumps(data, indent=1))
        return path

    return Reader(name, write, read, closed)


def both(name: str, data: Any, read: Callable[[Path], Any], file: str) -> tuple[Reader, Reader]:
    """Readers of a record as it is written today, and as earlier versions wrote it.

    Args:
        name: Of the reader of today's.
        data: What the record holds.
        read: Reads the path.
        file: Its path in a run folder.
    """
    earlier = recorded(f'{name}, earlier', data, read, file, closed=False)
    return recorded(name, data, read, file), earlier


def text(name: str, content: str, read: Callable[[Path], Any], file: str) -> Reader:
    """A reader of a text that people write.

    Args:
        name: Of the reader.
        content: Of the file.
        read: Reads the path.
        file: Its name.
    """

    def write(root: Path) -> Path:
        path = root / file
        path.write_text(content, encoding='utf-8')
        return path

    return Reader(name, write, read, closed=False)


def stored(
    name: str,
    write: Callable[[Path], object],
    read: Callable[[Path], Any],
    file: str,
    errors: tuple[type[Exception], ...] = (UsageError,),
    *,
    closed: bool = True,
) -> Reader:
    """A reader of a file that is made by a function of the run folder.

    Args:
        name: Of the reader.
        write: Makes the file in a run folder.
        read: Reads the path.
        file: Its path in the run folder.
        errors: What a refusal is.
        closed: Whether the file tells every change.
    """

    def make(root: Path) -> Path:
        path = root / FOLDER / file
        path.parent.mkdir(parents=True, exist_ok=True)
        write(root / FOLDER)
        return path

    return Reader(name, make, read, closed, errors)


def of_run(read: Callable[..., Any], *given: Any) -> Callable[[Path], Any]:
    """A function of a path that reads the run folder which the file lies in, at any depth."""

    def found(path: Path) -> Any:
        root = next(parent for parent in path.parents if parent.name == FOLDER.name)
        return read(root, *given)

    return found


def write_exits(root: Path) -> None:
    rng = np.random.default_rng(1)
    confidence = -rng.random([6, 2])
    right = rng.random([6, 2]) > 0.5
    values = {'confidence': confidence, 'right': right}
    values |= {f'test_{name}': value for name, value in values.items()}
    arrays.write(root / 'exits' / 's28.npz', values, compressed=True)


def write_calibrated(root: Path) -> None:
    values = {'conv0/bn/s14/mean/EMA': np.arange(4, dtype=np.float32), 'points': np.array(['s14'])}
    arrays.write(root / 'model-6.calibrated.npz', values)


def write_holdout(root: Path) -> None:
    holdout.write(root, np.array([3, 4, 40]), 60, 0)


def write_pack(root: Path) -> None:
    files = []
    for number in range(3):
        content = np.arange(7 * number, dtype=np.uint8)
        files.append(packed.File(f'train/c{number % 2}/{number}.png', number % 2, content))
    packed.write(root / 'train.pack', [], files, classes=('c0', 'c1'))


def read_pack(path: Path) -> Any:
    pack = packed.Pack(path)
    return pack.classes, pack.labels, pack.names, [pack.read(i) for i in range(len(pack))]


def write_records(root: Path) -> None:
    values: dict[str, bytes | int] = {'image/class/label': 7, 'image/encoded': b'pixels'}
    makers.put(root / 'train-0-of-1', makers.record(makers.example(values)))


def read_records(path: Path) -> Any:
    return list(shards._recorded(path.parent, path.name))


def write_archive(root: Path) -> None:
    makers.archive(root / 'train.tar', [('a.png', b'pixels'), ('a.cls', b'7')])


def read_archive(path: Path) -> Any:
    return shards._archived(path.parent, path.name)


def write_planes(root: Path) -> None:
    content = native_writer.serialized(small_programs.everything((2,)), {'points': '[]'})
    (root / 'net.lqn').write_bytes(content)


def read_planes(path: Path) -> Any:
    file = native_reader.read(path)
    return file.texts, file.program()


def read_by_library(path: Path) -> Any:
    """What the library in C answers, and its steps."""
    network = native_library.NativeNetwork(path.read_bytes(), path.name, threads=2)
    images = small_programs.images()
    found: list[Any] = []
    for place, point in enumerate(network.points):
        steps = network.times(place, *images)
        found.append((point, network.run(place, *images), [name for name, _ in steps]))
    return found


def read_arrays(path: Path) -> Any:
    return arrays.read(path, None, REMEDY)


def read_best(path: Path) -> Any:
    return read_json(path, history.Best, REMEDY)


def read_latency(path: Path) -> Any:
    return exit_records.read_milliseconds(path.parents[1], ['s28', 's20'])


def read_policy(path: Path) -> Any:
    return read_json(path, list[Rule], REMEDY)


def read_skip_list(path: Path) -> Any:
    return datasets._read_list(path)


def read_labels(path: Path) -> Any:
    return label_list.read(path, ['a.png', 'b.png'], {'cat': 0, 'dog': 1}, 'val', 'train')


CONFIG = Config.from_values(
    data='animals28', policy=(Rule(**RULES[0]),), gpu=(0, 1), load='x/model-5'
)

BEST = {'mean_top1': 61.25, 'step': 60, 'epoch': 1}
TABLE = {
    'run': 'a',
    'qw': 2,
    'qa': 2,
    'point': 's28',
    'bn': 's28',
    'madds': 1234567.5,
    'bit_ops': 5000000,
    'weight_bytes': 1000,
    'ms': 1.25,
    'top1': 61.25,
    'top5': 97.5,
}
MEASURED = {'top1': 61.25, 'madds': 1e6, 'images_per_second': 50.5, 'shares': [0.25, 0.75]}
WAYS = {'early exit': MEASURED, 'all exits': MEASURED}

PART = {'images': 2000, 'crc32': 123456, 'content': f'{2**63 + 5:016x}'}
DATA = {
    'training_images': 8000,
    'crc32': 3892627734,
    'content': f'{2**60 + 7:016x}',
    'classes': ['cat', 'ä'],
    'val': PART,
    'whole_val': PART,
    'bad': {'train/cat/1.png': f'{2**59:016x}'},
}

# Only where it is compiled: make runtime.
BY_LIBRARY: list[Reader] = []
if native_library.path().exists():
    BY_LIBRARY.append(stored('bit planes, in C', write_planes, read_by_library, 'net.lqn'))

READERS: tuple[Reader, ...] = (
    *both('config.json', CONFIG.to_json(), read_config, 'config.json'),
    recorded('config.json, tables', CONFIG.to_json(), of_run(records.read_config), 'config.json'),
    *both('data.json', DATA, of_run(data_record.read), 'data.json'),
    *both('layers.json', cost.to_json(LAYERS), of_run(records.read_layers), 'layers.json'),
    *both('stats.json', ROWS, of_run(history.read, REMEDY), 'stats.json'),
    *both('best.json', BEST, read_best, 'best.json'),
    *both('eval/*.json', SCORE, records.read_score, 'eval/s28.json'),
    *both('gates/*.json', GATES, of_run(records.read_expected_madds, 's28', 28), 'gates/s28.json'),
    *both('profile.json', {'threads': 1, 'points': TIMES}, of_run(profiles.read), 'profile.json'),
    *both('exits/latency.json', TIMES, read_latency, 'exits/latency.json'),
    *both('thresholds', dataclasses.asdict(POLICY), exit_thresholds.read_policy, 'exits/x.json'),
    *both('exits/*-measured.json', WAYS, of_run(page.measured_exits), 'exits/x-measured.json'),
    *both('table of runs', {'rows': [TABLE]}, tables.read_table, 'table.json'),
    stored('holdout.npz', write_holdout, of_run(holdout.read), 'holdout.npz'),
    stored('calibrated.npz', write_calibrated, read_arrays, 'model-6.calibrated.npz'),
    stored('exits/*.npz', write_exits, of_run(exit_records.read_images, 28), 'exits/s28.npz'),
    stored('pack', write_pack, read_pack, 'train.pack', (UsageError, OSError)),
    stored('bit planes', write_planes, read_planes, 'net.lqn'),
    *BY_LIBRARY,
    stored('TFRecord shard', write_records, read_records, 'train-0-of-1', closed=False),
    stored('tar shard', write_archive, read_archive, 'train.tar', closed=False),
    *(Reader(*entry) for entry in ENTRIES),
    text('table', 'path,label,split\n"a.png","x, y",train\nb.png,z,val\n', table._rows, 'x.csv'),
    text('policy', json.dumps(RULES), read_policy, 'policy.json'),
    text('skip list', '# truncated\ntrain/ä/1.png\nval/2.png\n', read_skip_list, 'bad.txt'),
    text('label list', 'val/b.png dog\nval/a.png cat\n', read_labels, 'val.txt'),
)
