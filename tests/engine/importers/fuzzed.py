"""Foreign files for ``make fuzz``: how a good one is made, and what reads it."""

import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from engine.data import cifar
from engine.importers.safetensors_file import read_safetensors
from engine.importers.t7_file import read_t7
from engine.importers.torch_file import read_checkpoint
from tests.engine.importers.t7_writer import Object, write_t7
from tests.engine.importers.test_safetensors_file import stored
from tests.engine.importers.torch_format import Storage, of, tensor, write


class Entry(NamedTuple):
    """A kind of file.

    Attributes:
        name: in the summary.
        write: makes a good file in a folder and returns its path.
        read: all that the file holds; refuses with ``UsageError``.
        closed: whether the file tells every change.
    """

    name: str
    write: Callable[[Path], Path]
    read: Callable[[Path], Any]
    closed: bool


def _checkpoint() -> dict[str, Any]:
    """A state dict with a view of a shared storage, an optimizer and settings."""
    shared = Storage(np.arange(12, dtype='<f4'))
    state = OrderedDict()
    state['module.half'] = of([1, 2, 3], 'BFloat16')
    state['module.view'] = tensor(shared, 2, (2, 3), (1, 2))
    return {'epoch': 3, 'arch': 'resnet18', 'state_dict': state, 'best': np.float64(1.5)}


def _torch(form: str) -> Callable[[Path], Path]:
    return lambda folder: write(folder / f'{form}.pth.tar', form, _checkpoint())


def _t7(folder: Path) -> Path:
    weight = np.arange(6, dtype='<f4').reshape(2, 3)
    layer = Object('nn.Linear', {'weight': weight, 'bias': weight[:, 0], 'train': False})
    return write_t7(folder / 'model.t7', {'model': [layer, layer], 'epoch': 3.5, 'name': 'x'})


def _safetensors(folder: Path) -> Path:
    tensors = {'w': np.arange(6, dtype='<f4').reshape(2, 3), 'half': np.array([0x3F80], '<u2')}
    return stored(folder / 'x.safetensors', tensors)


def _t7_content(path: Path) -> Any:
    return _plain(read_t7(path), 8)


def _plain(value: Any, depth: int) -> Any:
    """Tables and instances as dicts, as deep as the good file goes: a damaged one may be a ring."""
    fields = value if isinstance(value, dict) else getattr(value, 'fields', None)
    if fields is None:
        return value
    if not depth:
        return '...'
    return {key: _plain(one, depth - 1) for key, one in list(fields.items())[:50]}


def _batch(protocol: int) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        rows = np.full((1, 3072), 7, np.uint8)
        content = {b'data': rows, b'labels': [1], b'batch_label': b'testing batch 1 of 1'}
        path = folder / f'test_batch_{protocol}'
        path.write_bytes(pickle.dumps(content, protocol))
        return path

    return make


def _read_batch(path: Path) -> Any:
    source = cifar._read_batches([path], 'labels')
    return [source.read(i) for i in range(len(source))], np.array(source.labels)


ENTRIES = (
    Entry('PyTorch, zip', _torch('zip'), read_checkpoint, True),
    Entry('PyTorch, before 1.6', _torch('legacy'), read_checkpoint, False),
    Entry('Torch7', _t7, _t7_content, False),
    Entry('safetensors', _safetensors, read_safetensors, False),
    Entry('CIFAR, protocol 2', _batch(2), _read_batch, False),
    Entry('CIFAR, protocol 5', _batch(5), _read_batch, False),
)
