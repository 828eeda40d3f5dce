"""Pickles of plain data: what Python wrote is read equal, and nothing else takes memory or time."""

import collections
import io
import pickle
import struct
import time
import tracemalloc
from pickle import UnpicklingError

import numpy as np
import pytest

from engine.pickles.arrays import ARRAYS
from engine.pickles.budget import Budget
from engine.pickles.machine import Machine
from engine.pickles.values import NotAdmitted

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def load(content, *, text=False, limit=None):
    budget = Budget(2 * len(content) + 2**20 if limit is None else limit, 'too much memory')
    return Machine(io.BytesIO(content), ARRAYS, budget, text=text).load()


def refused(content, match, **options):
    """Refused for this reason, within two CPU-seconds and a few megabytes."""
    tracemalloc.start()
    try:
        started = time.process_time()
        with pytest.raises((UnpicklingError, LookupError), match=match):
            load(content, **options)
        assert time.process_time() - started < 2
        assert tracemalloc.get_traced_memory()[1] < 2 * len(content) + 2**23
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize('protocol', PROTOCOLS)
@pytest.mark.parametrize(
    'value',
    [
        None,
        [True, False, 0, 1, -1, 255, 256, 65536, -(2**31), 2**31, 2**100, -(2**63)],
        [0.0, -1.5, 1e300, float('inf')],
        ['', 'text', 'pä\n\\th', '\U0001f600', "it's"],
        [b'', b'\0\xff\n', bytes(range(256))],
        (1, (2, (3, ()), 4, 5), [[]]),
        {'a': {b'b': 1, 2: {}, None: 3, 1.5: 4}},
        collections.OrderedDict([('x', 1), ('y', [2])]),
    ],
)
def test_what_python_writes_is_read_equal(value, protocol):
    assert load(pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_sharing_and_recursion(protocol):
    shared = [1]
    value = [shared, shared]
    value.append(value)
    found = load(pickle.dumps(value, protocol))
    assert found[0] is found[1] and found[2] is found


@pytest.mark.parametrize('protocol', PROTOCOLS)
@pytest.mark.parametrize('code', ['?', 'i1', 'u1', '<i2', '>i4', '<u8', '<f2', '>f4', '<f8'])
def test_arrays_of_every_number(code, protocol):
    plain = np.arange(24).astype(code).reshape(2, 3, 4)
    value = {'c': plain, 'f': np.asfortranarray(plain), 'same': plain, 'one': plain[1, 1, 1]}
    value['empty'] = plain[:0]
    value['scalar'] = plain.sum()[()]
    found = load(pickle.dumps(value, protocol))
    for name in ('c', 'f', 'same', 'empty'):
        np.testing.assert_array_equal(found[name], value[name])
        assert found[name].dtype == plain.dtype and found[name].shape == value[name].shape
    assert found['same'] is found['c'] and found['one'] == value['one']


def test_strings_and_arrays_of_python_2():
    """As cPickle of Python 2 writes the batches of CIFAR."""
    array = (
        b'cnumpy.core.multiarray\n_reconstruct\nq\x01(cnumpy\nndarray\nq\x02K\0\x85U\x01btRq\x03'
        b'(K\x01K\x02K\x03\x86cnumpy\ndtype\nq\x04(U\x02u1K\0K\x01tRq\x05'
        b'(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb\x89U\x06abcdeftb'
    )
    found = load(b'\x80\x02}q\0(U\x04data' + array + b'U\x06labels]q\x06(K\x05K\x07eu.')
    assert found[b'labels'] == [5, 7]
    np.testing.assert_array_equal(found[b'data'], [[97, 98, 99], [100, 101, 102]])
    assert load(b"S'\\xff\\n\"'\n.") == b'\xff\n"'
    assert load(b"S'\\xff'\n.", text=True) == 'ÿ'


def test_numpy_is_not_called_nor_altered():
    """Each of these ended the process, or changed every array of the program."""
    objects = np.array([None, 'x'], object)
    for protocol in PROTOCOLS:
        refused(pickle.dumps(objects, protocol), 'no number')
    refused(b'\x80\x02cnumpy\nndarray\nK\x01\x85cnumpy\ndtype\nU\x01O\x85R\x86R.', 'no number')
    refused(b'\x80\x02cnumpy\nndarray\n(K\x01\x85cnumpy\ndtype\nU\x01O\x85Rt\x81.', 'no number')
    refused(b'\x80\x02cnumpy\nndarray\n(J\0\0\0\x7f\x85tR.', 'a call of something')
    refused(b'\x80\x02cnumpy\nndarray\n(J\0\0\0\x7f\x85t\x81.', 'an instance of something')
    load(b'\x80\x02cnumpy\ndtype\n(U\x02f8tR(K\x03U\x01>NNNK\0K\0K\0tb0N.')
    assert np.dtype('f8').byteorder == '='


@pytest.mark.parametrize('shape', [(10**9, 10**9), (-1,), (2.0,), (3,), 5, (1,) * 40, (True,) * 2])
def test_shapes_that_do_not_fit_the_bytes(shape):
    head = b'\x80\x04cnumpy.core.multiarray\n_reconstruct\n)R(K\x01'
    dtype = b'cnumpy\ndtype\n\x8c\x02u1\x85R(K\x03\x8c\x01|NNNK\0K\0K\0tb'
    numbers = pickle.dumps(shape, 2)[2:-1]
    fitting = head + b'K\x02\x85' + dtype + b'\x89C\x02ab' + b'tb.'
    np.testing.assert_array_equal(load(fitting), [97, 98])
    refused(head + numbers + dtype + b'\x89C\x02ab' + b'tb.', 'shape|array .* of 2 bytes')


@pytest.mark.parametrize(
    'content, reason',
    [
        (b'}r\xff\xff\xff\x7f.', 'memo slot'),  # took 8.4 GB
        (b'}p2147483647\n.', 'memo slot'),
        (b'}p-1\n.', 'memo slot'),
        (b'\x8e' + struct.pack('<Q', 2**33) + b'.', 'too much memory'),
        (b'\x8d' + struct.pack('<Q', 2**62) + b'.', 'too much memory'),
        (b'\x96' + struct.pack('<Q', 2**40) + b'.', 'too much memory'),
        (b'B\xff\xff\xff\xff.', 'too much memory'),
        (b'T' + struct.pack('<i', -5) + b'.', 'too early'),
        (b'\x8b' + struct.pack('<i', 2**31 - 1) + b'.', 'too much memory'),
        (b'L' + b'9' * 100_000 + b'L\n.', 'digits'),
        (b'I' + b'9' * 100_000 + b'\n.', 'digits'),
        (b'c__builtin__\nbytes\nJ\0\0\0\x7f\x85R.', 'bytes of something else'),
        (b'c__builtin__\nbytearray\nJ\0\0\0\x7f\x85R.', 'bytes of something else'),
        (b'\x80\x09N.', 'protocol 9'),
        (b'\x82\x01.', 'an instruction'),
        (b'\x97.', 'an instruction'),
        (b'', 'too early'),
        (b'.', 'pop from empty list'),
        (b'0.', 'too few values'),
        (b'h\0.', '0'),
        (b'N', 'too early'),
        (b'Ptext\n.', 'an instruction'),
    ],
)
def test_small_files_that_ask_for_much(content, reason):
    refused(content, reason)


def test_a_key_of_nested_tuples_is_not_hashed():
    """Thirty levels of one tuple twice: the hash never ended."""
    refused(b'}N' + b'2\x86' * 60 + b'Ns.', 'neither text nor number')
    refused(b'\x8f(N' + b'2\x86' * 60 + b'\x90.', 'neither text nor number')
    pairs = b']N' + b'2\x86' * 60 + b'N\x86a'
    refused(b'ccollections\nOrderedDict\n' + pairs + b'\x85R.', 'neither text nor number')
    refused(pickle.dumps({(2**61 - 1) * k: None for k in range(9)}, 2), 'neither text nor number')


@pytest.mark.parametrize(
    'content',
    [
        b']' * 10**6 + b'.',
        b'}' * 10**6 + b'.',
        b'\x8f' * 10**6 + b'.',
        b'(' * 10**6 + b'.',
        b'N' + b'\x94' * 10**6 + b'.',
        b'X\x10\x27\0\0' + b'a' * 10**4 + b'q\0' + b'c_codecs\nencode\nh\0\x85R0' * 10**5 + b'.',
        b'(' + b'K\x01' * 10**5 + b'lq\0' + b'ccollections\nOrderedDict\nh\0\x85R0' * 10**4 + b'.',
        b'V' + b'a' * 10**6 + b'\\U0001f600\n.',
    ],
    ids=['lists', 'dicts', 'sets', 'marks', 'memo', 'bytes', 'pairs', 'wide text'],
)
def test_memory_and_work_are_bounded(content):
    refused(content, 'too much memory')


def test_only_what_is_admitted():
    for place in (b'os\nsystem\n', b'builtins\neval\n', b'numpy\nload\n', b'copyreg\n_rebuild\n'):
        with pytest.raises(NotAdmitted):
            load(b'c' + place + b'.')


def test_every_truncation_and_bit_flip_is_read_or_refused():
    value = {'data': np.arange(12, dtype='u1').reshape(3, 4), 'labels': [1, 2], 'x': b'ab'}
    for protocol in PROTOCOLS:
        content = pickle.dumps(value, protocol)
        for length in range(len(content)):
            with pytest.raises((UnpicklingError, LookupError, ValueError, TypeError)):
                load(content[:length])
        for position in range(0, 8 * len(content), 3):
            damaged = bytearray(content)
            damaged[position // 8] ^= 1 << position % 8
            try:
                load(bytes(damaged))
            except (UnpicklingError, LookupError, ValueError, TypeError, AttributeError):
                continue
