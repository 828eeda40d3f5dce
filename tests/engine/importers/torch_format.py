"""Files as torch.save writes them, of stand-ins with PyTorch's names: PyTorch is not needed."""

import io
import pickle
import struct
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from engine.importers.torch_file import MAGIC, PROTOCOL

TYPES = {
    'Float': '<f4',
    'Double': '<f8',
    'Half': '<f2',
    'Long': '<i8',
    'Int': '<i4',
    'Short': '<i2',
    'Char': 'i1',
    'Byte': 'u1',
    'Bool': '?',
}


def named(module: str, name: str) -> type:
    """A class that is pickled by this name, which need not exist."""
    return type(name, (), {'__module__': module})


def fake_modules() -> dict[str, types.ModuleType]:
    """Modules with the names that torch.save refers to."""
    torch, utils = types.ModuleType('torch'), types.ModuleType('torch._utils')
    for kind in (*TYPES, 'BFloat16'):
        setattr(torch, f'{kind}Storage', named('torch', f'{kind}Storage'))
    torch.Size, torch.device = named('torch', 'Size'), named('torch', 'device')
    for name in ('_rebuild_tensor', '_rebuild_tensor_v2', '_rebuild_parameter', '_rebuild_qtensor'):
        setattr(utils, name, named('torch._utils', name))
    torch._utils = utils
    return {'torch': torch, 'torch._utils': utils}


FAKES = fake_modules()


@dataclass(eq=False)
class Storage:
    data: np.ndarray
    kind: str = 'Float'
    view: tuple[str, int, int] | None = None
    numel: Any = None  # what the file says, if it is wrong

    def pid(self, key: str, legacy: bool) -> tuple:
        kind = getattr(FAKES['torch'], f'{self.kind}Storage')
        numel = len(self.data) if self.numel is None else self.numel
        return ('storage', kind, key, 'cuda:0', numel, *([self.view] if legacy else []))


@dataclass
class Call:
    """Pickled as a call of `function`, followed by BUILD if there is a state."""

    function: Any
    args: tuple
    state: Any = None

    def __reduce__(self) -> tuple:
        return (
            (self.function, self.args, self.state)
            if self.state is not None
            else (self.function, self.args)
        )


def tensor(storage: Storage, offset: Any, size: Sequence, stride: Sequence) -> Call:
    return Call(
        FAKES['torch._utils']._rebuild_tensor_v2,
        (storage, offset, tuple(size), tuple(stride), False, OrderedDict()),
    )


def of(array: Any, kind: str = 'Float') -> Call:
    """A contiguous tensor with its own storage."""
    array = np.asarray(array, TYPES.get(kind, '<u2'))
    strides = [step // array.itemsize for step in array.strides]
    return tensor(Storage(array.reshape(-1), kind), 0, array.shape, strides)


def pickled(obj: Any, storages: dict[str, Storage], legacy: bool, protocol: int = 2) -> bytes:
    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: Any) -> Any:
            if not isinstance(obj, Storage):
                return None
            key = next((key for key, known in storages.items() if known is obj), str(len(storages)))
            storages[key] = obj
            return obj.pid(key, legacy)

    buffer = io.BytesIO()
    with mock.patch.dict(sys.modules, FAKES):
        Pickler(buffer, protocol).dump(obj)
    return buffer.getvalue()


def wrap(
    path: Path,
    form: str,
    content: bytes,
    storages: dict[str, Storage],
    *,
    little: bool = True,
    extra: Sequence[str] = (),
    compression: int = zipfile.ZIP_STORED,
) -> Path:
    """Put a pickled object into a file of the format."""
    if form == 'zip':
        with zipfile.ZipFile(path, 'w', compression) as archive:
            archive.writestr('archive/data.pkl', content)
            archive.writestr('archive/byteorder', 'little' if little else 'big')
            for key, storage in storages.items():
                archive.writestr(f'archive/data/{key}', storage.data.tobytes())
            for name in extra:
                archive.writestr(f'archive/{name}', '')
        return path
    info = {
        'protocol_version': PROTOCOL,
        'little_endian': little,
        'type_sizes': {'short': 2, 'int': 4, 'long': 4},
    }
    parts = [pickle.dumps(value, 2) for value in (MAGIC, PROTOCOL, info)] + [
        content,
        pickle.dumps([*storages], 2),
    ]
    parts += [
        struct.pack('<q', len(storage.data)) + storage.data.tobytes()
        for storage in storages.values()
    ]
    path.write_bytes(b''.join(parts))
    return path


def write(path: Path, form: str, obj: Any, **options: Any) -> Path:
    storages: dict[str, Storage] = {}
    return wrap(path, form, pickled(obj, storages, form == 'legacy'), storages, **options)
