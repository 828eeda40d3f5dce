"""Texts of exported files: what a run recorded, and what its readers refuse."""

import dataclasses
import json

import numpy as np
import pytest

from engine.data.identity import Part
from engine.deployment import texts, texts_table
from engine.deployment.choices import Chosen
from engine.deployment.description import describe, digest
from engine.deployment.program import PointProgram, Program
from engine.errors import UsageError
from engine.files import write_json
from engine.results import formats
from engine.runs import data_record
from engine.runs.checkpoint import Checkpoint
from engine.runs.data_record import DataRecord
from nets import cost
from nets.cost import LayerRecord
from tests import test_grid

CONV = LayerRecord('conv', 'body', (3, 3, 16, 32), (8, 8), weight_bits=2, basis=64)
WHOLE = Program({'s16': PointProgram('', 16, (), ''), 's12': PointProgram('', 16, (), '')}, {})


@pytest.fixture
def source(tmp_path):
    """A checkpoint in a run folder with records of both points."""
    config = test_grid.config('rsnet-sizes-w2a2')
    folder = tmp_path / 'run'
    layers = {'s16': [CONV], 's12': [dataclasses.replace(CONV, out=(6, 6))]}
    write_json(folder / 'layers.json', cost.to_json(layers))
    for point, top1 in (('s16', 90.5), ('s12', 81.25)):
        record = {'point': point, 'bn': point, 'top1': top1, 'top5': 99.0, 'images': 80}
        write_json(folder / 'eval' / f'{point}.json', record | {'checkpoint': '/at/model-1'})
    data_record.write(
        folder, DataRecord(7, 8, '1' * 16, ('cat', 'dog'), Part(3, 4, '2' * 16), Part(5, 6))
    )
    values = {'w': np.arange(6, dtype=np.float32)}
    return Checkpoint(str(folder / 'model-1'), values, config, class_names=('cat', 'dog'))


def test_points_have_what_was_recorded(source):
    large, small = describe(source, WHOLE, 'packed').points
    assert (large.point, large.side, large.size) == ('s16', 16, 16)
    assert (small.point, small.side, small.size) == ('s12', 16, 12)
    assert (large.top1, large.top5, large.evaluated, small.top1) == (90.5, 99.0, 80, 81.25)
    assert (large.madds, small.madds) == (4608 * 64, 4608 * 36)
    assert large.weight_bytes == small.weight_bytes == 4608 * 2 // 8 + 64 * 4


def test_gates_have_the_cost_that_was_measured(tmp_path):
    """Their accuracy is not that of all blocks; averages have none."""
    config = test_grid.config('aig-gates-w2a2')
    folder = tmp_path / 'run'
    write_json(folder / 'layers.json', cost.to_json({'s16': [CONV]}))
    record = {'point': 's16', 'bn': 's16', 'top1': 80.0, 'top5': 99.0, 'images': 80}
    write_json(folder / 'eval' / 's16.json', record)
    write_json(folder / 'gates' / 's16.json', {'madds': 1000.4})
    gated = Checkpoint(str(folder / 'model-1'), {}, config)
    told = (Chosen('group0/block0', 'y', (0, 1)),)
    whole = Program({'s16-dynamic': PointProgram('', 16, (), '', told)}, {})
    found = describe(gated, whole, 'packed')
    assert found.budgets == (texts.BudgetText('s16-dynamic', 80.0, 1000),)
    assert '80.00' in formats.render(texts_table.tables(found), 'text')
    assert texts.parse(found.spelled(), 'net.onnx') == found
    static = Program({'s16': PointProgram('', 16, (), '')}, {})
    assert describe(gated, static, 'packed').points[0].top1 is None
    averages = dataclasses.replace(gated, weights='ema')
    assert describe(averages, whole, 'packed').budgets == ()


@pytest.mark.parametrize('change', [{'weights': 'ema'}, {'prefix': 'model-2'}])
def test_scores_of_other_weights_are_not_those_of_the_file(change, source, tmp_path):
    if 'prefix' in change:
        change = {'prefix': str(tmp_path / 'run' / 'model-2')}
    (large, _) = describe(dataclasses.replace(source, **change), WHOLE, 'packed').points
    assert large.top1 is None and large.evaluated is None and large.madds is not None


def test_a_checkpoint_that_lies_alone(source, tmp_path):
    alone = dataclasses.replace(source, prefix=str(tmp_path / 'alone' / 'model-1'), class_names=())
    found = describe(alone, WHOLE, 'float')
    assert found.points[0].madds is None and found.points[0].top1 is None
    assert found.source.training_images is None
    assert 'names not known' in formats.render(texts_table.tables(found), 'text')


def test_the_run_its_data_and_its_bits(source):
    found = describe(source, WHOLE, 'packed')
    about = found.source
    assert (about.run, about.checkpoint, about.weights) == ('run', 'model-1', 'raw')
    assert (about.training_images, about.training_crc32) == (7, 8)
    assert (about.validation_images, about.validation_content) == (3, '2' * 16)
    assert about.sha256 == digest(source.values)
    network = found.network
    assert (network.weights, network.activations, network.qw, network.qa) == ('lq', 'lq', 2, 2)
    assert (network.stem_bits, network.head_bits) == (32, 32)


@pytest.mark.parametrize('name', ['name', 'type', 'shape', 'value'])
def test_a_digest_sees_every_difference(name):
    values = {'a': np.zeros(4, np.float32), 'b': np.ones(2, np.float32)}
    other = dict(reversed(values.items()))
    assert digest(values) == digest(other)
    other['a'] = {
        'name': other.pop('a'),
        'type': np.zeros(4, np.int32),
        'shape': np.zeros((2, 2), np.float32),
        'value': np.float32([0, 0, 0, 1e-9]),
    }[name]
    if name == 'name':
        other['c'] = other.pop('a')
    assert digest(values) != digest(other)


@pytest.mark.parametrize('resizes', [True, False])
@pytest.mark.parametrize('resize', ['area', 'nearest', 'antialias', 'antialias_cubic'])
@pytest.mark.parametrize('augmentation', ['shift', 'area_crop'])
def test_preparation_is_complete(augmentation, resize, resizes, source):
    """Every step is on one side, whoever makes the sizes."""
    config = source.config.replacing(
        augmentation=augmentation, resize=resize, inputs='rgb:0.5,0.4,0.3:0.25,0.2,0.3'
    )
    source = dataclasses.replace(source, config=config)
    images = describe(source, WHOLE, 'packed', resizes=resizes).images
    assert images.mean == (0.5, 0.4, 0.3) and images.network_channels == 'RGB'
    assert images.inside[:2] == ('turn BGR into RGB', 'divide by 255')
    sized = [step for step in (*images.before, *images.inside) if 'size x size' in step]
    assert len(sized) == (not resize.startswith('antialias'))
    assert not sized or (sized[0] in images.inside) == resizes
    filters = {'antialias': 'BILINEAR', 'antialias_cubic': 'BICUBIC'}
    assert ('Pillow' in images.before[1]) == (resize in filters)
    assert filters.get(resize, '') in images.before[1]
    assert '{' not in images.before[1]
    assert images.dtype == ('uint8' if resizes else 'float32')
    assert images.view == (None if resize in filters else config.image_size)


def test_what_is_spelled_is_read(source):
    verified = (texts.VerifiedText('runtime 1.0', 's16', 500, 0),)
    found = dataclasses.replace(describe(source, WHOLE, 'packed'), verified=verified)
    spelled = found.spelled()
    assert spelled == describe(source, WHOLE, 'packed').spelled() | {
        'verified': texts.spell(verified)
    }
    assert texts.parse(spelled | {'later': '{'}, 'net.onnx') == found
    shown = formats.render(texts_table.tables(found), 'text')
    for part in ('90.50', 'cat, dog', 'runtime 1.0', digest(source.values)):
        assert part in shown
    data = json.loads(formats.render(texts_table.tables(found), 'json'))
    assert set(data) >= {'points', 'facts', 'verified'}
    assert data['points'][0]['top1'] == 90.5 and data['verified'][0]['differing'] == 0
    # Flat, for readers of a few lines.
    for text in spelled.values():
        value = json.loads(text)
        rows = value if isinstance(value, list) else [value]
        for row in rows:
            members = row.values() if isinstance(row, dict) else [row]
            for member in members:
                inner = member if isinstance(member, list) else [member]
                assert all(isinstance(one, str | int | float) for one in inner)


@pytest.mark.parametrize(
    'change, said',
    [
        ({'points': None}, '"points": is missing'),
        ({'points': '[]'}, 'points: at least one expected'),
        ({'points': '{'}, '"points": is no JSON'),
        ({'points': '[' * 100_000}, '"points": is no JSON'),
        ({'points': '[{"point":"s16","side":0,"size":16}]'}, '"points[0].side": 0, must be'),
        ({'network': '[]'}, '"network": [], an object expected'),
        ({'source': '{"run":"a"}'}, '"source.checkpoint": is missing'),
    ],
)
def test_texts_of_others_are_refused(change, said, source):
    spelled = describe(source, WHOLE, 'packed').spelled() | change
    spelled = {name: text for name, text in spelled.items() if text is not None}
    with pytest.raises(UsageError) as refused:
        texts.parse(spelled, 'net.onnx')
    assert str(refused.value).startswith('net.onnx: was not written by python -m scripts.export')
    assert said in str(refused.value)
