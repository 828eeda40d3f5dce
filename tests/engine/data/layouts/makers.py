"""The same tiny set of labelled images in every layout: three classes, one colour each image."""

import io
import struct
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from engine.data.layouts.tfrecord import masked_crc

# Names of which one has an accent, in the two forms in which systems store it.
CLASSES = ('apple', 'bird', 'caf\u00e9')
OTHER_FORM = 'cafe\u0301'
TRAIN, VAL = 4, 2  # images of a class


def colour(part: str, label: int, number: int) -> tuple[int, int, int]:
    """RGB of an image, another one for each."""
    return (20 + 60 * label, 10 + 30 * number, 200 if part == 'val' else 100)


def png(part: str, label: int, number: int, edge: int = 32) -> bytes:
    """A file of one colour."""
    stream = io.BytesIO()
    Image.new('RGB', (edge + 8, edge), colour(part, label, number)).save(stream, 'PNG')
    return stream.getvalue()


def every():
    """Part, class index, number and content of each image."""
    for part, count in (('train', TRAIN), ('val', VAL)):
        for label in range(len(CLASSES)):
            for number in range(count):
                yield part, label, number, png(part, label, number)


def put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def tree(root: Path, train: str = 'train', val: str = 'val') -> None:
    for part, label, number, content in every():
        name = CLASSES[label]
        folder = train
        if part == 'val':
            folder = val
            name = OTHER_FORM if label == 2 else name
        put(root / folder / name / f'{part}{label}{number}.png', content)


def one_folder(root: Path) -> None:
    for part, label, number, content in every():
        put(root / CLASSES[label] / f'{part}{label}{number}.png', content)


def tiny_imagenet(root: Path) -> None:
    lines = []
    for part, label, number, content in every():
        name = f'{part}{label}{number}.JPEG'
        if part == 'train':
            put(root / 'train' / CLASSES[label] / 'images' / name, content)
        else:
            put(root / 'val' / 'images' / name, content)
            lines.append(f'{name}\t{CLASSES[label]}\t0\t0\t62\t62\n')
    (root / 'val' / 'val_annotations.txt').write_text(''.join(reversed(lines)))


def kaggle(root: Path) -> None:
    lines = ['ImageId,PredictionString\n']
    images = root / 'ILSVRC' / 'Data' / 'CLS-LOC'
    for part, label, number, content in every():
        name = f'{part}{label}{number}'
        if part == 'train':
            put(images / 'train' / CLASSES[label] / f'{name}.JPEG', content)
        else:
            put(images / 'val' / f'{name}.JPEG', content)
            lines.append(f'{name},{CLASSES[label]} 85 1 499 272 {CLASSES[label]} 1 1 9 9\n')
    (root / 'LOC_val_solution.csv').write_text(''.join(lines))


def table(root: Path, separator: str = ',', suffix: str = 'csv') -> None:
    lines = [separator.join(('filename', 'extra', 'Label', 'split'))]
    for part, label, number, content in every():
        name = f'pictures/{part}{label}{number}.png'
        put(root / name, content)
        lines.append(separator.join((name, 'x', CLASSES[label], part)))
    (root / f'labels.{suffix}').write_text('\n'.join(lines) + '\n')


def tsv(root: Path) -> None:
    table(root, '\t', 'tsv')


def two_tables(root: Path) -> None:
    """Without titles; ids without suffixes, in folders of the parts."""
    lines: dict[str, list[str]] = {'train': [], 'val': []}
    for part, label, number, content in every():
        name = f'{part}{label}{number}.png'
        put(root / part / name, content)
        lines[part].append(f'{name},{CLASSES[label]}\n')
    (root / 'train.csv').write_text(''.join(lines['train']))
    (root / 'validation.csv').write_text(''.join(lines['val']))


def varint(value: int) -> bytes:
    found = b''
    while value > 127:
        found += bytes([value & 127 | 128])
        value >>= 7
    return found + bytes([value])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def example(values: dict[str, bytes | int]) -> bytes:
    """An ``Example``: lists of one value each."""
    features = b''
    for name, value in values.items():
        if isinstance(value, bytes):
            feature = field(1, field(1, value))
        else:
            feature = field(3, field(1, varint(value)))
        features += field(1, field(1, name.encode()) + field(2, feature))
    return field(1, features)


def record(content: bytes) -> bytes:
    length = struct.pack('<Q', len(content))
    checksums = [struct.pack('<I', masked_crc(one)) for one in (length, content)]
    return length + checksums[0] + content + checksums[1]


def tfrecords(root: Path, first: int = 1) -> None:
    """Two shards of a part; labels count from 1, as those of ImageNet do."""
    shards: dict[str, bytes] = {}
    for part, label, number, content in every():
        values: dict[str, bytes | int] = {
            'image/height': 32,
            'image/class/label': first + label,
            'image/encoded': content,
            'image/class/text': CLASSES[label].encode(),
        }
        name = {'train': 'train', 'val': 'validation'}[part]
        shard = f'{name}-0000{number % 2}-of-00002'
        shards[shard] = shards.get(shard, b'') + record(example(values))
    for name, content in shards.items():
        put(root / name, content)


def archive(path: Path, members: list[tuple[str, bytes]], **headers: str) -> None:
    """A tar archive of files, of which the first one has further headers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, 'w') as found:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.pax_headers = headers if name == members[0][0] else {}
            found.addfile(member, io.BytesIO(content))


def webdataset(root: Path) -> None:
    """Two shards of a part, in folders; labels behind their images."""
    for part in ('train', 'val'):
        for shard in range(2):
            members = []
            for of, label, number, content in every():
                if of == part and number % 2 == shard:
                    key = f'{part}{label}{number}'
                    members += [(f'{key}.png', content), (f'{key}.cls', f'{label}\n'.encode())]
            archive(root / part / f'set-{shard:06}.tar', members)


def arrays(root: Path) -> None:
    found: dict[str, list] = {}
    for part, label, _, content in every():
        name = {'train': 'train', 'val': 'test'}[part]
        with Image.open(io.BytesIO(content)) as image:
            found.setdefault(f'x_{name}', []).append(np.asarray(image))
        found.setdefault(f'y_{name}', []).append([label])
    root.mkdir(parents=True, exist_ok=True)
    made = {key: np.array(value, np.uint8) for key, value in found.items()}
    np.savez(root / 'set.npz', **made)


MAKERS = {
    'class folders in train/ and val/': tree,
    'Tiny ImageNet': tiny_imagenet,
    "Kaggle's ILSVRC": kaggle,
    'a table of paths and labels': table,
    'TFRecord shards': tfrecords,
    'WebDataset shards': webdataset,
    'arrays of an .npz file': arrays,
}
