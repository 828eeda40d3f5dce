"""Torch7 files: what is read, and what is refused instead of being run or believed."""

import contextlib
import math
import struct
import tracemalloc

import numpy as np
import pytest

from engine.errors import UsageError
from engine.importers.t7_file import Instance, read_t7
from tests.engine.importers.t7_writer import CODES, Object, Raw, Writer, string, write_t7


def round_trip(tmp_path, value, **options):
    return read_t7(write_t7(tmp_path / 'x.t7', value, **options))


@pytest.mark.parametrize(
    'value, expected',
    [
        (None, None),
        (True, True),
        (False, False),
        (3, 3),
        (-2.5, -2.5),
        (math.inf, math.inf),
        ('', ''),
        ('päth', 'päth'),
        ([1, 'a', None], {1: 1, 2: 'a', 3: None}),
        ({'a': {'b': [True]}, 2.5: 1}, {'a': {'b': {1: True}}, 2.5: 1}),
    ],
)
def test_plain_values(value, expected, tmp_path):
    found = round_trip(tmp_path, value)
    assert found == expected and type(found) is type(expected)


def test_a_spelled_out_file(tmp_path):
    """Bytes as torch.save{x = 7} writes them."""
    (tmp_path / 'x.t7').write_bytes(
        bytes.fromhex('03000000 01000000 01000000  02000000 01000000 78  01000000 0000000000001c40')
    )
    assert read_t7(tmp_path / 'x.t7') == {'x': 7}


@pytest.mark.parametrize('versions', [True, False])
@pytest.mark.parametrize('prefix', ['', 'Cuda'])
@pytest.mark.parametrize('dtype', CODES)
def test_tensors(dtype, prefix, versions, tmp_path):
    value = np.arange(24).astype(dtype).reshape(2, 3, 4)
    found = round_trip(tmp_path, value, prefix=prefix, versions=versions)
    assert found.dtype == np.dtype(dtype) and found.flags.c_contiguous
    np.testing.assert_array_equal(found, value)


def test_views_of_one_storage(tmp_path):
    whole = np.arange(60, dtype='<f4')
    views = [
        whole[3:27].reshape(2, 3, 4),
        np.lib.stride_tricks.as_strided(whole[10:], (3, 4), (4, 12)),
        np.lib.stride_tricks.as_strided(whole[5:], (2, 3), (0, 4)),
    ]
    views = [
        np.ndarray(
            v.shape, v.dtype, whole, v.__array_interface__['data'][0] - whole.ctypes.data, v.strides
        )
        for v in views
    ]
    found = round_trip(tmp_path, views)
    assert (tmp_path / 'x.t7').stat().st_size < 2 * whole.nbytes + 400
    for k, view in enumerate(views, 1):
        np.testing.assert_array_equal(found[k], view)
    found[1][:] = 0
    assert found[2].max() > 0


def test_empty_tensor(tmp_path):
    assert round_trip(tmp_path, np.empty(0, '<f4')).shape == (0,)


def test_a_tensor_without_dimensions(tmp_path):
    data = (
        struct.pack('<ii', 4, 1)
        + string('V 1')
        + string('torch.DoubleTensor')
        + struct.pack('<iqi', 0, 1, 0)
    )
    assert round_trip(tmp_path, Raw(data)).shape == (0,)


def test_instances_and_shared_references(tmp_path):
    weight = np.ones((2, 2), '<f4')
    linear = Object('nn.Linear', {'weight': weight, 'train': False})
    found = round_trip(tmp_path, {'a': linear, 'b': [linear, weight]})
    assert isinstance(found['a'], Instance) and found['a'].name == 'nn.Linear'
    assert found['a'] is found['b'][1] and found['b'][2] is found['a'].fields['weight']


def test_a_table_that_holds_itself(tmp_path):
    table = {}
    table['self'] = table
    found = round_trip(tmp_path, table)
    assert found['self'] is found


@pytest.mark.parametrize(
    'value, part',
    [
        (Raw(struct.pack('<iii', 6, 1, 4) + b'code'), 'holds a function'),
        (Raw(struct.pack('<ii', 8, 1)), 'function'),
        ({'a': [Object('tds.Hash', {})]}, "instance of 'tds.Hash'"),
        (Object('os.execute', {}), "'os.execute'"),
        (Object('torch.Generator', {}), "'torch.Generator'"),
        (Object('torch.StringTensor', {}), "'torch.StringTensor'"),
        (Object('nn.Linear', 'code'), 'nn.Linear is no table'),
        (Raw(struct.pack('<i', 9)), 'object of type 9 at byte 0'),
        (Raw(struct.pack('<i', -1)), 'type -1'),
        (Raw(struct.pack('<iii', 2, -5, 0)), 'too early'),
        (Raw(struct.pack('<iii', 3, 1, 2**31 - 1)), 'too early'),
        (Raw(b'4\n1\n3\nV 1\n'), 'ASCII'),
        (Raw(b''), 'empty'),
        (Raw(b'PK\3\4' + bytes(40)), 'type 67324752'),
        (Raw(struct.pack('<ii', 0, 0)), '4 bytes are left over'),
    ],
)
def test_refused(value, part, tmp_path):
    with pytest.raises(UsageError, match=f'x.t7: .*{part}'):
        round_trip(tmp_path, value)


def tensor(sizes, strides, offset, numbers):
    return Raw(
        struct.pack('<ii', 4, 1)
        + string('V 1')
        + string('torch.ByteTensor')
        + struct.pack(f'<i{len(sizes)}q{len(strides)}qq', len(sizes), *sizes, *strides, offset)
        + struct.pack('<ii', 4, 2)
        + string('V 1')
        + string('torch.ByteStorage')
        + struct.pack('<q', numbers)
        + bytes(max(0, min(numbers, 8)))
    )


@pytest.mark.parametrize(
    'sizes, strides, offset, numbers, part',
    [
        ((3, 3), (3, 1), 1, 8, 'beyond'),
        ((8,), (1,), 2, 8, 'beyond'),
        ((4,), (1,), 0, 8, 'impossible'),
        ((-4,), (1,), 1, 8, 'impossible'),
        ((4,), (-1,), 5, 8, 'impossible'),
        ((4,), (1,), 1, 2**40, 'too early'),
        ((2**50,), (0,), 1, 8, 'beyond'),
        ((4,), (1,), 1, -1, 'too early'),
    ],
)
def test_impossible_tensors(sizes, strides, offset, numbers, part, tmp_path):
    tracemalloc.start()
    with pytest.raises(UsageError, match=part):
        round_trip(tmp_path, tensor(sizes, strides, offset, numbers))
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()


def peak(path, refusal=None):
    """Bytes that reading takes at most, whether it succeeds or is refused for this reason."""
    ended = pytest.raises(UsageError, match=refusal) if refusal else contextlib.nullcontext()
    tracemalloc.start()
    try:
        with ended:
            read_t7(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_storage_is_copied_once(tmp_path):
    tensors = [np.zeros(500_000, '<f4') for _ in range(12)]
    path = write_t7(tmp_path / 'x.t7', tensors)
    assert peak(path) < 2.1 * path.stat().st_size


@pytest.mark.slow
@pytest.mark.parametrize('make', [lambda k: None, lambda k: k + 0.25, lambda k: {}, lambda k: ''])
def test_small_objects_cannot_fill_the_memory(make, tmp_path):
    """Nothing, numbers, tables and texts in a table; each is far smaller in the file."""
    path = write_t7(tmp_path / 'x.t7', {k + 0.5: make(k) for k in range(400_000)})
    assert peak(path, 'far more memory') < 2 * path.stat().st_size + 40 * 2**20


def test_many_views_of_one_storage_cannot_fill_the_memory(tmp_path):
    whole = np.zeros(2**20, '<f4')
    path = write_t7(tmp_path / 'x.t7', [whole[k:] for k in range(100)])
    assert peak(path, 'far more memory') < 2 * path.stat().st_size + 50 * 2**20


def test_a_tensor_in_a_table(tmp_path):
    table = struct.pack('<iii', 3, 2, 0)
    for sizes in (struct.pack('<i', 0), struct.pack('<iqq', 1, 1, 1)):
        data = struct.pack('<ii', 4, 1) + string('V 1') + string('torch.DoubleTensor')
        with pytest.raises(UsageError, match='without a storage'):
            round_trip(tmp_path, Raw(data + sizes + struct.pack('<q', 1) + table))


def test_every_truncation(tmp_path):
    data = (
        Writer()
        .put({'a': [1, True, 'text'], 'b': Object('nn.X', {'w': np.ones((2, 2), '<f4')})})
        .data
    )
    for length in range(len(data)):
        (tmp_path / 'x.t7').write_bytes(data[:length])
        with pytest.raises(UsageError, match='x.t7: '):
            read_t7(tmp_path / 'x.t7')


def test_random_damage_never_escapes(tmp_path):
    data = bytearray(
        Writer().put({'a': [1, 'text'], 'b': Object('nn.X', {'w': np.ones((2, 2), '<f4')})}).data
    )
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(500):
        damaged = bytearray(data)
        damaged[rng.integers(len(data))] = rng.integers(256)
        (tmp_path / 'x.t7').write_bytes(damaged)
        try:
            read_t7(tmp_path / 'x.t7')
        except UsageError as error:
            assert 'x.t7: ' in str(error)
            refused += 1
    assert 250 < refused < 500


def test_deep_nesting(tmp_path):
    deep = b''.join(struct.pack('<iii', 3, i, 1) + struct.pack('<id', 1, 1) for i in range(1, 5000))
    with pytest.raises(UsageError, match='cannot be read'):
        round_trip(tmp_path, Raw(deep))


def test_keys_that_cannot_be(tmp_path):
    with pytest.raises(UsageError, match='cannot be read'):
        round_trip(
            tmp_path,
            Raw(
                struct.pack('<iii', 3, 1, 1) + Writer().put(np.ones(2)).data + struct.pack('<i', 0)
            ),
        )


def test_no_file(tmp_path):
    with pytest.raises(UsageError, match='No such file'):
        read_t7(tmp_path / 'x.t7')
