"""Packs: whatever is damaged in the tail or the index, nothing is read; sizes of a packed set."""

import os
import struct

import numpy as np
import pytest

from engine.config.resolve import resolve
from engine.data import folder
from engine.data.datasets import open_dataset
from engine.data.packed import MAGIC, TAIL, File, Pack, recover, unfinished, write
from engine.errors import UsageError
from tests.engine.data.ilsvrc import make_tree

FILES = [File(f'train/a/{k}.png', k, np.arange(5 + k, dtype=np.uint8)) for k in range(4)]


@pytest.fixture
def pack(tmp_path):
    path = tmp_path / 'train.pack'
    write(path, [], FILES, classes=['a', 'b', 'c', 'd'])
    return path


def test_a_pack_holds_what_was_written(pack):
    found = Pack(pack)
    assert (len(found), found.classes) == (4, ('a', 'b', 'c', 'd'))
    for i, file in enumerate(FILES):
        assert (found.names[i], found.labels[i]) == (file.name, file.label)
        np.testing.assert_array_equal(found.read(i), file.content)
    assert not unfinished(pack).exists()


def tail(content, *, start=0, length=0, magic=MAGIC):
    """The content with these differences in its tail."""
    body, place = content[: -TAIL.size], TAIL.unpack(content[-TAIL.size :])
    return body + TAIL.pack(place[0] + start, place[1] + length, magic)


DAMAGE = {
    'other magic': lambda content: tail(content, magic=b'SWPACK2\n'),
    'start too late': lambda content: tail(content, start=1),
    'start too early': lambda content: tail(content, start=-1),
    'index too long': lambda content: tail(content, length=1),
    'index too short': lambda content: tail(content, length=-1),
    # Both numbers are wrong, and their sum is right.
    'index elsewhere': lambda content: tail(content, start=40, length=-40),
    'bytes before the tail': lambda content: (
        content[: -TAIL.size] + b'\0' * 8 + content[-TAIL.size :]
    ),
    'bytes behind the tail': lambda content: content + b'\0',
    'tail cut off': lambda content: content[: -TAIL.size],
    'half a tail': lambda content: content[: -TAIL.size // 2],
    'only a tail': lambda content: content[-TAIL.size :],
    'shorter than a tail': lambda content: content[-TAIL.size + 1 :],
}


@pytest.mark.parametrize('kind', DAMAGE)
def test_a_damaged_tail(pack, kind):
    pack.write_bytes(DAMAGE[kind](pack.read_bytes()))
    with pytest.raises(UsageError, match=f'^{pack}: is no complete pack .*scripts.pack_data$'):
        Pack(pack)


@pytest.mark.parametrize('lacking', ['offset', 'length', 'crc', 'label', 'name', 'classes'])
def test_an_index_without_a_part(pack, lacking, monkeypatch):
    savez = np.savez
    monkeypatch.setattr(
        np, 'savez', lambda file, **arrays: arrays.pop(lacking) is None or savez(file, **arrays)
    )
    write(pack, [], FILES, classes=['a', 'b', 'c', 'd'])
    with pytest.raises(UsageError, match=f'^{pack}: is no complete pack .*{lacking}'):
        Pack(pack)


@pytest.mark.parametrize('place', range(4))
def test_recovery_stops_at_the_first_difference(pack, place):
    found, content = Pack(pack), bytearray(pack.read_bytes())
    content[int(found._offset[place])] ^= 1
    unfinished(pack).write_bytes(content)
    entries = recover(unfinished(pack))
    assert [os.fsdecode(entry.name) for entry in entries] == [f.name for f in FILES[:place]]


def test_recovery_of_what_is_no_pack(tmp_path):
    assert recover(tmp_path / 'nothing') == []
    (tmp_path / 'other').write_bytes(b'x' * 100)
    assert recover(tmp_path / 'other') == []
    # A header that promises more than there is.
    (tmp_path / 'long').write_bytes(MAGIC + struct.pack('<IIIH', 0, 0, 2**31, 3) + b'abc')
    assert recover(tmp_path / 'long') == []


@pytest.fixture
def packed_set(tmp_path):
    """A folder of three classes, and the same packed."""
    from scripts import pack_data

    make_tree(tmp_path / 'set', train=2)
    assert pack_data.main([str(tmp_path / 'set'), str(tmp_path / 'packed')]) == 0
    return tmp_path


def test_a_packed_set_has_the_sizes_of_a_folder(packed_set):
    """The crop is that of the images unless a flag or the largest input size says otherwise."""
    for name in ('set', 'packed'):
        given = {'data': str(packed_set / name), 'batch_size': 2}
        assert open_dataset(given['data']).spec.name == folder.FOLDER.name
        for flags, edge in (
            ({}, 120),
            ({'sizes': (64, 32)}, 64),
            ({'sizes': (256,)}, 256),
            ({'sizes': (64, 32), 'image_size': 72}, 72),
        ):
            config, dataset, _ = resolve({**given, **flags})
            assert config.image_size == edge
            (view,) = config.preprocessing.eval_views(dataset.val.read(0))
            assert view.shape == (edge, edge, 3)
