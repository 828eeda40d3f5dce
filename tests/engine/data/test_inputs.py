"""Spellings of what a network takes, whole and in part."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from engine.config.cli import explicit, parse
from engine.config.resolve import completed_views, resolve
from engine.data import inputs
from engine.data.preprocessing import Preprocessing
from engine.errors import UsageError


@pytest.mark.parametrize(
    'text, default, expected',
    [
        ('unit_rgb', 'cifar_rgb', 'unit_rgb'),
        ('rgb:0.1,0.2,0.3:1,1,1', 'cifar_rgb', 'rgb:0.1,0.2,0.3:1,1,1'),
        ('rgb::', 'normalized_bgr', 'normalized_rgb'),
        ('bgr::', 'normalized_bgr', 'normalized_bgr'),
        ('bgr::', 'rgb:0.1,0.2,0.3:0.4,0.5,0.6', 'bgr:0.3,0.2,0.1:0.6,0.5,0.4'),
        (':0.5,0.5,0.5:', 'normalized_bgr', 'bgr:0.5,0.5,0.5:0.225,0.224,0.229'),
        ('rgb:0.5,0.6,0.7:', 'normalized_bgr', 'rgb:0.5,0.6,0.7:0.229,0.224,0.225'),
        ('::0.5,0.5,0.5', 'unit_rgb', 'rgb:0,0,0:0.5,0.5,0.5'),
        ('grey::', 'normalized_bgr', 'grey:0.459:0.226'),
        ('grey::', 'normalized_rgb', 'grey:0.459:0.226'),
        ('grey::', 'unit_rgb', 'grey:0:1'),
        ('grey:0.5,0.5,0.5:', 'normalized_rgb', 'grey:0.5:0.226'),
        ('::0.3,0.3,0.3', 'grey:0.5:0.25', 'grey:0.5:0.3'),
        ('rgb::', 'grey:0.5:0.25', 'rgb:0.5,0.5,0.5:0.25,0.25,0.25'),
    ],
)
def test_what_is_left_open_follows_from_the_default(text, default, expected):
    assert inputs.completed(text, default) == expected


@pytest.mark.parametrize(
    'words, expected',
    [
        ('--augment cifar', {'augmentation': 'shift'}),
        ('--augment imagenet --crop 0.95', {'augmentation': 'area_crop:0.95'}),
        ('--crop 1 --data fake', {'augmentation': 'area_crop:1'}),
        ('--mean 0.5 --std 0.25', {'inputs': 'bgr:0.5,0.5,0.5:0.25,0.25,0.25'}),
        ('--channel-order rgb', {'inputs': 'normalized_rgb'}),
        ('--channel-order rgb --net san', {'inputs': 'unit_rgb'}),
        ('--augmentation none', {'augmentation': 'none'}),
        ('--input-channels 1', {'inputs': 'grey:0.459:0.226'}),
        ('--input-channels 1 --mean 0.5 --std 0.25', {'inputs': 'grey:0.5:0.25'}),
        ('--input-channels 3', {'inputs': 'normalized_bgr'}),
    ],
)
def test_flags(words, expected):
    config, *_ = resolve(explicit(parse(words.split())))
    assert {name: getattr(config, name) for name in expected} == expected


def test_an_evaluation_completes_what_was_recorded():
    given = explicit(parse(['--eval', '--crop', '1', '--mean', '0.5']))
    recorded = {'augmentation': 'area_crop:0.9', 'inputs': 'rgb:0.1,0.2,0.3:0.4,0.5,0.6'}
    assert completed_views(given, recorded) == {
        'augmentation': 'area_crop:1',
        'inputs': 'rgb:0.5,0.5,0.5:0.4,0.5,0.6',
    }


@pytest.mark.parametrize(
    'words, message',
    [
        ('--mean 0.5 0.5', '--mean: give one number for all channels, or three'),
        ('--mean 127', '--inputs bgr:127,127,127:0.225,0.224,0.229: expected rgb:'),
        ('--std 0', 'deviations must be greater than 0'),
        ('--inputs unit_rgb --mean 0.5', '--inputs unit_rgb with --mean, --std or --channel-order'),
        ('--augment area_crop:0.9 --crop 1', '--crop 1 with --augmentation area_crop:0.9'),
        ('--augment cifar --crop 0.9', 'shift has no share to keep'),
        ('--augment flip', '--augment/--augmentation flip'),
        ('--channel-order gbr', 'channel_order'),
        ('--channel-order rgb --input-channels 1', '--input_channels 1 with --channel_order rgb'),
        ('--inputs grey:0.5,0.5,0.5:1', '--inputs grey:0.5,0.5,0.5:1: expected rgb:'),
        ('--inputs grey:a:', '--inputs: a are no numbers'),
        ('--inputs rbg::0.5,0.5,0.5', '--inputs rbg::0.5,0.5,0.5: expected rgb:'),
        ('--inputs rgb::0.5,0.5', '0.5,0.5: expected rgb:'),
    ],
)
def test_bad_flags(words, message):
    with pytest.raises(UsageError) as caught:
        resolve(explicit(parse(words.split())))
    assert message in str(caught.value)


@pytest.mark.parametrize('resize', ['nearest', 'antialias'])
def test_views_of_one_channel(resize):
    """Weighed as in Pillow, and what was grey before stays as it was."""
    views = Preprocessing('shift', 16, (16, 12), resize, 'grey:0.5:0.25')
    assert views.channels == 1
    rng = np.random.default_rng(0)
    colours = rng.integers(256, size=(20, 30, 3), dtype=np.uint8)
    grey = np.repeat(colours[..., :1], 3, axis=2)
    plain = dataclasses.replace(views, inputs='unit_rgb')
    for image in (colours, grey):
        for found, of_three in zip(views.eval_views(image), plain.eval_views(image)):
            expected = np.asarray(Image.fromarray(of_three[..., ::-1]).convert('L'))
            assert found.shape == (*expected.shape, 1)
            assert np.abs(found[..., 0].astype(int) - expected).max() <= 1
            if image is grey:
                np.testing.assert_array_equal(found[..., 0], of_three[..., 0])
    (first, *_), again = (views.train_views(colours, np.random.default_rng(2)) for _ in range(2))
    np.testing.assert_array_equal(first, again[0])
    assert first.shape == (16, 16, 1)
