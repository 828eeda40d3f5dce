"""Published numbers as they stand in their sources, and the runs that they are set beside."""

import json
import re
from typing import Any

import pytest

from engine.config.config import Config
from engine.results import published, records, tables
from tests.engine.results.run_folders import FLOAT, RS_NET, rs_run, score

# Transcribed from the sources by hand: table, arch, W, A, point, top-1, top-5, MAdds.
SPOT_CHECKS = [
    ('rs-float', 'resnet18', 32, 32, 's224', 73.1, 91.0, None),
    ('rs-float', 'resnet50', 32, 32, 's128', 76.3, 93.0, None),
    ('rs-float', 'mobilenetv2', 32, 32, 's96', 63.9, 84.9, None),
    ('rs-quant', 'resnet18', 2, 32, 's224', 68.8, 88.4, None),
    ('rs-quant', 'resnet50', 2, 32, 's160', 73.8, 91.6, None),
    ('rs-quant', 'resnet18', 2, 2, 's96', 52.5, 76.7, None),
    ('rs-quant', 'resnet50', 2, 2, 's192', 73.1, 91.0, None),
    ('san-individual', 'resnet18', 32, 32, 's224', 70.974, None, None),
    ('san-individual', 'resnet50', 32, 32, 's96', 70.61, None, None),
    ('san-mobilenetv2', 'mobilenetv2', 32, 32, 's224', 72.86, None, 300_000_000),
    ('san-mobilenetv2', 'mobilenetv2', 32, 32, 's208', 72.42, None, 270_000_000),
    ('san-mobilenetv2', 'mobilenetv2', 32, 32, 's96', 65.07, None, 56_000_000),
    ('lq-nets', 'resnet18', 2, 32, 's224', 68.0, 88.0, None),
    ('lq-nets', 'resnet18', 2, 2, 's224', 64.9, 85.9, None),
    ('lq-nets', 'resnet50', 2, 32, 's224', 75.1, 92.3, None),
    ('lq-nets', 'resnet50', 2, 2, 's224', 71.5, 90.3, None),
    ('lq-nets', 'resnet18', 1, 2, 's224', 62.6, None, None),
    ('lq-nets', 'resnet50', 4, 4, 's224', 75.1, 92.4, None),
    ('lsq', 'resnet18', 2, 2, 's224', 67.6, 87.6, None),
    ('lsq', 'resnet34', 3, 3, 's224', 73.4, None, None),
    ('n2uq', 'resnet18', 4, 4, 's224', 72.9, 90.9, None),
    ('n2uq', 'resnet50', 2, 2, 's224', 75.8, None, None),
    ('n2uq', 'mobilenetv2', 4, 4, 's224', 72.1, None, None),
    ('n2uq-float-shortcuts', 'resnet18', 2, 2, 's224', 69.7, None, None),
    ('dorefa', 'resnet18', 3, 3, 's224', 67.5, None, None),
    ('pact', 'resnet18', 4, 4, 's224', 69.2, None, None),
    ('apot', 'resnet18', 2, 2, 's224', 66.46, None, None),
    ('apot', 'resnet50', 4, 4, 's224', 76.80, None, None),
    ('apot-paper', 'resnet18', 2, 2, 's224', 67.3, None, None),
    ('ewgs', 'resnet34', 4, 4, 's224', 73.9, None, None),
    ('anyprecision', 'resnet50', 1, 1, 's224', 57.83, None, None),
    ('anyprecision', 'resnet50', 4, 4, 's224', 74.12, None, None),
    ('bireal', 'resnet18', 1, 1, 's224', 56.4, 79.5, None),
    ('reactnet', 'resnet18', 1, 1, 's224', 65.9, None, None),
    ('ttq', 'alexnet', 2, 32, 's224', 57.5, 79.7, None),
    ('lsq-cls', 'resnet50', 2, 2, 's224', 72.00, 90.70, None),
    ('lsqplus-cls', 'mobilenetv2', 3, 3, 's224', 64.4, None, None),
    ('affine-mmrazor', 'resnet50', 8, 8, 's224', 76.37, None, None),
    ('msdnet-port', 'msdnet5x7', 32, 32, 's224-x0', 62.896, 84.706, 615_693_000),
    ('msdnet-port', 'msdnet5x7', 32, 32, 's224-x4', 74.592, 92.066, 3_253_794_000),
    ('ds-net', 'mobilenetv1', 32, 32, 'w00', 70.1, 89.4, 133_000_000),
    ('ds-net', 'mobilenetv1', 32, 32, 'w07', 72.7, 91.0, 319_000_000),
    ('ds-net', 'mobilenetv1', 32, 32, 'w13', 74.6, 92.0, 565_000_000),
]

# One network at one size.
SINGLE = {'sizes': [224]}
OUTER_8 = {'stem_bits': 8, 'head_bits': 8}


@pytest.mark.parametrize('expected', SPOT_CHECKS)
def test_published_values(expected):
    found = []
    for row in published.rows():
        about = (row.table, row.arch, row.qw, row.qa, row.point)
        found.append((*about, row.top1, row.top5, row.madds))
    assert found.count(expected) == 1


# Rows of the tables that only stand beside others.
INDIVIDUAL = {
    'n2uq-float-shortcuts': 9,
    'dorefa': 3,
    'pact': 3,
    'apot': 8,
    'apot-paper': 2,
    'qil': 2,
    'dsq': 2,
    'ewgs': 1,
    'anyprecision': 4,
    'bireal': 1,
    'xnor': 1,
    'reactnet': 1,
    'real-to-binary': 1,
    'ttq': 1,
}
# Trained by other people than the authors.
OTHERS = {
    'lsq-qtool': 1,
    'lsq-binary-qtool': 1,
    'lsq-ternary-qtool': 2,
    'dorefa-qtool': 1,
    'lq-qtool': 1,
    'lsq-cls': 8,
    'lsqplus-cls': 6,
    'apot-cls': 7,
    'uniform-cls': 5,
    'dorefa-cls': 5,
    'dsq-cls': 4,
    'lsq-zhutmost': 1,
    'lsq-hustzxd': 2,
    'affine-mmrazor': 3,
}


def test_tables_are_complete():
    names = [row.table for row in published.rows()]
    assert {name: names.count(name) for name in names} == {
        'rs-float': 15,
        'rs-quant': 20,
        'san-individual': 10,
        'san-mobilenetv2': 9,
        'lq-nets': 16,
        'ds-net': 14,
        'msdnet-port': 5,
        'lsq': 6,
        'n2uq': 10,
        **INDIVIDUAL,
        **OTHERS,
    }
    keys = [(row.table, row.arch, row.qw, row.qa, row.point) for row in published.rows()]
    assert len(set(keys)) == len(keys)


def test_every_row_names_its_quantizer():
    """Of a float row it is none; the others have fewer bits somewhere."""
    for row in published.rows():
        is_float = (row.qw, row.qa) == (32, 32)
        assert (row.quantizer == 'float') == is_float, row
        assert row.dataset == 'imagenet'


def test_every_source_is_a_paper_with_where_its_numbers_stand():
    for row in published.rows():
        others = row.table in OTHERS
        assert row.title.endswith(', trained by others') == others
        paper = re.search(r'(AAAI|ECCV|ICLR|CVPR) 20\d\d[;,]', row.source)
        assert others or paper, row.source
        assert re.search('README of|issue|Table 1|result_cls.md of', row.source), row.source


# FACTS_QUANTIZERS, section 11: recalled and not checked.
RECALLED = [
    ('lsq', 'resnet50', 2, 73.7),
    ('sawb', 'resnet18', 2, 67.0),
    ('ewgs', 'resnet18', 2, 67.0),
    ('lsqplus', 'resnet18', 2, 66.8),
    ('pact', 'resnet50', 2, 72.2),
    ('dorefa', 'resnet50', 2, 67.1),
    ('dsq', 'resnet18', 4, 69.6),
    ('qil', 'resnet18', 4, 70.1),
    ('ttq', 'resnet18', 2, 66.6),
    ('twn', 'resnet18', 2, 61.8),
]


@pytest.mark.parametrize('quantizer, arch, bits, top1', RECALLED)
def test_no_number_that_nobody_has_checked(quantizer, arch, bits, top1):
    for row in published.rows():
        assert (row.quantizer, row.arch, row.qw, row.top1) != (quantizer, arch, bits, top1)


def test_what_is_float_and_who_teaches():
    """What a source does not say is left out, and never stands beside a run."""
    for row in published.rows():
        assert row.shortcuts in ('', 'float', 'quantized')
        assert (row.stem_bits is None) == (row.head_bits is None)
        if row.table in OTHERS:
            assert row.shortcuts == '' and row.teacher in ('', 'none')
    found = {row.table: (row.stem_bits, row.shortcuts, row.teacher) for row in published.rows()}
    assert found['n2uq'] == (32, 'quantized', 'ResNet-101')
    assert found['n2uq-float-shortcuts'] == (32, 'float', 'ResNet-101')
    assert found['reactnet'] == (32, 'float', 'ResNet-34')
    assert found['lsq'] == (8, '', 'none')
    assert found['qil'] == (None, '', '')


def matched(folder, **changes: Any):
    """The published row beside a run at 224 pixels; ``changes`` are of its configuration."""
    run = rs_run(folder / 'run', [score('s224', 60.0)], **changes)
    return tables.read_run(run, 'run').rows[0].published


@pytest.mark.parametrize(
    ('changes', 'table', 'top1'),
    [
        (SINGLE, 'lq-nets', 64.9),
        ({**SINGLE, 'qa': 32, 'mode': 'resnet'}, 'lq-nets', 68.0),
        ({**SINGLE, 'qw': None, 'qa': None}, 'san-individual', 70.974),
        ({**SINGLE, **FLOAT, 'arch': 'resnet50'}, 'san-individual', 77.15),
        ({'arch': 'resnet50', 'qa': 32}, 'rs-quant', 76.0),
        ({'qw': 32, 'qa': 32, 'mode': 'resnet'}, 'rs-float', 73.1),
        ({**FLOAT, 'arch': 'resnet50'}, 'rs-float', 79.3),
        ({**FLOAT, 'arch': 'mobilenetv2'}, 'rs-float', 73.0),
        ({**FLOAT, 'net': 'san', 'arch': 'mobilenetv2'}, 'san-mobilenetv2', 72.86),
    ],
)
def test_matches_by_kind_of_training(changes, table, top1, tmp_path):
    row = matched(tmp_path, **changes)
    assert (row.table, row.top1) == (table, top1)


@pytest.mark.parametrize(
    ('changes', 'table', 'top1'),
    [
        ({'quantizer': 'lq'}, 'lq-nets', 64.9),
        ({'weight_quantizer': 'lq(bits=2)', 'activation_quantizer': 'lq'}, 'lq-nets', 64.9),
        ({'quantizer': 'lsq', **OUTER_8}, 'lsq', 67.6),
        ({'quantizer': 'n2uq'}, 'n2uq', 69.4),
    ],
)
def test_matches_the_quantizer(changes, table, top1, tmp_path):
    row = matched(tmp_path, **SINGLE, **changes)
    assert (row.table, row.top1) == (table, top1)


@pytest.mark.parametrize(
    'changes',
    [
        {'quantizer': 'lsq'},  # published with 8 bits in the first and the last layer
        {'quantizer': 'lq', **OUTER_8},
        {'weight_quantizer': 'lsq'},
        {'activation_quantizer': 'lsq'},
        {'quantizer': 'dorefa'},
        {'policy': [{'roles': ['head'], 'weight': 'lq(bits=4)'}]},
    ],
)
def test_no_number_of_another_quantizer(changes, tmp_path):
    assert matched(tmp_path, **SINGLE, **changes) is None


def test_no_number_of_another_quantizer_at_several_sizes(tmp_path):
    assert matched(tmp_path / 'lq').table == 'rs-quant'
    assert matched(tmp_path / 'lsq', quantizer='lsq') is None


MSDNET = {**FLOAT, 'net': 'msdnet', 'arch': 'msdnet', 'nBlocks': 5, 'sizes': [224]}


@pytest.mark.parametrize(
    ('changes', 'point', 'top1'),
    [
        ({**FLOAT, 'net': 'dsnet', 'arch': 'mobilenetv1'}, 'w13', 74.6),
        ({**FLOAT, 'net': 'dsnet', 'arch': 'resnet50'}, 'w13', None),
        ({**MSDNET, 'step': 7, 'base': 7}, 's224-x4', 74.592),
        ({**MSDNET, 'step': 7, 'base': 4}, 's224-x4', None),
        ({**MSDNET, 'step': 4, 'base': 4}, 's224-x4', None),
        ({**FLOAT, 'net': 'aig', 'arch': 'resnet50', 'sizes': [224]}, 's224', None),
    ],
)
def test_other_points(changes, point, top1):
    found = published.find({**RS_NET, **changes}, 'imagenet', point)
    assert (found and found.top1) == top1


@pytest.mark.parametrize(
    'changes',
    [
        {'data': 'animals28'},
        {'data': 'fake'},
        {'data': 'cifar10:/data/batches'},
        {'data': 'cifar100:/data/imagenet'},
        {'data': ''},
        {'classes': 28},
        {'classes': None},
        {'dataset': 'folder'},
        {'dataset': 'cifar10'},
        {'width': 0.5},
        {'arch': 'resnext50_32x4d'},
        {'qw': 3},
        {**FLOAT, 'arch': 'mobilenetv2', 'sizes': [224]},
        {'mode': 'pytorch'},
        {**FLOAT, 'net': 'san'},
        {'net': 'san', 'arch': 'mobilenetv2', 'mode': 'pytorch'},
        {**FLOAT, 'arch': 'mobilenetv2_small'},
        {**FLOAT, 'net': 'other', 'arch': 'mobilenetv2'},
    ],
)
def test_matches_nothing_else(changes, tmp_path):
    assert matched(tmp_path, **changes) is None


@pytest.mark.parametrize(
    'changes',
    [
        {'data': '/data/fake-or-not/ILSVRC2012'},
        {'data': '/data/cifar_and_more'},  # a thousand classes are not those of CIFAR
        {'data': '/anything', 'dataset': 'imagenet'},
    ],
)
def test_data_is_known_by_its_record_not_by_its_path(changes, tmp_path):
    assert matched(tmp_path, **changes).table == 'rs-quant'


@pytest.mark.parametrize(('size', 'top1'), [(208, 72.42), (176, 71.63), (144, 69.8), (112, 66.59)])
@pytest.mark.parametrize('own', [True, False])
def test_sizes_between_those_trained(size, top1, own, tmp_path):
    """SAN was tested at them; with statistics of their own they are compared, else not."""
    network = {**FLOAT, 'net': 'san', 'arch': 'mobilenetv2', 'sizes': [size]}
    for lender in ('s224', f's{size + 16}+s{size - 16}'):
        point = f's{size}'
        record = score(point, 60.0, bn=point if own else lender)
        run = rs_run(tmp_path / lender, [record], **network)
        (row,) = tables.read_run(run, 'run').rows
        assert (row.published and row.published.top1) == (top1 if own else None)


def test_evaluation_on_other_data_matches_nothing(tmp_path):
    run = rs_run(tmp_path / 'run', [score('s224', 60.0, data='animals28')])
    assert tables.read_run(run, 'run').rows[0].published is None


def test_a_quantizer_that_is_written_wrongly(tmp_path):
    run = rs_run(tmp_path / 'run', [score('s224', 60.0)], weight_quantizer='lq(')
    with pytest.raises(ValueError, match=r'config\.json: damaged .*lq\('):
        records.read_config(run)


@pytest.mark.parametrize(
    ('values', 'table'),
    [
        ({}, 'rs-quant'),
        ({'quantizer': 'lsq'}, None),
        ({**SINGLE, 'quantizer': 'lsq', **OUTER_8}, 'lsq'),
        ({'dataset': 'folder'}, None),
    ],
)
def test_the_record_of_today_is_read(values, table, tmp_path):
    asked = {
        'arch': 'resnet18',
        'mode': 'preact',
        'qw': 2,
        'qa': 2,
        'sizes': (224, 192),
        'data': '/somewhere',
        'dataset': 'imagenet',
    }
    config = Config.from_values(**{**asked, **values})
    run = rs_run(tmp_path / 'run', [score('s224', 60.0)])
    (run / 'config.json').write_text(json.dumps(config.to_json()))
    row = tables.read_run(run, 'run').rows[0].published
    assert (row and row.table) == table
