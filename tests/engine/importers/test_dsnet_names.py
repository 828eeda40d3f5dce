"""Names of the published DS-Net: each has its place, statistics of all widths are assembled."""

import json

import numpy as np
import pytest

from engine.importers.dsnet import Place, assemble, from_dsnet, tables
from tests.paths import SHARED

FIXTURE = SHARED / 'dsnet_mbv1_supernet.json'


@pytest.mark.parametrize(
    'name, place',
    [
        ('conv_stem.weight', Place('conv0/W')),
        ('bn1.aux_bn.1.bias', Place('conv0/bn/beta')),
        ('bn1.aux_bn.0.running_var', Place('conv0/bn/variance/EMA', 0)),
        ('blocks.2.first_block.conv_dw.weight', Place('group2/block0/depthwise/W')),
        (
            'module.blocks.3.residual_blocks.4.gate.conv_reduce.bias',
            Place('group3/block5/se/reduce/b'),
        ),
        ('blocks.3.first_block.gate.gate.0.weight', Place('slimming_gate/W')),
        ('classifier.bias', Place('linear/b')),
        ('bn1.aux_bn.0.num_batches_tracked', None),
    ],
)
def test_place(name, place):
    assert from_dsnet(name) == place


@pytest.mark.parametrize(
    'name',
    [
        'fc.weight',
        'blocks.1.first_block.conv_xy.weight',
        'conv_stem.running_mean',
        'bn1.aux_bn.0.gamma',
        'blocks.1.second_block.conv_dw.weight',
    ],
)
def test_no_place(name):
    with pytest.raises(ValueError, match='no part of a DS-Net'):
        from_dsnet(name)


@pytest.mark.skipif(not FIXTURE.exists(), reason='needs the fixtures')
def test_published_names_are_told_apart():
    names = [row['name'] for row in json.loads(FIXTURE.read_text())['tensors']]
    places = [from_dsnet(name) for name in names]
    assert None not in places
    assert len(set(places)) == len(names)


def published_rows(*channels):
    """Statistics of a layer at the first widths, of so many channels each."""
    return {
        f'bn1.aux_bn.{i}.running_{part}': np.full(n, 10 * i + n, 'float32')
        for i, n in enumerate(channels)
        for part in ('mean', 'var')
    }


def test_assembled_tables():
    published = published_rows(2, 3, 3)
    shapes = {f'conv0/bn/{part}/EMA': (4, 3) for part in ('mean', 'variance')} | {
        'conv0/W': (1, 1, 2, 3)
    }
    published |= {
        'conv_stem.weight': np.arange(6, dtype='float32').reshape(3, 2, 1, 1),
        'blocks.3.first_block.gate.gate.0.weight': np.zeros((4, 6, 1, 1), 'float32'),
    }
    found = assemble(published, shapes)
    assert set(found) == set(shapes)
    np.testing.assert_array_equal(found['conv0/W'][0, 0], [[0, 2, 4], [1, 3, 5]])
    # The largest, where it is not published, gets the statistics of the widest.
    np.testing.assert_array_equal(
        found['conv0/bn/mean/EMA'], [[2, 2, 0], [13] * 3, [23] * 3, [23] * 3]
    )
    np.testing.assert_array_equal(
        found['conv0/bn/variance/EMA'], [[2, 2, 1], [13] * 3, [23] * 3, [23] * 3]
    )


@pytest.mark.parametrize(
    'channels, rows',
    [((2, 3), [[2, 2, 0], [13] * 3, [0] * 3, [0] * 3]), ((3,), [[3] * 3, [0] * 3])],
)
def test_a_file_that_ends_early_leaves_the_other_widths_without_statistics(channels, rows):
    shapes = {f'conv0/bn/{part}/EMA': (len(rows), 3) for part in ('mean', 'variance')}
    found = assemble(published_rows(*channels), shapes)
    np.testing.assert_array_equal(found['conv0/bn/mean/EMA'], rows)
    np.testing.assert_array_equal(found['conv0/bn/variance/EMA'][len(channels) :], 1)


@pytest.mark.parametrize('row, size', [(2, 3), (0, 4)])
def test_a_row_that_does_not_fit(row, size):
    with pytest.raises(ValueError, match=f'row {row} of'):
        tables([('bn/mean/EMA', row, np.zeros(size))], {'bn/mean/EMA': (2, 3)})
