"""The embedded data set: 10000 grey drawings of 10 animals, 28 x 28 pixels, in a fixed split."""

from pathlib import Path

from engine import arrays
from engine.data.sources import ArraySource
from engine.data.spec import Dataset, DatasetSpec

EMBEDDED = Path(__file__).parents[1] / 'resources' / 'animals28.npz'


def _open(folder: str, image_size: int) -> Dataset:
    stored = arrays.read(EMBEDDED, None, 'install the package again')
    images = stored['image']  # uint8 [10000, 28, 28]
    labels = stored['label']  # [10000]
    test = stored['test']  # bool [10000]
    classes = tuple(stored['names'].tolist())
    train = ArraySource(images[~test], labels[~test])
    val = ArraySource(images[test], labels[test])
    return Dataset('animals28', SPEC, classes, train, val)


SPEC = DatasetSpec(
    name='animals28',
    open=_open,
    help='animals28',
    image_size=28,
    augmentation='shift',
    resize='area',
    sizes=(28, 24, 20, 16, 12),
    training={
        'arch': 'resnet8',
        'epochs': 5,
        'batch_size': 64,
        'lr': 0.05,
        'schedule': 'cosine',
        'warmup': 0.5,
        'wd': 2e-4,
    },
    in_memory=True,
    small=True,
)
