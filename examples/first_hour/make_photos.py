"""Makes eight classes of 60 pictures of mixed sizes of the stamps of Tux Paint.

    python examples/first_hour/make_photos.py /usr/share/tuxpaint/stamps photos

No stamp is both in train/ and in val/.
"""

import argparse
import random
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

KINDS = {
    'birds': 'animals/birds',
    'flowers': 'plants/flowers',
    'fruit': 'food/fruit',
    'hands': 'symbols/alphabets/asl',
    'houses': 'town/houses',
    'mammals': 'animals/mammals',
    'money': 'symbols/money',
    'roadsigns': 'town/roadsigns',
}


def picture_of(stamp: Image.Image) -> Image.Image:
    """A stamp at a random size and place on a background of a random light colour."""
    edge = random.randint(120, 480)
    scale = edge / max(stamp.size)
    stamp = stamp.resize([max(1, round(side * scale)) for side in stamp.size])
    width, height = random.randint(edge, edge + 80), random.randint(edge, edge + 80)
    picture = Image.new('RGB', (width, height), tuple(random.choices(range(192, 256), k=3)))
    left = random.randint(0, width - stamp.width)
    top = random.randint(0, height - stamp.height)
    picture.paste(stamp, (left, top), stamp)
    return picture


def make(files: Sequence[Path], count: int, folder: Path) -> None:
    """Writes ``count`` pictures of some stamps into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        file = files[number % len(files)]
        picture = picture_of(Image.open(file).convert('RGBA'))
        picture.save(folder / f'{file.stem}-{number}.jpg', quality=90)


def main() -> None:
    """Makes all classes."""
    p = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    p.add_argument('stamps', type=Path, help='folder of the stamps')
    p.add_argument('out', type=Path, help='folder to make')
    args = p.parse_args()
    found = {}
    for name, place in KINDS.items():
        found[name] = sorted((args.stamps / place).rglob('*.png'))
        if len(found[name]) < 5:
            p.error(
                f'{args.stamps / place}: has no stamps; apt-get install tuxpaint-stamps-default'
            )
    random.seed(0)
    for name, files in found.items():
        random.shuffle(files)
        fifth = len(files) // 5
        make(files[:fifth], 12, args.out / 'val' / name)
        make(files[fifth:], 48, args.out / 'train' / name)


if __name__ == '__main__':
    main()
