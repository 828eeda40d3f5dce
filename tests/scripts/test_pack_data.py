"""Packed copies: the same images, batches and names as the folder; interruption and damage."""

import os
from itertools import islice

import numpy as np
import pytest

from engine.data import packed
from engine.data.batches import TrainFlow
from engine.data.datasets import open_dataset
from engine.data.identity import Identity
from engine.data.opencv import cv2
from engine.data.preprocessing import Preprocessing
from engine.data.shrink import Shrink
from engine.data.sources import BadImage, decode
from engine.data.split import Split
from engine.errors import UsageError
from scripts import check_data, pack_data
from tests.engine.data.ilsvrc import BAD, GOOD, make_tree
from tests.engine.data.layouts import makers

PREPROCESSING = Preprocessing('area_crop', 32, (32,), 'nearest', 'normalized_bgr')
FLOW = {'batch_size': 5, 'seed': 1, 'max_bad': 0.1}


@pytest.fixture
def tree(tmp_path):
    make_tree(
        tmp_path / 'set',
        train=8,
        odd={**GOOD, 'truncated': BAD['truncated'], 'empty': BAD['empty']},
    )
    return tmp_path / 'set'


@pytest.fixture
def pack(tmp_path, tree, capsys):
    """``pack(*flags)``: exit status, standard output and error of packing into tmp_path/packed."""

    def run(*flags):
        code = pack_data.main([str(tree), str(tmp_path / 'packed'), '--threads', '2', *flags])
        return code, *capsys.readouterr()

    return run


def assert_same_source(got, expected):
    assert [got.name(i) for i in range(len(got))] == [
        expected.name(i) for i in range(len(expected))
    ]
    np.testing.assert_array_equal(got.labels, expected.labels)
    for i in range(len(expected)):
        np.testing.assert_array_equal(got.encoded(i), expected.encoded(i))


def test_packed_set_is_the_folder(tmp_path, tree, pack):
    code, out, _ = pack()
    assert (code, out) == (
        0,
        f'{tmp_path}/packed: 24 training and 6 validation images; use --data {tmp_path}/packed\n',
    )
    folder, copy = open_dataset(str(tree), size=32), open_dataset(str(tmp_path / 'packed'), size=32)
    assert (copy.name, copy.classes, copy.spec) == ('packed', folder.classes, folder.spec)
    assert_same_source(copy.train, folder.train)
    assert_same_source(copy.val, folder.val)
    first, second = (
        list(islice(TrainFlow(data, PREPROCESSING, **FLOW, threads=threads), 6))
        for data, threads in ((folder, 0), (copy, 3))
    )
    for expected, got in zip(first, second):
        for array, other in zip(expected, got, strict=True):
            np.testing.assert_array_equal(array, other)
    assert sorted(os.listdir(tmp_path / 'packed')) == ['train.pack', 'val.pack']
    before = (tmp_path / 'packed' / 'train.pack').stat().st_mtime_ns
    code, out, _ = pack()
    assert code == 0 and (tmp_path / 'packed' / 'train.pack').stat().st_mtime_ns == before
    assert f'{tmp_path}/packed/train.pack was there, and its images have not been read again' in out


def test_smaller_files(tmp_path, pack):
    """120 x 160 pixels become 60 x 80 by mean over areas, and are JPEG files of that quality."""
    code, out, err = pack('--shortest', '60', '--quality', '80')
    # What is damaged is not copied unseen.
    assert code == 2 and '--skip-list' in err
    folder = open_dataset(str(tmp_path / 'set'))
    bad = []
    for i, name in enumerate(folder.train.files):
        try:
            folder.train.read(i)
        except BadImage:
            bad.append(name)
    (tmp_path / 'bad.txt').write_text('\n'.join(bad))
    flags = ['--skip-list', str(tmp_path / 'bad.txt')]
    assert pack('--shortest', '60', '--quality', '80', *flags)[0] == 0
    copy = open_dataset(str(tmp_path / 'packed'))
    folder = open_dataset(str(tmp_path / 'set'), skip=flags[1])
    assert [copy.train.name(i) for i in range(len(copy.train))] == [
        folder.train.name(i) for i in range(len(folder.train))
    ]
    for i in (0, 5):
        image = folder.train.read(i)
        means = image.reshape(60, 2, 80, 2, 3).mean((1, 3))
        _, file = cv2.imencode('.jpg', np.rint(means), [cv2.IMWRITE_JPEG_QUALITY, 80])
        wanted = cv2.imdecode(file, cv2.IMREAD_COLOR).astype(float)
        small = copy.train.read(i)
        # Means are rounded otherwise, by one unit, before they are compressed.
        assert small.shape == (60, 80, 3) and np.abs(small - wanted).mean() < 1.2
    for other in (['--shortest', '60', '--quality', '81'], ['--shortest', '61'], []):
        code, _, err = pack(*other, *flags)
        assert code == 2 and 'with another --shortest or --quality' in err


@pytest.mark.parametrize(
    'flags, message',
    [
        (['--quality', '90'], '--quality 90: needs --shortest'),
        (['--shortest', '0'], '--shortest 0: must be at least 1'),
        (['--shortest', '9', '--quality', '101'], '--quality 101: must be 1 to 100'),
        (['--val-split', '1'], '--val-split 1: must be at least 0 and below 1'),
    ],
)
def test_wrong_flags(pack, flags, message):
    code, _, err = pack(*flags)
    assert code == 2 and message in err


def test_a_jpeg_that_is_small_already_is_copied():
    shrink = Shrink(100, 50)
    image = np.full((90, 200, 3), 77, np.uint8)
    for suffix, same in (('.jpg', True), ('.png', False)):
        encoded = cv2.imencode(suffix, image)[1].reshape(-1)
        found = shrink(encoded, 'a')
        assert np.array_equal(found, encoded) == same
        assert decode(found, 'a').shape == image.shape


def test_what_no_jpeg_can_hold_is_named():
    encoded = cv2.imencode('.png', np.zeros((3, 66_000, 3), np.uint8))[1].reshape(-1)
    with pytest.raises(BadImage, match='a.png: 66000 x 3 pixels, too long for JPEG'):
        Shrink(3, 90)(encoded, 'a.png')


def test_a_folder_of_classes_is_packed_divided(tmp_path, capsys):
    makers.one_folder(tmp_path / 'set')
    flags = ['--val-split', '0.34', '--split-seed', '3']
    assert pack_data.main([str(tmp_path / 'set'), str(tmp_path / 'packed'), *flags]) == 0
    copy = open_dataset(str(tmp_path / 'packed'))
    folder = open_dataset(str(tmp_path / 'set'), split=Split(0.34, 3))
    assert_same_source(copy.val, folder.val)
    assert Identity(copy).val == Identity(folder).val


def test_skipped_images_stay_out_and_packs_can_be_scanned(tmp_path, tree, pack, capsys):
    check_data.main([str(tree), '--out', str(tmp_path / 'bad.txt')])
    assert pack()[0] == 0
    capsys.readouterr()
    assert check_data.main([str(tmp_path / 'packed'), '--out', str(tmp_path / 'again.txt')]) == 1
    assert (tmp_path / 'again.txt').read_text() == (tmp_path / 'bad.txt').read_text()
    part = open_dataset(str(tmp_path / 'packed'), skip=str(tmp_path / 'bad.txt'))
    assert len(part.train) == 22
    code, _, err = pack('--skip-list', str(tmp_path / 'bad.txt'))
    assert (
        code == 2 and 'train.pack: was made from other images or labels, or with another --' in err
    )
    for name in ('train.pack', 'val.pack'):
        (tmp_path / 'packed' / name).unlink()
    assert pack('--skip-list', str(tmp_path / 'bad.txt'))[0] == 0
    rest = open_dataset(str(tmp_path / 'packed')).train
    assert [rest.name(i) for i in range(22)] == [part.train.name(i) for i in range(22)]
    assert {rest.read(i).shape for i in range(22)} == {(120, 160, 3)}
    # The same list with the pack that was made with it, as a command that goes on gives it.
    again = open_dataset(str(tmp_path / 'packed'), skip=str(tmp_path / 'bad.txt')).train
    assert [again.name(i) for i in range(22)] == [part.train.name(i) for i in range(22)]
    (tmp_path / 'bad.txt').write_text('train/typing-error.JPEG')
    with pytest.raises(UsageError, match='typing-error.JPEG is no image of --data packed'):
        open_dataset(str(tmp_path / 'packed'), skip=str(tmp_path / 'bad.txt'))


def test_a_list_with_an_earlier_pack_is_taken_as_it_is(tmp_path, pack, monkeypatch):
    """It does not say what it was made without."""
    savez = np.savez
    monkeypatch.setattr(
        np, 'savez', lambda file, **arrays: arrays.pop('skipped') is None or savez(file, **arrays)
    )
    assert pack()[0] == 0
    (tmp_path / 'bad.txt').write_text('train/n01440764/left-out.JPEG')
    found = open_dataset(str(tmp_path / 'packed'), skip=str(tmp_path / 'bad.txt'))
    assert len(found.train) == 24


@pytest.mark.parametrize('cut', [1, 2, 9, 14, 500, 30_000])
def test_interrupted_packing_goes_on(tmp_path, pack, cut):
    """Whatever the last bytes of an unfinished pack are, the result is that of an uninterrupted
    run.
    """
    pack()
    path = tmp_path / 'packed' / 'train.pack'
    whole = path.read_bytes()
    found = packed.Pack(path)
    end = int(found._offset[-1] + found._length[-1])
    path.unlink()
    packed.unfinished(path).write_bytes(whole[: end - cut])
    assert pack()[0] == 0
    assert path.read_bytes() == whole
    path.unlink()
    packed.unfinished(path).write_bytes(
        whole[: end - cut] + bytes(cut)
    )  # blocks that never reached the disk
    assert pack()[0] == 0
    assert path.read_bytes() == whole


def test_interruption_keeps_what_was_written(tmp_path, pack, monkeypatch):
    read, seen = pack_data.FileSource._bytes, []

    def stopping(self, i):
        seen.append(i)
        if len(seen) == 10:
            raise KeyboardInterrupt
        return read(self, i)

    monkeypatch.setattr(pack_data.FileSource, '_bytes', stopping)
    assert pack('--threads', '0')[0] == 130
    path = tmp_path / 'packed' / 'train.pack'
    assert len(packed.recover(packed.unfinished(path))) == 9 and not path.exists()
    assert pack('--threads', '0')[0] == 0
    assert len(seen) == 30 + 1


def test_damage_is_found(tmp_path, pack, capsys):
    pack()
    assert pack_data.main(['--check', str(tmp_path / 'packed')]) == 0
    path = tmp_path / 'packed' / 'train.pack'
    found, content = packed.Pack(path), bytearray(path.read_bytes())
    for i in (3, 17):
        content[int(found._offset[i]) + 40] ^= 1
    path.write_bytes(content)
    capsys.readouterr()
    assert pack_data.main(['--check', str(tmp_path / 'packed')]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out == [f'{found.names[i]}: differs from its checksum' for i in (3, 17)] + [
        f'{tmp_path}/packed: 2 bad'
    ]
    source = open_dataset(str(tmp_path / 'packed')).train
    assert source.encoded(4).size
    with pytest.raises(
        BadImage, match=f'cannot read {found.names[3]}: .*differs from its checksum'
    ):
        source.read(3)


def test_a_hole_in_an_unfinished_pack_is_filled(tmp_path, pack):
    pack()
    path = tmp_path / 'packed' / 'train.pack'
    found, whole = packed.Pack(path), path.read_bytes()
    path.unlink()
    content, hole = bytearray(whole[: int(found._offset[-1])]), int(found._offset[6]) + 100
    content[hole : hole + 300] = bytes(300)
    packed.unfinished(path).write_bytes(content)
    assert len(packed.recover(packed.unfinished(path))) == 6
    assert pack()[0] == 0 and path.read_bytes() == whole


def test_a_pack_with_other_labels_is_refused(tmp_path, tree, pack):
    labels = next(tree.rglob('val.txt'))
    assert pack()[0] == 0
    lines = labels.read_text().splitlines()
    (name, label), other = lines[0].split(), lines[1].split()[1]
    assert label != other
    labels.write_text('\n'.join([f'{name} {other}', *lines[1:]]))
    code, _, err = pack()
    assert code == 2 and 'val.pack: was made from other images or labels, or with another --' in err


@pytest.mark.parametrize('content', [None, b'', b'x' * 100, 'cut'])
def test_incomplete_packs_are_refused(tmp_path, pack, content):
    pack()
    path = tmp_path / 'packed' / 'val.pack'
    whole = path.read_bytes()
    path.unlink()
    if content is not None:
        path.write_bytes(whole[:-30] if content == 'cut' else content)
    with pytest.raises(UsageError, match=f'{path}: is no complete pack'):
        open_dataset(str(tmp_path / 'packed'))


def test_refusals(tmp_path, tree, pack, capsys):
    pack()
    for args, message in (
        ([str(tree)], 'OUT is missing'),
        (['animals28', str(tmp_path)], 'animals28: is no folder of'),
        ([str(tmp_path / 'packed'), str(tmp_path)], 'packed: is no folder of image files'),
        ([str(tree), str(tree)], f'OUT {tree}: is the folder itself'),
        (['--check', str(tree)], 'train.pack: is no complete pack'),
        (['--check', str(tree), str(tmp_path)], '--check: give only the packed folder'),
        ([str(tree), str(tmp_path / 'x'), '--threads', '-1'], '--threads -1: must be at least 0'),
    ):
        assert pack_data.main(args) == 2
        assert message in capsys.readouterr().err
    (tree / 'train' / 'n01440764' / 'a.JPEG').write_bytes(b'')
    code, _, err = pack()
    assert code == 2 and 'was made from other images' in err
