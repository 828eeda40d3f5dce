"""What `--data` names: contents, label order and every refusal."""

import io
import os
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from engine.data import folder, sources
from engine.data.animals28 import EMBEDDED
from engine.data.datasets import open_dataset
from engine.data.layouts.layout import SUFFIXES
from engine.data.sources import BadImage, decode
from engine.errors import UsageError
from scripts.bench.image_files import picture
from tests.engine.data.ilsvrc import BAD, GOOD, make_tree, png16

SYNSETS = ('n01440764', 'n01443537', 'n02085620')


def write_image(path: Path, *, height: int = 40, width: int = 60, value: int = 0) -> np.ndarray:
    """Write a picture whose blue channel is `value`; returns uint8 [height, width, 3], BGR."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0], image[..., 2] = value, np.linspace(0, 255, width).astype(np.uint8)
    assert cv2.imwrite(str(path), image)
    return image


def make_folder(root: Path, *, flat: bool = False) -> Path:
    """Three classes with 2, 3 and 4 training images and 2 validation images each."""
    for k, synset in enumerate(SYNSETS):
        for i in range(k + 2):
            write_image(root / 'train' / synset / f'{synset}_{i}.JPEG', height=30 + 10 * i, value=k)
        for i in range(2):
            name = f'ILSVRC2012_val_{2 * i + 5 * k:08}.JPEG'
            write_image(root / 'val' / ('.' if flat else synset) / name, value=k)
    return root


def val_names(root: Path) -> list[str]:
    return sorted(path.name for path in (root / 'val').iterdir())


def refusal(data: str | Path) -> str:
    with pytest.raises(UsageError) as caught:
        open_dataset(str(data))
    return str(caught.value)


def test_animals28_is_the_embedded_split():
    dataset = open_dataset('animals28')
    with np.load(EMBEDDED) as arrays:
        image, label, test = arrays['image'], arrays['label'], arrays['test']
    assert (len(dataset.train), len(dataset.val)) == (8000, 2000)
    assert (dataset.spec.image_size, dataset.spec.augmentation) == (28, 'shift')
    assert dataset.classes[0] == 'bear' and len(dataset.classes) == 10
    assert dataset.train.labels.dtype == np.int64
    np.testing.assert_array_equal(dataset.val.labels, label[test])
    np.testing.assert_array_equal(np.bincount(dataset.val.labels), np.full(10, 200))
    np.testing.assert_array_equal(
        dataset.train.read(7), np.repeat(image[~test][7][..., None], 3, axis=2)
    )
    assert EMBEDDED.with_suffix('.LICENSE').read_text().startswith('MIT License')


def test_fake_is_the_same_in_every_process():
    dataset, again = open_dataset('fake', size=12), open_dataset('fake', size=12)
    assert (len(dataset.train), len(dataset.val), len(dataset.classes)) == (256, 64, 1000)
    expected = np.random.default_rng([0, 5]).integers(256, size=(12, 12, 3), dtype=np.uint8)
    np.testing.assert_array_equal(dataset.train.read(5), expected)
    np.testing.assert_array_equal(dataset.train.labels, again.train.labels)
    assert not np.array_equal(dataset.train.read(5), dataset.val.read(5))
    assert dataset.train.labels.min() >= 0 and dataset.train.labels.max() < 1000
    assert open_dataset('fake').train.read(0).shape == (224, 224, 3)


def test_folder_with_class_folders(tmp_path):
    dataset = open_dataset(str(make_folder(tmp_path / 'small')))
    assert (dataset.name, dataset.classes, dataset.spec.name) == ('small', SYNSETS, 'folder')
    # Shortest edges of 30 to 60 pixels, of which 40 is the median.
    assert (dataset.spec.image_size, dataset.spec.augmentation) == (40, 'shift')
    np.testing.assert_array_equal(dataset.train.labels, [0, 0, 1, 1, 1, 2, 2, 2, 2])
    np.testing.assert_array_equal(dataset.val.labels, [0, 0, 1, 1, 2, 2])
    assert [dataset.train.read(i).shape for i in (2, 3, 4)] == [
        (30, 60, 3),
        (40, 60, 3),
        (50, 60, 3),
    ]


def test_order_is_sorted_whatever_the_disk_says(tmp_path, monkeypatch):
    expected = open_dataset(str(make_folder(tmp_path)))
    listdir = os.listdir
    monkeypatch.setattr(os, 'listdir', lambda *args: sorted(listdir(*args), reverse=True))
    dataset = open_dataset(str(tmp_path))
    assert dataset.classes == SYNSETS
    assert (dataset.train.files, dataset.val.files) == (expected.train.files, expected.val.files)


def test_sizes_are_positive():
    with pytest.raises(UsageError, match='size is 0, expected at least 1'):
        open_dataset('animals28', size=0)


@pytest.mark.parametrize('suffix', [*sorted({*SUFFIXES} - {'.gif'}), '.JPEG', '.Png'])
def test_formats(tmp_path, suffix):
    make_folder(tmp_path)
    image = write_image(tmp_path / 'train' / SYNSETS[0] / f'a{suffix}', value=128)
    dataset = open_dataset(str(tmp_path))
    number = [Path(file).name for file in dataset.train.files].index(f'a{suffix}')
    assert dataset.train.labels[number] == 0
    if suffix.lower() in ('.png', '.bmp', '.tif', '.tiff'):
        np.testing.assert_array_equal(dataset.train.read(number), image)
    else:
        assert np.abs(dataset.train.read(number).astype(int) - image).mean() < 8


def oracle(encoded: bytes, kind: str) -> np.ndarray:
    """What Pillow makes of a file, uint8 [h, w, 3], BGR; it cannot convert grey of 16 bits."""
    image = Image.open(io.BytesIO(encoded))
    grey = np.asarray(image) // 256 if kind == 'png16' else None
    return (
        np.repeat(grey[..., None], 3, 2)
        if grey is not None
        else np.asarray(image.convert('RGB'))[..., ::-1]
    )


def shot(*, seed: int = 0) -> Image.Image:
    return Image.fromarray(picture(np.random.default_rng(seed), 120, 161))


@pytest.mark.parametrize('kind', [*GOOD, 'png16'])
@pytest.mark.parametrize('seed', [0, 1])
def test_odd_files_look_as_in_pillow(kind, seed):
    encoded = {**GOOD, 'png16': png16}[kind](shot(seed=seed))
    image = decode(np.frombuffer(encoded, np.uint8), kind)
    assert (image.shape, image.dtype) == ((120, 161, 3), np.uint8)
    assert np.abs(image.astype(int) - oracle(encoded, kind)).mean() <= (
        1 if kind in ('cmyk', 'ycck') else 0
    )


@pytest.mark.parametrize('form', ['GIF', 'TIFF', 'WEBP'])
@pytest.mark.parametrize('mode', ['RGB', 'L'])
def test_further_formats_look_as_in_pillow(form, mode):
    stream = io.BytesIO()
    shot().convert(mode).save(stream, form, **({'lossless': True} if form == 'WEBP' else {}))
    encoded = stream.getvalue()
    image = decode(np.frombuffer(encoded, np.uint8), form)
    np.testing.assert_array_equal(image, oracle(encoded, form))
    with pytest.raises(BadImage):
        decode(np.frombuffer(encoded[: len(encoded) // 2], np.uint8), form)


def test_colour_order_and_orientation():
    """Red stays red, whatever the file says about turning it."""
    red = Image.new('RGB', (30, 20), (250, 10, 20))
    for kind in ('rgb', 'cmyk', 'png', 'exif6', 'exif8', 'progressive'):
        image = decode(np.frombuffer(GOOD[kind](red), np.uint8), kind)
        assert image.shape == (20, 30, 3)
        assert np.abs(image.reshape(-1, 3).mean(0) - (20, 10, 250)).max() < 6


@pytest.mark.parametrize('kind', BAD)
def test_bad_files_are_refused(kind):
    with pytest.raises(
        BadImage, match=f'--data: {kind} is (not a complete image|empty); .* --skip-list'
    ):
        decode(np.frombuffer(BAD[kind](shot()), np.uint8), kind)


@pytest.mark.parametrize(
    'place', ['val.txt', 'val_map.txt', 'val_labels.txt', 'meta/val.txt', 'meta/val_labels.txt']
)
@pytest.mark.parametrize('form', ['file index', 'file synset', 'path index', 'index', 'synset'])
def test_flat_val_with_label_list(tmp_path, place, form):
    root = make_folder(tmp_path, flat=True)
    names = val_names(root)
    labels = [int(name[15:23]) // 5 for name in names]
    shown = [SYNSETS[label] if 'synset' in form else str(label) for label in labels]
    prefix = {'f': '', 'p': 'val/'}.get(form[0])
    lines = (
        shown
        if prefix is None
        else [f'{prefix}{name} {label}' for name, label in zip(names, shown)][::-1]
    )
    (root / place).parent.mkdir(exist_ok=True)
    (root / place).write_text('\n'.join(lines) + '\n\n')
    dataset = open_dataset(str(root))
    np.testing.assert_array_equal(dataset.val.labels, labels)
    for i, label in enumerate(labels):
        assert abs(dataset.val.read(i)[..., 0].mean() - label) < 20
    assert [Path(file).name for file in dataset.val.files] == names


@pytest.mark.parametrize(
    'text, message',
    [
        ('0\n1\n', 'val.txt has 2 lines for the 6 images of val/'),
        ('0\n' * 5 + '3\n', 'label 3 is neither a class of train/ nor 0..2'),
        ('0\n' * 5 + 'n999\n', 'label n999 is neither a class of train/ nor 0..2'),
        ('0\n' * 5 + '-1\n', 'label -1 is neither'),
        ('1\n' * 3 + '2\n' * 2 + '3\n', 'labels count from 1 to 3, expected 0..2'),
        (f'{SYNSETS[0]}\n' * 5 + 'n999\n', 'label n999 is neither a class of train/ nor 0..2'),
        (f'{SYNSETS[1]}\n' * 5 + '2\n', f'label {SYNSETS[1]} is a class of train/, others are'),
        (
            'a.JPEG 0\n' * 6,
            'val.txt has no line for these images of val/: ILSVRC2012_val_00000000.JPEG, '
            'ILSVRC2012_val_0',
        ),
    ],
)
def test_bad_label_list(tmp_path, text, message):
    (make_folder(tmp_path, flat=True) / 'val.txt').write_text(text)
    assert message in refusal(tmp_path)


def test_labels_are_all_names_or_all_numbers(tmp_path):
    """Folders that are called like numbers, of which a list can be meant by name or by place."""
    for name in ('1', '2', '3'):
        write_image(tmp_path / 'train' / name / 'a.png')
        write_image(tmp_path / 'val' / f'{name}.png')
    for text, labels in (('1\n2\n3', [0, 1, 2]), ('0\n1\n2', [0, 1, 2]), ('0\n2\n1', [0, 2, 1])):
        (tmp_path / 'val.txt').write_text(text)
        assert open_dataset(str(tmp_path)).val.labels.tolist() == labels


def test_a_label_list_of_other_images(tmp_path):
    root = make_folder(tmp_path, flat=True)
    lines = [f'{path.name} 0\n' for path in (root / 'val').iterdir()]
    (root / 'val.txt').write_text(''.join([*lines, *(f'x{i:02}.JPEG 0\n' for i in range(24))]))
    assert re.search(
        'val.txt lists images that val/ lacks: x00.JPEG, x01.JPEG, .*x19.JPEG and 4 more$',
        refusal(root),
    )
    (root / 'val.txt').write_text(''.join([*lines, lines[0]]))
    assert 'val.txt has 7 lines for the 6 images of val/' in refusal(root)


def test_unknown_name_lists_the_choices(tmp_path):
    for data in ('imagenet', str(tmp_path / 'nowhere'), 'cifar10', 'cifar10:'):
        message = refusal(data)
        assert f'--data {data}: no such name and no such folder or file' in message
        assert message.endswith(folder.HELP)


def test_incomplete_folders(tmp_path):
    assert '; found nothing, looked for ' in refusal(tmp_path)
    (tmp_path / 'train' / '.hidden').mkdir(parents=True)
    assert '; found 1 folder (train/), in train/ nothing, looked for ' in refusal(tmp_path)
    write_image(tmp_path / 'train' / 'cat' / 'a.png')
    assert 'no validation images (looked for val, validation, valid, test)' in refusal(tmp_path)
    (tmp_path / 'val').mkdir()
    assert 'val holds no images' in refusal(tmp_path)


def test_empty_classes_are_named(tmp_path):
    root = make_folder(tmp_path)
    (root / 'val' / 'n09').mkdir()
    assert 'val/n09 is no class: there is no train/n09' in refusal(root)
    (root / 'train' / 'n09').mkdir()
    (root / 'train' / 'n09' / 'readme.txt').write_text('no image')
    (root / 'train' / 'n10').mkdir()
    (root / 'val' / 'n10').mkdir()
    assert (
        f'{root}/train: these classes hold no images ({" ".join(SUFFIXES)}): n09, n10'
        in refusal(root)
    )
    for name in ('n09', 'n10'):
        write_image(root / 'train' / name / 'a.png')
    assert f'{root}/val: these classes hold no images ({" ".join(SUFFIXES)}): n09, n10' in refusal(
        root
    )


def test_classes_without_validation_images_are_named(tmp_path):
    root = make_folder(tmp_path)
    for name in SYNSETS[:2]:
        shutil.rmtree(root / 'val' / name)
    assert f'{root}/val lacks the folders of these classes: {SYNSETS[0]}, {SYNSETS[1]}' in refusal(
        root
    )


def test_half_sorted_validation_images_are_refused(tmp_path):
    root = make_folder(tmp_path)
    write_image(root / 'val' / 'left.png')
    assert (
        f'{root}/val holds class folders and beside them 1 image; put images into their '
        'classes: left.png' in (refusal(root))
    )


@pytest.mark.skipif(
    not Path('/proc/self/mem').exists(), reason='needs a file that opens and cannot be read'
)
def test_a_failing_disk_is_an_error_and_no_picture(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, 'PAUSES', ())
    path = make_folder(tmp_path) / 'train' / SYNSETS[0] / f'{SYNSETS[0]}_0.JPEG'
    path.unlink()
    path.symlink_to('/proc/self/mem')
    with pytest.raises(
        BadImage, match=f'cannot read train/{SYNSETS[0]}/{path.name}: .*Input/output error'
    ):
        open_dataset(str(tmp_path)).train.read(0)


@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16'])
def test_a_label_list_of_another_system(encoding, tmp_path):
    root = make_folder(tmp_path, flat=True)
    lines = [f'{name} {SYNSETS[int(name[15:23]) // 5]}' for name in val_names(root)]
    (root / 'val.txt').write_text('\n'.join(lines))
    expected = open_dataset(str(root)).val.labels
    (root / 'val.txt').write_bytes('\r\n'.join([*lines, '']).encode(encoding))
    np.testing.assert_array_equal(open_dataset(str(root)).val.labels, expected)


def test_flat_val_without_label_list(tmp_path):
    message = refusal(make_folder(tmp_path, flat=True))
    assert (
        'val.txt, val_map.txt, val_labels.txt, meta/val.txt, meta/val_map.txt, meta/val_labels.txt'
        in message
    )


def test_missing_file_is_named(tmp_path):
    path = make_folder(tmp_path) / 'train' / SYNSETS[0] / f'{SYNSETS[0]}_0.JPEG'
    source = open_dataset(str(tmp_path)).train
    path.unlink()
    with pytest.raises(BadImage, match=f'cannot read train/{SYNSETS[0]}/{path.name}'):
        source.read(0)


@pytest.mark.parametrize(
    ('newline', 'encoding'), [('\n', 'utf-8'), ('\r\n', 'utf-8-sig'), ('\r\n', 'utf-16')]
)
def test_skip_list(newline, encoding, tmp_path):
    kinds = make_tree(tmp_path / 'set', train=3)
    whole = open_dataset(str(tmp_path / 'set'))
    gone = [whole.train.name(4), whole.val.name(1)]
    assert set(gone) < set(kinds)
    lines = [gone[0], '# truncated', '', gone[1], '']
    (tmp_path / 'bad.txt').write_bytes(newline.join(lines).encode(encoding))
    part = open_dataset(str(tmp_path / 'set'), skip=str(tmp_path / 'bad.txt'))
    assert (len(part.train), len(part.val)) == (8, 5)
    for before, after, missing in ((whole.train, part.train, 4), (whole.val, part.val, 1)):
        assert [after.name(i) for i in range(len(after))] == [
            before.name(i) for i in range(len(before)) if i != missing
        ]
        np.testing.assert_array_equal(after.labels, np.delete(before.labels, missing))
        np.testing.assert_array_equal(after.read(missing), before.read(missing + 1))


@pytest.mark.parametrize(
    'lines, message',
    [
        (
            ['train/a.JPEG'],
            'train/a.JPEG is no image of --data set; give paths relative to its folder, '
            'such as train/n0',
        ),
        (None, 'cannot be read'),
        (
            [f'val/ILSVRC2012_val_{k:08}.JPEG' for k in range(1, 7)],
            'leaves nothing of 6 images such as val/ILSVRC2012',
        ),
    ],
)
def test_bad_skip_list(tmp_path, lines, message):
    make_tree(tmp_path / 'set', train=1)
    path = tmp_path / 'bad.txt'
    if lines:
        path.write_text('\n'.join(lines))
    with pytest.raises(UsageError, match=f'--skip-list {path}: .*{message}'):
        open_dataset(str(tmp_path / 'set'), skip=str(path))
