"""PyTorch checkpoints: both formats of torch.save, and files made to break or abuse the reader."""

import os
import pickle
import struct
import tracemalloc
import zipfile
import zlib
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.errors import UsageError
from engine.importers.torch_file import MAGIC, read_checkpoint, read_torch
from tests.engine.importers.torch_format import (
    FAKES,
    TYPES,
    Call,
    Storage,
    of,
    pickled,
    tensor,
    wrap,
    write,
)

FORMATS = ('zip', 'legacy')


def network(prefix: str = 'module.') -> OrderedDict:
    """A state dict with the `_metadata` attribute that PyTorch gives it."""
    state = OrderedDict(
        {
            f'{prefix}conv1.weight': of(np.arange(54).reshape(2, 3, 3, 3)),
            f'{prefix}bn1.running_var': of([1, 2]),
            f'{prefix}bn1.num_batches_tracked': of(5, 'Long'),
        }
    )
    state._metadata = OrderedDict({'': {'version': 1}, 'bn1': {'version': 2}})
    return state


@pytest.fixture
def file(tmp_path) -> Path:
    return tmp_path / 'model_best.pth.tar'


@pytest.fixture(params=FORMATS)
def form(request) -> str:
    return request.param


def refused(path: Path, match: str | None = None) -> str:
    """The message, which must be one line that names the file."""
    with pytest.raises(UsageError, match=match) as caught:
        read_torch(path)
    message = str(caught.value)
    assert message.startswith(str(path)) and '\n' not in message
    return message


@pytest.mark.parametrize('protocol', [2, 4])
def test_nested_containers_and_numbers(file, form, protocol):
    obj = {
        'epoch': 3,
        'arch': 'resnet18',
        'nested': [1, (2.5, None, True), {'x': of([1, 2])}],
        'raw': b'\xff\0',
        'best': np.float64(71.25),
        'top5': np.float32(1.5),
        'count': np.int64(-4),
        'flag': np.bool_(True),
        'size': Call(FAKES['torch'].Size, ((1, 2),)),
        'device': Call(FAKES['torch'].device, ('cuda', 0)),
    }
    storages: dict[str, Storage] = {}
    read = read_torch(
        wrap(file, form, pickled(obj, storages, form == 'legacy', protocol), storages)
    )
    np.testing.assert_array_equal(read['nested'].pop()['x'], np.float32([1, 2]))
    assert read == {
        'epoch': 3,
        'arch': 'resnet18',
        'nested': [1, (2.5, None, True)],
        'raw': b'\xff\0',
        'best': 71.25,
        'top5': 1.5,
        'count': -4,
        'flag': True,
        'size': (1, 2),
        'device': ('cuda', 0),
    }


@pytest.mark.parametrize('kind', TYPES)
def test_every_type_keeps_its_numbers(file, form, kind):
    values = (
        np.array([[0, 1, 1], [1, 0, 1]], TYPES[kind])
        if kind == 'Bool'
        else np.array([[0, 1, 100], [3, 50, 127]], TYPES[kind])
    )
    read = read_torch(write(file, form, {'x': of(values, kind)}))['x']
    assert read.dtype == TYPES[kind]
    np.testing.assert_array_equal(read, values)


@pytest.mark.parametrize('shape', [(), (3,)])
def test_bfloat16_is_widened(file, form, shape):
    values = np.broadcast_to(np.float32(-1.5), shape)
    read = read_torch(
        write(file, form, {'x': of((values.view('<u4') >> 16).astype('<u2'), 'BFloat16')})
    )['x']
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, values)


def test_views_of_one_storage(file, form):
    base = np.arange(24, dtype='<f4')
    storage = Storage(base)
    obj = {
        'whole': tensor(storage, 0, (2, 3, 4), (12, 4, 1)),
        'part': tensor(storage, 5, (4,), (1,)),
        'turned': tensor(storage, 0, (4, 2, 3), (1, 12, 4)),
        'step': tensor(storage, 1, (2, 2), (12, 2)),
        'last': tensor(storage, 23, (), ()),
        'one': tensor(storage, 23, (1, 1), (10**30, 7)),
        'repeated': tensor(storage, 2, (3, 2), (0, 1)),
        'none': tensor(storage, 0, (0, 4), (4, 1)),
    }
    read = read_torch(write(file, form, obj))
    cube = base.reshape(2, 3, 4)
    wanted = {
        'whole': cube,
        'part': base[5:9],
        'turned': cube.transpose(2, 0, 1),
        'step': [[1, 3], [13, 15]],
        'last': base[23],
        'one': [[23]],
        'repeated': [[2, 3]] * 3,
        'none': np.empty((0, 4)),
    }
    for name, value in wanted.items():
        np.testing.assert_array_equal(read[name], value, err_msg=name)
        assert (
            read[name].flags.c_contiguous
            and read[name].flags.owndata
            and read[name].flags.writeable
        ), name


def test_empty_storages_scalars_and_parameters(file, form):
    make = FAKES['torch._utils']._rebuild_parameter
    old = Call(FAKES['torch._utils']._rebuild_tensor, (Storage(np.float32([4, 5])), 1, (1,), (1,)))
    read = read_torch(
        write(
            file,
            form,
            {
                'empty': of([]),
                'count': of(7, 'Long'),
                'old': old,
                'parameter': Call(make, (of([1, 2]), True, OrderedDict())),
            },
        )
    )
    assert read['empty'].shape == (0,) and read['count'].shape == () and read['count'] == 7
    assert read['parameter'].tolist() == [1, 2] and read['old'].tolist() == [5]


def test_a_view_of_a_legacy_storage(file):
    storage = Storage(np.arange(6, dtype='<f4'), view=('v', 2, 3))
    assert read_torch(write(file, 'legacy', tensor(storage, 1, (2,), (1,)))).tolist() == [3, 4]
    refused(write(file, 'legacy', tensor(storage, 1, (3,), (1,))), 'beyond its storage')


def test_strings_of_python_2(file, form):
    double = (
        b'cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(U\x02f8K\0K\x01tR'
        b'(K\x03U\x01%bNNNK\xffK\xffK\0tbU\x08%btR'
    )
    for order, code in ((b'<', '<d'), (b'>', '>d')):
        content = b'\x80\x02}U\x04best' + double % (order, struct.pack(code, -71.3)) + b's.'
        assert read_torch(wrap(file, form, content, {})) == {'best': -71.3}


@pytest.mark.parametrize('prefix', ['', 'module.'])
def test_the_model_of_a_training_checkpoint(file, form, prefix):
    momentum = {
        'state': {0: {'momentum_buffer': of([1, 2]), 'step': 4}},
        'param_groups': [{'lr': 0.1, 'params': [0]}],
    }
    checkpoint = read_checkpoint(
        write(
            file,
            form,
            {
                'epoch': 90,
                'arch': 'resnet18',
                'state_dict': network(prefix),
                'best_acc1': of(69.5),
                'optimizer': momentum,
            },
        )
    )
    assert checkpoint.arch == 'resnet18'
    assert list(checkpoint.tensors) == [
        'conv1.weight',
        'bn1.running_var',
        'bn1.num_batches_tracked',
    ]
    np.testing.assert_array_equal(
        checkpoint.tensors['conv1.weight'], np.arange(54).reshape(2, 3, 3, 3)
    )
    assert checkpoint.tensors['conv1.weight'].dtype == np.float32
    count = checkpoint.tensors['bn1.num_batches_tracked']
    assert count.shape == () and count.dtype == np.int64 and count == 5


def test_averages_that_are_none(file, form):
    """A tensor, or nothing, where a dict is meant."""
    for averages in (of([1, 2]), {}, [of([1])], None):
        obj = {'state_dict_ema': averages, 'state_dict': network()}
        assert len(read_checkpoint(write(file, form, obj)).tensors) == 3


def test_a_bare_state_dict(file, form):
    checkpoint = read_checkpoint(write(file, form, network('')))
    assert checkpoint.arch is None and len(checkpoint.tensors) == 3


def test_a_prefix_that_only_some_names_have_stays(file, form):
    obj = {'module.a': of([1]), 'b': of([2])}
    assert list(read_checkpoint(write(file, form, obj)).tensors) == ['module.a', 'b']


@pytest.mark.parametrize(
    'obj',
    [
        {},
        [1],
        'text',
        {'state_dict': {}},
        {'state_dict': [1]},
        {1: of(2)},
        {'epoch': of(3), 'model': {}},
    ],
)
def test_no_model_tensors(file, form, obj):
    with pytest.raises(UsageError, match='no model tensors'):
        read_checkpoint(write(file, form, obj))


def evil(function: Any, *args: Any) -> bytes:
    return pickle.dumps(Call(function, args), 2)


def in_pickle(module: str, name: str, call: bytes = b'', protocol: int = 4) -> bytes:
    """A pickle that looks a name up; `call` are the opcodes that follow."""
    strings = b''.join(b'\x8c' + bytes([len(text)]) + text.encode() for text in (module, name))
    return b'\x80' + bytes([protocol]) + strings + b'\x93' + call + b'.'


def attacks(marker: Path) -> dict[str, bytes]:
    command = f'touch {marker}'
    return {
        'system': evil(os.system, command),
        'eval': evil(eval, f"open({str(marker)!r}, 'w')"),
        'open': evil(open, str(marker), 'w'),
        'getattr': evil(getattr, OrderedDict, 'fromkeys'),
        'import': evil(__import__, 'antigravity'),
        'attribute': in_pickle('collections', 'OrderedDict.fromkeys'),
        'globals': in_pickle('torch._utils', '_rebuild_tensor_v2.__globals__'),
        'line break': in_pickle('os\nx', 'system'),
        'numpy': in_pickle('numpy', 'load'),
        'array': pickle.dumps(np.ones(2), 2),
        'other rebuild': in_pickle('torch._utils', '_rebuild_qtensor'),
        'inst': b'(S' + repr(command).encode() + b'\nios\nsystem\n.',
        'obj': b'(cos\nsystem\nS' + repr(command).encode() + b'\no.',
    }


@pytest.mark.parametrize('attack', attacks(Path('marker')))
def test_code_is_refused_and_not_run(file, form, tmp_path, attack):
    marker = tmp_path / 'marker'
    message = refused(
        wrap(file, form, attacks(marker)[attack], {}), 'only tensors, numbers and strings are read'
    )
    assert 'holds ' in message and not marker.exists()


def test_the_refused_class_is_named(file, form):
    assert "'posix.system'" in refused(wrap(file, form, evil(os.system, 'true'), {}))


@pytest.mark.parametrize(
    'place',
    [
        'collections.OrderedDict',
        'torch._utils._rebuild_tensor_v2',
        'torch.FloatStorage',
        'torch.Size',
        'numpy.dtype',
        'numpy.core.multiarray.scalar',
        '_codecs.encode',
    ],
)
def test_what_is_admitted_cannot_be_altered(file, form, place):
    module, _, name = place.rpartition('.')
    setting = b'N}\x8c\x08__call__K\x01s\x86b'
    refused(wrap(file, form, in_pickle(module, name, setting), {}))
    refused(wrap(file, form, in_pickle(module, name, b')\x81'), {}))


def test_methods_set_on_a_dict_are_dropped(file, form):
    setting = b')RN}\x8c\x05itemsK\x01s\x86b'
    assert read_torch(wrap(file, form, in_pickle('collections', 'OrderedDict', setting), {})) == {}


def test_a_shared_dtype_is_not_altered(file, form):
    content = b'\x80\x02cnumpy\ndtype\n(X\x02\0\0\0f8tR(K\x03X\x01\0\0\0>NNNK\0K\0K\0tb0}.'
    assert read_torch(wrap(file, form, content, {})) == {}
    assert np.dtype('f8').byteorder == '='


@pytest.mark.parametrize('code', ['O8', 'V8', 'f8,O', 'M8'])
def test_only_numbers_are_numpy_scalars(file, form, code):
    refused(
        wrap(
            file,
            form,
            b'\x80\x02cnumpy\ndtype\n(X' + struct.pack('<i', len(code)) + code.encode() + b'tR.',
            {},
        )
    )


@pytest.mark.parametrize(
    'offset, size, stride',
    [
        (0, (7,), (1,)),
        (6, (), ()),
        (5, (2,), (1,)),
        (0, (2, 3), (4, 1)),
        (10**30, (1,), (1,)),
        (0, (2,), (2**62,)),
        (0, (2**62,), (0,)),
        (0, (10**9, 10**9), (0, 0)),
        (-1, (1,), (1,)),
        (0, (-1,), (1,)),
        (5, (2,), (-1,)),
        (0, (2,), ()),
        (0, (), (1,)),
        (0, (2.0,), (1,)),
        ('0', (2,), (1,)),
        (None, (2,), (1,)),
        (0, (0, 10**30), (1, 1)),
        (0, (1,) * 99, (1,) * 99),
    ],
)
def test_a_tensor_outside_its_storage(file, form, offset, size, stride):
    refused(
        write(file, form, {'x': tensor(Storage(np.arange(6, dtype='<f4')), offset, size, stride)})
    )


def test_a_dimension_of_length_one_has_any_stride(file, form):
    """PyTorch stores what it finds there, which need not fit the storage, nor 64 bits in bytes."""
    numbers = np.arange(6, dtype='<f4')
    stored = tensor(Storage(numbers), 1, (1, 2, 1), (2**62, 3, 2**63 - 1))
    found = read_torch(write(file, form, {'x': stored}))
    np.testing.assert_array_equal(found['x'], [[[1], [4]]])


@pytest.mark.parametrize('numel', [7, -1, 2**62, 1.0, [], 'x'])
def test_a_storage_of_another_length(file, form, numel):
    refused(
        write(file, form, tensor(Storage(np.arange(6, dtype='<f4'), numel=numel), 0, (1,), (1,)))
    )


@pytest.mark.parametrize(
    'pid',
    [
        None,
        1,
        (),
        ('module', 1, 2, 3, 4),
        ('storage', 'Float', '0', 'cpu', 1),
        ('storage', [], '0', 'cpu', 1),
        ('storage', 'FloatStorage', 0, 'cpu', 1),
        ('storage', 'FloatStorage', 'gone', 'cpu', 1),
    ],
    ids=str,
)
def test_a_broken_reference_to_a_storage(file, form, pid):
    refused(wrap(file, form, pickle.dumps(pid, 2)[:-1] + b'Q.', {}))


def test_a_small_file_cannot_fill_the_memory(file, form):
    storage = Storage(np.ones(100000, '<f4'))
    views = [tensor(storage, k, (90000,), (1,)) for k in range(20)]
    assert len(read_torch(write(file, form, views[:5]))) == 5
    refused(write(file, form, views), 'times larger than the file')


def peak(path: Path, refusal: str = '') -> int:
    """Bytes that reading takes at most, whether it succeeds or is refused for this reason."""
    tracemalloc.start()
    try:
        if refusal:
            refused(path, refusal)
        else:
            read_torch(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_storage_is_copied_once(file, form):
    tensors = {f'x{k}': of(np.zeros(500_000, '<f4')) for k in range(12)}  # 24 MB
    size = write(file, form, tensors).stat().st_size
    assert peak(file) < 1.3 * size
    narrow = {f'x{k}': of(np.zeros(10**6, '<u2'), 'BFloat16') for k in range(12)}
    assert peak(write(file, form, narrow)) < 2.3 * size
    whole = Storage(np.ones(6 * 10**6, '<f4'))
    views = {f'x{k}': tensor(whole, 10**6 * k, (10**6,), (1,)) for k in range(6)}
    assert peak(write(file, form, views)) < 2.1 * size


def test_members_that_overlap_cannot_fill_the_memory(file):
    """Every storage begins in the one before it: 64 MB became 3.3 GB."""
    whole = np.ones(500_000, '<f4')
    storages: dict[str, Storage] = {}
    wrap(file, 'zip', pickled([of(whole) for _ in range(60)], storages, False), {})
    nested = whole.tobytes()
    infos = []
    for key in reversed(storages):
        info = zipfile.ZipInfo(f'archive/data/{key}')
        info.file_size = info.compress_size = whole.nbytes
        info.CRC = zlib.crc32(nested[: whole.nbytes])
        nested = info.FileHeader() + nested
        info.header_offset = -len(nested)  # from the end of them all
        infos.append(info)
    with zipfile.ZipFile(file, 'a') as archive:
        archive.fp.seek(archive.start_dir)
        archive.fp.write(nested)
        archive.start_dir = archive.fp.tell()
        for info in infos:
            info.header_offset += archive.start_dir
        archive.filelist += infos
        archive._didModify = True
    # Some versions of Python refuse them before the reader's own budget does.
    assert peak(file, 'Overlapped|times larger') < 2 * file.stat().st_size + 50 * 2**20


def test_a_small_file_ends(file, form):
    """A key whose hash visits 2**60 tuples."""
    refused(wrap(file, form, b'\x80\x02}N' + b'2\x86' * 60 + b'Ns.', {}), 'neither text nor number')


@pytest.mark.slow
@pytest.mark.parametrize('unit', [b']', b'}', b'(', b'Nq\1', b'X\1\0\0\0a'])
def test_names_and_numbers_cannot_fill_the_memory(file, form, unit):
    size = wrap(file, form, b'\x80\x02' + unit * (2 * 10**6) + b'.', {}).stat().st_size
    assert peak(file, 'memory') < 2 * size + 50 * 2**20


def test_a_long_table_of_contents_is_not_read(file):
    with zipfile.ZipFile(file, 'w') as archive:
        archive.writestr('archive/data.pkl', b'')
        info = archive.infolist()[0]
        archive.filelist += [info] * 50_000
        archive._didModify = True
    assert peak(file, 'memory') < 2 * file.stat().st_size + 50 * 2**20


@pytest.mark.parametrize('slot', [b'r\xff\xff\xff\x7f', b'p2147483647\n'])
def test_a_memo_cannot_fill_the_memory(file, form, slot):
    refused(wrap(file, form, b'\x80\x02}' + slot + b'.', {}), 'memo slot')


def test_a_recursive_object(file, form):
    obj: list = []
    obj.append(obj)
    read = read_torch(write(file, form, obj))
    assert read[0] is read


def test_a_truncated_file(file, form):
    content = write(
        file, form, {'arch': 'x', 'state_dict': network(), 'best': np.float64(1)}
    ).read_bytes()
    for length in range(len(content)):
        file.write_bytes(content[:length])
        refused(file)


def test_a_damaged_file(file, form):
    content = write(
        file, form, {'arch': 'x', 'state_dict': network(), 'best': np.float64(1)}
    ).read_bytes()
    rng = np.random.default_rng(3)
    for position in rng.integers(len(content), size=400):
        broken = bytearray(content)
        broken[position] ^= 1 << rng.integers(8)
        file.write_bytes(broken)
        try:
            read_checkpoint(file)
        except UsageError as error:
            assert '\n' not in str(error)


def test_a_missing_file_and_a_folder(tmp_path):
    refused(tmp_path / 'none.pth.tar', 'No such file')
    refused(tmp_path, 'directory')


@pytest.mark.parametrize(
    'content, match',
    [
        (b'', 'empty'),
        (b'<!doctype html>', 'starts with'),
        (pickle.dumps({'a': 1}), 'starts with'),
        (b'x' * 257 + b'ustar' + b'\0' * 250, 'tar archive'),
        (b'PK\x03\x04 and no more', 'complete'),
        (pickle.dumps(MAGIC, 2) + pickle.dumps(1000, 2) + pickle.dumps({}, 2), 'magic'),
    ],
)
def test_other_files(file, content, match):
    file.write_bytes(content)
    refused(file, match)


def test_other_archives(file):
    write(file, 'zip', {}, extra=['constants.pkl', 'code/net.py'])
    refused(file, 'TorchScript')
    write(file, 'zip', {'x': of(np.zeros(999))}, compression=zipfile.ZIP_DEFLATED)
    refused(file, 'compressed')
    with zipfile.ZipFile(file, 'w') as archive:
        archive.writestr('readme', '')
    refused(file, '0 data.pkl')


def test_big_endian(file, form):
    refused(write(file, form, {}, little=False), 'big-endian')
