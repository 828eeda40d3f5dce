"""Arrays in files: what was written comes back, and nothing else does."""

import io
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from engine import arrays
from engine.arrays import Array
from engine.errors import UsageError

VALUES = {
    'a': np.arange(6, dtype=np.int32).reshape(2, 3),
    'b/c': np.array(0.5),
    'names': np.array(['s28', 's20-ä']),
    'flags': np.array([True, False]),
    'empty': np.zeros([0, 4], np.float32),
    'columns': np.asfortranarray(np.arange(6.0).reshape(2, 3)),
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'x.npz'


def refused(path, wanted=None) -> str:
    with pytest.raises(UsageError) as caught:
        arrays.read(path, wanted, 'make it again')
    message = str(caught.value)
    assert message.startswith(f'{path}: ') and message.endswith('; make it again')
    return message


@pytest.mark.parametrize('compressed', [False, True])
def test_what_is_written_is_read(compressed, path):
    arrays.write(path, VALUES, compressed=compressed)
    found = arrays.read(path, None, '')
    assert list(found) == list(VALUES)
    for name, value in VALUES.items():
        assert found[name].dtype == value.dtype
        np.testing.assert_array_equal(found[name], value)
        found[name][...] = value  # it can be written


def archive(path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, 'w') as file:
        for name, content in members.items():
            file.writestr(name, content)


def member(shape: str, content: bytes = bytes(24), descr: str = "'<f4'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b'\x93NUMPY\x01\x00' + struct.pack('<H', len(text)) + text + content


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (member('(5,)'), 'holds 24 bytes for float32 [5]'),
        (member('(7,)'), 'holds 24 bytes for float32 [7]'),
        (member('(1000000000000,)'), 'holds 24 bytes'),
        (member('(-2, -3)'), 'holds 24 bytes'),
        (member('(3,)', descr="'|O'"), 'holds Python objects'),
        (member('(' * 300), ''),
        (member('3'), ''),
        (b'', ''),
        (b'\x93NUMPY\x01', ''),
    ],
)
def test_what_is_no_array(content, message, path):
    archive(path, {'a.npy': content})
    tracemalloc.start()
    assert f'damaged ({message}' in refused(path).replace('a: ', '')
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5e6


def test_members_that_are_none(path):
    archive(path, {'a.txt': b'x'})
    assert 'a.txt: is there twice or no array' in refused(path)
    with pytest.warns(UserWarning), zipfile.ZipFile(path, 'w') as file:
        file.writestr('a.npy', member('(6,)'))
        file.writestr('a.npy', member('(6,)'))
    assert 'is there twice' in refused(path)


def test_a_file_that_would_fill_the_memory(path, monkeypatch):
    monkeypatch.setattr(arrays, '_SMALL', 2**20)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w', zipfile.ZIP_DEFLATED) as file:
        file.writestr('a.npy', member('(300000,)', bytes(1_200_000)))
    path.write_bytes(buffer.getvalue())
    assert 'larger than they can be' in refused(path)


def test_reading_takes_as_much_memory_as_the_file(path):
    arrays.write(path, {'a': np.zeros(2_500_000)})
    tracemalloc.start()
    arrays.read(path, None, '')
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * 2e7


@pytest.mark.parametrize(
    ('wanted', 'message'),
    [
        ({'z': Array('f')}, 'z: is missing'),
        ({'a': Array('f')}, 'a: int32 [2, 3], a type of kind f expected'),
        ({'a': Array('iu', 1)}, 'a: int32 [2, 3], 1 dimensions expected'),
        ({'a': Array('iu', low=1)}, 'a: values of at least 1 expected'),
    ],
)
def test_what_is_wanted(wanted, message, path):
    arrays.write(path, VALUES)
    assert f'damaged ({message}' in refused(path, wanted)


def test_what_need_not_be_there(path):
    arrays.write(path, VALUES)
    wanted = {'a': Array('iu', 2, low=0), 'z': Array('f', needed=False), 'empty': Array('f', low=1)}
    assert set(arrays.read(path, wanted, '')) == set(VALUES)


def test_no_file(tmp_path):
    assert 'cannot be read' in refused(tmp_path / 'nothing.npz')
    assert 'cannot be read' in refused(tmp_path)
