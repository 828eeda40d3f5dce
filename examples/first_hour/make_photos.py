"""Makes eight classes of 60 pictures of mixed sizes of the stamps of Tux Paint.

    python examples/first_hour/make_photos.py /usr/share/tuxpaint/stamps photos

No stamp is both in train/ and in val/.
"""

import random
import sys
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
stamps, out = Path(sys.argv[1]), Path(sys.argv[2])
random.seed(0)
for name, place in KINDS.items():
    files = sorted((stamps / place).rglob('*.png'))
    random.shuffle(files)
    fifth = len(files) // 5
    for part, own, count in (('val', files[:fifth], 12), ('train', files[fifth:], 48)):
        for number in range(count):
            stamp = Image.open(own[number % len(own)]).convert('RGBA')
            edge = random.randint(120, 480)
            scale = edge / max(stamp.size)
            stamp = stamp.resize([max(1, round(side * scale)) for side in stamp.size])
            width, height = random.randint(edge, edge + 80), random.randint(edge, edge + 80)
            picture = Image.new('RGB', (width, height), tuple(random.choices(range(192, 256), k=3)))
            corner = (
                random.randint(0, width - stamp.width),
                random.randint(0, height - stamp.height),
            )
            picture.paste(stamp, corner, stamp)
            path = out / part / name / f'{own[number % len(own)].stem}-{number}.jpg'
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path, quality=90)
