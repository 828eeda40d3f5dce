"""The scan of a data folder: what it calls bad, what it only mentions, and that it can be
interrupted.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.data import folder
from engine.data.datasets import open_dataset
from engine.data.sources import FileSource
from engine.data.spec import Dataset
from scripts import check_data
from tests.engine.data.ilsvrc import BAD, GOOD, make_tree, save
from tests.engine.data.layouts import makers

EXPECTED = {
    'truncated': 'truncated JPEG',
    'no_end': 'truncated JPEG',
    'truncated_progressive': 'truncated JPEG',
    'truncated_thumbnail': 'truncated JPEG',
    'zero_filled': 'truncated JPEG',
    'truncated_png': 'truncated PNG',
    'empty': 'empty',
    'html': 'no image',
}


@pytest.fixture
def scan(tmp_path, capsys):
    """``scan(*flags)``: exit status, standard output and error of a scan of tmp_path/set."""

    def run(*flags):
        code = check_data.main(
            [str(tmp_path / 'set'), '--out', str(tmp_path / 'bad.txt'), '--threads', '2', *flags]
        )
        return code, *capsys.readouterr()

    return run


def test_every_bad_file_is_listed_and_no_other(tmp_path, scan):
    kinds = make_tree(tmp_path / 'set', train=8, odd={**BAD, **GOOD})
    bad = {name: EXPECTED[kind] for name, kind in kinds.items() if kind in BAD}
    code, out, _ = scan()
    assert code == 1
    for name, reason in bad.items():
        assert f'{name}: {reason}\n' in out
    pngs = [name for name, kind in kinds.items() if kind.startswith('png')]
    assert len(pngs) == 4 and all(f'{name}: content is PNG\n' in out for name in pngs)
    assert (
        out.splitlines()[-1]
        == f'30 images (18 JPEG, 4 PNG), 8 bad, 4 odd; train with --skip-list {tmp_path}/bad.txt'
    )
    lines = (tmp_path / 'bad.txt').read_text().splitlines()
    assert sorted(line for line in lines if line[0] != '#') == sorted(bad)
    rest = open_dataset(str(tmp_path / 'set'), skip=str(tmp_path / 'bad.txt')).train
    assert all(rest.read(i).shape == (120, 160, 3) for i in range(len(rest))) and len(rest) == 16
    assert not (tmp_path / 'bad.txt.state').exists()


def test_clean_folder_and_tiny_images(tmp_path, scan):
    make_tree(tmp_path / 'set', train=1, edges=(40, 32))
    line = f'{open_dataset(str(tmp_path / "set")).line()}\n'
    assert 'data set: class folders in train/ and val/, 3 classes, 3 training' in line
    assert scan()[:2] == (0, f'{line}9 images (9 JPEG), 0 bad, 0 odd\n')
    name = 'val/ILSVRC2012_val_00000002.JPEG'
    (tmp_path / 'set' / name).write_bytes(save(Image.new('RGB', (31, 200))))
    code, out, _ = scan()
    assert code == 0
    assert out.endswith(f'{name}: tiny: 31 x 200 pixels\n9 images (9 JPEG), 0 bad, 1 odd\n')


@pytest.mark.parametrize('name', ['a table of paths and labels', 'TFRecord shards'])
def test_other_layouts_and_formats(tmp_path, scan, name):
    makers.MAKERS[name](tmp_path / 'set')
    code, out, _ = scan()
    assert code == 0 and out.splitlines()[-1] == '18 images (18 PNG), 0 bad, 0 odd'


def test_images_that_are_not_divided_yet(tmp_path, capsys, monkeypatch):
    """And without --out nothing is written."""
    makers.one_folder(tmp_path / 'set')
    for form in ('gif', 'tif', 'tiff', 'webp'):
        path = tmp_path / 'set' / 'apple' / f'a.{form}'
        Image.new('RGB', (40, 50)).save(path)
    (tmp_path / 'set' / 'bird' / 'b.gif').write_bytes(b'GIF89a')
    (tmp_path / 'here').mkdir()
    monkeypatch.chdir(tmp_path / 'here')
    assert check_data.main([str(tmp_path / 'set'), '--threads', '0']) == 1
    assert capsys.readouterr().out.splitlines()[-1] == (
        '23 images (1 GIF, 18 PNG, 2 TIFF, 1 WEBP), 1 bad, 0 odd; --out FILE writes the list for '
        '--skip-list'
    )
    assert not list((tmp_path / 'here').iterdir())
    assert check_data.main([str(tmp_path / 'set'), '--resume']) == 2
    assert '--resume: needs the --out of the scan' in capsys.readouterr().err


def test_help_does_not_wait_for_tensorflow():
    """What it imports is enough to know: neither TensorFlow nor tensorpack."""
    code = 'import sys, scripts.check_data, scripts.pack_data; print(*sys.modules)'
    found = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert not {'tensorflow', 'tensorpack'} & set(found.stdout.split())


@pytest.mark.parametrize('stop', [KeyboardInterrupt, OSError])
def test_interrupted_scan_goes_on(tmp_path, scan, monkeypatch, stop):
    make_tree(tmp_path / 'set', train=8, odd=BAD)
    code, whole, _ = scan()
    inspect, seen = check_data.inspect, []

    def stopping(source, i):
        seen.append(source.name(i))
        if len(seen) == 13:
            raise stop('pulled the plug')
        return inspect(source, i)

    monkeypatch.setattr(check_data, 'inspect', stopping)
    code, _, err = scan('--threads', '0')
    assert code == {KeyboardInterrupt: 130, OSError: 2}[stop] and (
        'interrupted' in err or 'plug' in err
    )
    state = json.loads((tmp_path / 'bad.txt.state').read_text())
    assert state['done'] == {'train': 12, 'val': 0}
    code, out, _ = scan('--resume', '--threads', '0')
    assert (code, out) == (1, whole)
    assert len(seen) == 30 + 1


def test_state_of_other_files_is_refused(tmp_path, scan):
    make_tree(tmp_path / 'set', train=1)
    path = tmp_path / 'bad.txt.state'
    path.write_text('{"names": {}, "done": {}, "bad": {}, "odd": {}}')
    code, _, err = scan('--resume')
    assert code == 2 and f'{path} is of a scan of other files' in err
    path.write_text('{')
    code, _, err = scan('--resume')
    assert code == 2 and f'{path}: damaged' in err
    assert scan()[0] == 0


def test_unreadable_file(tmp_path, scan, monkeypatch):
    make_tree(tmp_path / 'set', train=1)
    monkeypatch.setattr(FileSource, '_bytes', lambda self, i: Path('/nowhere').read_bytes())
    code, out, _ = scan()
    assert code == 1 and '9 images, 9 bad' in out and out.count(': unreadable\n') == 9


def test_what_pillow_cannot_open_does_not_end_the_scan(tmp_path, scan, monkeypatch):
    make_tree(tmp_path / 'set', train=1)

    def fail(_):
        raise RuntimeError('Failed to decode image: Not implemented')

    monkeypatch.setattr(check_data.Image, 'open', fail)
    code, out, _ = scan()
    assert code == 0 and out.endswith('9 images (9 named JPEG), 0 bad, 0 odd\n')


def test_a_list_that_cannot_be_written_keeps_the_scan(tmp_path, scan, monkeypatch):
    make_tree(tmp_path / 'set', train=1)

    def full(*_):
        raise OSError(28, 'No space left on device')

    with monkeypatch.context() as patch:
        patch.setattr(check_data, 'write_list', full)
        assert scan()[0] == 2
    monkeypatch.setattr(check_data, 'inspect', full)
    code, out, _ = scan('--resume')
    assert code == 0 and out.endswith('9 images (9 JPEG), 0 bad, 0 odd\n')
    (tmp_path / 'bad.txt').unlink()
    (tmp_path / 'bad.txt').mkdir()
    code, _, err = scan()
    assert code == 2 and f'--out {tmp_path}/bad.txt: is a folder' in err


def counted(classes, counts):
    labels = np.repeat(np.arange(classes), counts)
    source = FileSource(Path('.'), [''] * len(labels), labels)
    names = tuple(f'n{k}' for k in range(classes))
    spec = folder.IMAGENET if classes == folder.ILSVRC_CLASSES else folder.FOLDER
    return Dataset('set', spec, names, source, source), source


def test_counts_of_ilsvrc():
    dataset, source = counted(1000, [1300] * 997 + [1301, 732, 731])
    assert list(check_data.count_notes(dataset, 'train', source)) == [
        f'train: {1300 * 997 + 2764} images, ILSVRC2012 has 1281167',
        'train class n997: 1301 images, ILSVRC2012 has 732 to 1300',
        'train class n999: 731 images, ILSVRC2012 has 732 to 1300',
    ]
    dataset, source = counted(1000, [50] * 998 + [49, 51])
    assert list(check_data.count_notes(dataset, 'val', source)) == [
        'val class n998: 49 images, ILSVRC2012 has 50',
        'val class n999: 51 images, ILSVRC2012 has 50',
    ]


def test_counts_of_other_sets():
    dataset, source = counted(5, [10, 20, 9, 22, 45])
    assert list(check_data.count_notes(dataset, 'train', source)) == [
        'train class n2: 9 images, the median is 20',
        'train class n4: 45 images, the median is 20',
    ]


@pytest.mark.parametrize(
    'flags, message',
    [
        (['--threads', '-1'], '--threads -1: must be at least 0'),
        ([], 'found nothing, looked for'),
    ],
)
def test_refusals(tmp_path, scan, flags, message):
    (tmp_path / 'set').mkdir()
    code, _, err = scan(*flags)
    assert code == 2 and message in err


def test_sets_without_files(capsys):
    assert check_data.main(['animals28']) == 2
    assert 'animals28: has no image files to check' in capsys.readouterr().err


def test_images_of_both_parts_are_reported(tmp_path, scan):
    make_tree(tmp_path / 'set', train=2, edges=(40, 32))
    name = 'val/ILSVRC2012_val_00000002.JPEG'
    other = 'train/n01440766/n01440766_1.JPEG'
    (tmp_path / 'set' / name).write_bytes((tmp_path / 'set' / other).read_bytes())
    code, out, _ = scan()
    assert code == 0
    said = f'1 validation image also among training images, such as {name}, which is {other}'
    assert said in out
