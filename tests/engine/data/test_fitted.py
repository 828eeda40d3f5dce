"""The recipe follows the size of the images."""

import pytest

from engine.config import cli
from engine.config.config import Config
from engine.config.resolve import resolve
from engine.data import fitted, folder
from engine.data.sources import FileSource
from engine.data.spec import Edges
from engine.files import write_json
from engine.results import records
from tests.engine.data.layouts import makers


@pytest.mark.parametrize(
    'edge, augmentation, sizes',
    [
        (0, 'area_crop', ()),
        (6, 'shift', (8,)),
        (28, 'shift', (28, 24, 20, 16)),
        (32, 'shift', (32, 28, 24, 20, 16)),
        (64, 'shift', (64, 56, 48, 40, 32)),
        (96, 'area_crop', (96, 80, 72, 56, 40)),
        (128, 'area_crop', (128, 112, 88, 72, 56)),
        (223, 'area_crop', (224, 192, 160, 128, 96)),
        (224, 'area_crop', ()),
        (500, 'area_crop', ()),
    ],
)
def test_recipes(edge, augmentation, sizes):
    spec = folder.spec_of(('a', 'b'), edge)
    assert (spec.name, spec.augmentation, spec.sizes) == ('folder', augmentation, sizes)
    assert spec.image_size == max(sizes, default=224)
    assert spec.small == (0 < edge <= 64)


def test_imagenet_in_small_is_another_set():
    classes = [f'n{number:08}' for number in range(1000)]
    assert folder.spec_of(classes, 375).name == 'imagenet'
    assert folder.spec_of(classes, 64).name == 'folder'


def test_files_that_are_no_images_do_not_count(tmp_path):
    makers.put(tmp_path / 'a.png', b'')
    makers.put(tmp_path / 'b.png', makers.png('train', 0, 0, edge=50))
    source = FileSource(tmp_path, ['a.png', 'b.png', 'gone.png'], [0, 0, 0])
    assert fitted.edges(source) == (50, 50, 50)


@pytest.mark.parametrize(
    'net, sizes',
    [
        ('rsnet', (32, 28, 24, 20, 16)),
        ('san', (32, 28, 24, 20, 16)),
        ('aig', (32, 28, 24, 20, 16)),
        ('msdnet', (32,)),
        ('dsnet', (32,)),
    ],
)
def test_defaults_of_a_folder_of_small_images(tmp_path, net, sizes):
    makers.tree(tmp_path)
    config, _, notes = resolve({'data': str(tmp_path), 'net': net, 'batch_size': 4})
    assert (config.augmentation, config.resize, config.sizes) == ('shift', 'area', sizes)
    assert (config.dataset, config.image_size) == ('folder', 32)
    text = ' '.join(map(str, sizes))
    assert notes[-1] == (
        f'images: --augmentation shift, views of 32 pixels, --resize area to --sizes {text}, '
        f'--inputs {config.inputs}'
    )
    # Flags win.
    config, *_ = resolve({'data': str(tmp_path), 'net': net, 'augmentation': 'area_crop'})
    assert config.augmentation == 'area_crop'


def test_few_images_have_small_batches(tmp_path):
    makers.tree(tmp_path)
    config, _, notes = resolve({'data': str(tmp_path)})
    assert (config.batch_size, config.lr) == (8, 0.1 * 8 / 128)
    assert 'batch_size 8, not 128: there are 12 training images; lr 0.00625 in proportion' in notes
    config, _, notes = resolve({'data': str(tmp_path), 'lr': 0.02})
    assert (config.batch_size, config.lr) == (8, 0.02)
    assert '--lr 0.02 stays: where it is meant for batches of 128, give 0.00125' in ' '.join(notes)


def test_weights_of_classes_are_recorded_and_said(tmp_path):
    makers.tree(tmp_path)
    for number in range(6):
        makers.put(
            tmp_path / 'train' / 'apple' / f'more{number}.png', makers.png('train', 0, number)
        )
    config, _, notes = resolve({'data': str(tmp_path)})
    assert (config.balance, config.class_weights) == ('none', ())
    assert 'classes are uneven, 4 to 10 training images: --balance sampler draws' in notes[-1]
    config, dataset, notes = resolve({'data': str(tmp_path), 'balance': 'weights'})
    assert dict(zip(dataset.classes, config.class_weights)) == {
        'apple': 18 / 3 / 10,
        'bird': 18 / 3 / 4,
        'caf\u00e9': 18 / 3 / 4,
    }
    assert notes[-1] == (
        '--balance weights: an image of apple counts 0.6 times in the losses, one of bird 1.5 times'
    )
    assert Config.from_json(config.to_json(), 'record') == config


@pytest.mark.parametrize('before, now', [(True, 'sampler'), (False, 'none')])
def test_records_of_when_there_was_but_a_sampler(before, now, tmp_path):
    record = Config.from_values(net='san').to_json()
    record['images']['balance'] = before
    assert Config.from_json(record, 'record').balance == now
    words = ['--balance'] if before else []
    assert cli.explicit(cli.parse(words)).get('balance', 'none') == now
    write_json(tmp_path / 'config.json', record)
    # Tables read it, too.
    assert records.read_config(tmp_path)['balance'] == now


@pytest.mark.parametrize(
    'sizes, edge, expected',
    [
        ((64, 48), 300, 64),
        ((224, 96), 300, 224),
        (None, 300, 224),
        ((64, 48), 120, 64),
        ((28, 24), 32, 32),
    ],
)
def test_views_are_as_large_as_they_are_used(tmp_path, monkeypatch, sizes, edge, expected):
    """Of own images: for ImageNet a published recipe says their size."""
    makers.tree(tmp_path)
    monkeypatch.setattr(fitted, 'edges', lambda source: Edges(edge, edge, edge))
    given = {'sizes': sizes} if sizes else {}
    config, *_ = resolve({'data': str(tmp_path), **given})
    assert config.image_size == expected
