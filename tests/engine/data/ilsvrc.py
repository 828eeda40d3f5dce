"""A folder like ILSVRC2012 with every odd kind of file that the real one, or a damaged copy of it,
holds.

Everything is written by real encoders when it is asked for; nothing binary is stored.
"""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from scripts.bench.image_files import picture

Encoder = Callable[[Image.Image], bytes]
ORIENTATION = 0x0112


def save(image: Image.Image, kind: str = 'JPEG', **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def turned(value: int) -> Encoder:
    """JPEG whose EXIF says that a viewer shall turn it."""
    exif = Image.Exif()
    exif[ORIENTATION] = value
    return lambda image: save(image, exif=exif)


def bad_exif(image: Image.Image) -> bytes:
    """JPEG with an EXIF block that points outside of itself."""
    return save(image, exif=b'Exif\0\0MM\0*\0\0\0\x08\xff\xff' + bytes(range(40)))


def thumbnail(image: Image.Image) -> bytes:
    """JPEG with another JPEG, end marker included, in its EXIF block."""
    return save(image, exif=b'Exif\0\0II*\0\x08\0\0\0\0\0' + save(image.resize((32, 24))))


def ycck(image: Image.Image) -> bytes:
    """JPEG of luminance, chrominance and black, as Photoshop writes it.

    Pillow only writes CMYK: it gets the planes of YCCK as if they were CMYK, then the marker is
        told the truth.
    """
    planes = np.asarray(image.convert('YCbCr'))
    black = np.full((*planes.shape[:2], 1), 200, np.uint8)
    encoded = bytearray(
        save(Image.fromarray(255 - np.concatenate([planes, black], 2), 'CMYK'), subsampling=0)
    )
    encoded[encoded.index(b'Adobe') + 11] = 2
    return bytes(encoded)


def png16(image: Image.Image) -> bytes:
    return save(Image.fromarray(np.asarray(image.convert('L')).astype(np.uint16) * 256 + 77), 'PNG')


GOOD: dict[str, Encoder] = {
    'rgb': lambda image: save(image, quality=92, subsampling=0),
    'subsampled': lambda image: save(image, quality=80, subsampling=2),
    'grey': lambda image: save(image.convert('L')),
    'cmyk': lambda image: save(image.convert('CMYK')),
    'ycck': ycck,
    'png': lambda image: save(image, 'PNG'),
    'png_palette': lambda image: save(image.quantize(60), 'PNG', transparency=3),
    'png_alpha': lambda image: save(
        Image.merge('RGBA', [*image.split(), image.convert('L')]), 'PNG'
    ),
    'png_bits': lambda image: save(image.convert('1'), 'PNG'),
    'progressive': lambda image: save(image, progressive=True),
    'exif3': turned(3),
    'exif6': turned(6),
    'exif8': turned(8),
    'bad_exif': bad_exif,
    'thumbnail': thumbnail,
    'trailing': lambda image: save(image) + b'\0garbage\xff\xda' * 30,
}
BAD: dict[str, Encoder] = {
    'truncated': lambda image: save(image)[:-2000],
    'no_end': lambda image: save(image)[:-2],
    'truncated_progressive': lambda image: save(image, progressive=True)[:-500],
    'truncated_thumbnail': lambda image: thumbnail(image)[:-500],
    'zero_filled': lambda image: save(image)[:-2000] + bytes(2000),
    'truncated_png': lambda image: save(image, 'PNG')[:-500],
    'empty': lambda image: b'',
    'html': lambda image: b'<html><body>404 Not Found</body></html>',
}


def make_tree(
    root: Path,
    *,
    classes: int = 3,
    train: int = 6,
    val: int = 2,
    odd: dict[str, Encoder] | None = None,
    edges: tuple[int, int] = (120, 160),
    seed: int = 0,
) -> dict[str, str]:
    """Write train/SYNSET/FILE, flat val/FILE and meta/val.txt.

    Args:
        root: where.
        classes: how many.
        train, val: images per class.
        odd: encoders that replace the plain one for the first training images, in turn over the
            classes.
        edges: height and width, pixels.
        seed: of the pictures.

    Returns:
        Kind of each file by its path relative to `root`.
    """
    rng, kinds, lines = np.random.default_rng(seed), {}, []
    synsets = [f'n{1440764 + 2 * k:08}' for k in range(classes)]
    places = [f'train/{synset}/{synset}_{k}.JPEG' for k in range(train) for synset in synsets]
    for k in range(classes * val):
        places.append(f'val/ILSVRC2012_val_{k + 1:08}.JPEG')
        lines.append(f'{Path(places[-1]).name} {k % classes}\n')
    queue = list((odd or {}).items())
    for place in places:
        kind, encoder = (
            queue.pop(0) if queue and place.startswith('train') else ('rgb', GOOD['rgb'])
        )
        path = root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoder(Image.fromarray(picture(rng, *edges))))
        kinds[place] = kind
    assert not queue, 'more odd kinds than training images'
    (root / 'meta').mkdir()
    (root / 'meta' / 'val.txt').write_text(''.join(lines))
    return kinds
