"""examples/first_hour: the pictures that it makes."""

import subprocess
import sys
from collections import Counter

import pytest
from PIL import Image

from tests.paths import ROOT

SCRIPT = ROOT / 'examples' / 'first_hour' / 'make_photos.py'
PLACES = [
    'animals/birds',
    'animals/mammals',
    'food/fruit',
    'plants/flowers',
    'symbols/alphabets/asl',
    'symbols/money',
    'town/houses',
    'town/roadsigns',
]


@pytest.mark.slow
def test_make_photos(tmp_path):
    """Eight classes of 48 and 12 pictures, of stamps of which none is on both sides."""
    for place in PLACES:
        for number in range(10):
            path = tmp_path / 'stamps' / place / 'more' / f'{place[:3]}{number}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new('RGBA', (20 + number, 24), (9 * number, 90, 60, 200)).save(path)
    subprocess.run([sys.executable, SCRIPT, 'stamps', 'photos'], cwd=tmp_path, check=True)
    counts = Counter()
    stems = {'train': set(), 'val': set()}
    for path in (tmp_path / 'photos').rglob('*.jpg'):
        part, name, file = path.relative_to(tmp_path / 'photos').parts
        counts[part, name] += 1
        stems[part].add((name, file.rpartition('-')[0]))
    assert len(counts) == 16
    assert {key[0]: count for key, count in counts.items()} == {'train': 48, 'val': 12}
    assert len(stems['train']) == 64 and len(stems['val']) == 16
    assert not stems['train'] & stems['val']


def test_a_folder_without_stamps_is_refused(tmp_path):
    done = subprocess.run(
        [sys.executable, SCRIPT, 'stamps', 'photos'], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert 'stamps/animals/birds: has no stamps; apt-get install' in done.stderr
    assert not (tmp_path / 'photos').exists()
