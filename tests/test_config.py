"""Configurations: where their values come from, what is refused, what is recorded, and the course of the rate."""

import dataclasses
import json
import math
import re

import pytest

import imagenet_tf
from engine.config import Config, learning_rate, read_config
from engine.errors import UsageError
from engine.presets import DATA_DEFAULTS, PRESETS

SMALL_SIZES = (28, 24, 20, 16, 12)
RS_SIZES = (224, 192, 160, 128, 96)


def resolve(**given):
    return imagenet_tf.resolve(given)


def config(**given) -> Config:
    return resolve(**{'data': 'animals28', **given})[0]


def notes(**given) -> str:
    return '\n'.join(resolve(**given)[2])


def test_defaults_are_the_published_recipe():
    c = Config()
    assert (c.mode, c.depth, c.qw, c.qa, c.wd, c.batch_size, c.lr, c.sizes) == (
        'resnet', 18, 32, 32, 5e-5, 256, 0.1, RS_SIZES)
    assert (c.epochs, c.steps_per_epoch, c.schedule, c.warmup, c.resize) == (120, 5000, 'step', 0, 'nearest')
    assert not (c.kd or c.fixed_qa or c.private_basis)


def test_fake_images_keep_the_published_recipe():
    found, dataset, _ = resolve(data='fake')
    published = dataclasses.replace(Config(), data='fake', steps_per_epoch=len(dataset.train) // 256)
    assert found == published


@pytest.mark.parametrize('field', sorted(DATA_DEFAULTS['animals28']))
def test_defaults_of_the_embedded_set(field):
    assert getattr(config(), field) == DATA_DEFAULTS['animals28'][field]


def test_the_embedded_set_decides_classes_crop_and_length():
    found, dataset, _ = resolve(data='animals28')
    assert (found.classes, found.image_size) == (10, 28)
    assert found.steps_per_epoch == len(dataset.train) // 64
    assert config(batch_size=100).steps_per_epoch == len(dataset.train) // 100


def test_a_batch_larger_than_the_set_still_has_a_step():
    assert config(batch_size=10 ** 6).steps_per_epoch == 1


@pytest.mark.parametrize('preset', PRESETS)
def test_a_preset_sets_all_that_it_names(preset):
    found = resolve(preset=preset, data='fake')[0]
    expected = {**PRESETS[preset].values, 'data': 'fake'}
    assert {key: getattr(found, key) for key in expected} == expected
    assert found.preset == preset
    assert PRESETS[preset].expect in notes(preset=preset, data='fake')


@pytest.mark.parametrize('given', [{'depth': 20}, {'kd': False}, {'epochs': 1}, {'lr': 1.0}, {'sizes': (28,)},
                                   {'qw': 1, 'qa': 3}, {'private_basis': False}, {'wd': 0.0}])
def test_flags_beat_the_preset(given):
    found = resolve(preset='demo', **given)[0]
    expected = {**PRESETS['demo'].values, **given}
    assert {key: getattr(found, key) for key in expected} == expected


def test_a_preset_beats_the_defaults_of_its_data():
    assert DATA_DEFAULTS['animals28']['epochs'] != PRESETS['study'].values['epochs']
    assert resolve(preset='study')[0].epochs == PRESETS['study'].values['epochs']


def test_no_data_means_the_embedded_set_with_an_eighth_of_the_pixels():
    found, dataset, said = resolve(sizes=(224, 160))
    assert (dataset.name, found.data, found.sizes) == ('animals28', 'animals28', (28, 20))
    assert 'no --data' in said[0]
    assert 'animals28' in said[0]


def test_no_data_no_sizes():
    found = resolve()[0]
    assert (found.sizes, found.depth, found.image_size) == (SMALL_SIZES, 8, 28)


def test_data_that_is_named_leaves_sizes_and_is_not_remarked():
    assert config(sizes=(64, 48)).sizes == (64, 48)
    assert 'no --data' not in notes(data='animals28')


def test_a_published_preset_needs_data():
    with pytest.raises(UsageError, match='--preset rs18_w2a2.*--data'):
        resolve(preset='rs18_w2a2')


@pytest.mark.parametrize('given, sizes, depth', [
    ({}, '28 24 20 16 12', 8), ({'sizes': (64, 96)}, '8 12', 8),
    ({'sizes': (28, 24), 'depth': 20}, '28 24', 20)])
def test_the_note_names_the_sizes_and_the_depth_that_are_used(given, sizes, depth):
    assert f'sizes {sizes}' in notes(**given)
    assert f'depth {depth}' in notes(**given)


def test_the_note_only_speaks_of_sizes_that_were_divided():
    assert 'divided' not in notes(sizes=(28, 24))


@pytest.mark.parametrize('sizes', [(96, 97), (40, 60), (224, 32), (32, 224), (40, 16)])
def test_sizes_that_cannot_be_divided_are_quoted_as_given(sizes):
    with pytest.raises(UsageError, match=f'^--sizes {sizes[0]} {sizes[1]}: without --data'):
        resolve(sizes=sizes)


@pytest.mark.parametrize('qa, mode', [(32, 'resnet'), (2, 'preact'), (8, 'preact')])
def test_mode_follows_from_qa_and_is_said(qa, mode):
    assert config(qa=qa).mode == mode
    assert f'mode {mode}' in notes(data='animals28', qa=qa)


def test_a_mode_that_is_given_is_not_remarked():
    assert config(qa=2, mode='preact_typeA').mode == 'preact_typeA'
    assert 'mode' not in notes(data='animals28', mode='preact')


def test_sizes_are_sorted():
    assert config(sizes=(12, 28, 20)).sizes == (28, 20, 12)


def test_the_crop_holds_the_largest_size():
    assert config(sizes=(40, 16)).image_size == 40
    assert config(image_size=36).image_size == 36


@pytest.mark.parametrize('given, parts', [
    ({'sizes': (28, 28)}, ('--sizes 28 28', 'repeated')),
    ({'sizes': (12, 28, 12)}, ('--sizes 12 28 12', 'repeated')),
    ({'sizes': (28, 7)}, ('--sizes 28 7', 'at least 8')),
    ({'qa': 2, 'mode': 'resnet'}, ('--qa 2', '--mode resnet', '--mode preact')),
    ({'qw': 9}, ('--qw 9', '1 to 8', '32')),
    ({'qw': 0}, ('--qw 0', '1 to 8')),
    ({'qa': 16, 'mode': 'preact'}, ('--qa 16', '1 to 8')),
    ({'batch_size': 63, 'gpu': (0, 1)}, ('--batch_size 63', '2 towers', '--gpu')),
    ({'batch_size': 0}, ('--batch_size 0', 'greater')),
    ({'batch_size': -64}, ('--batch_size -64', 'greater')),
    ({'epochs': 0}, ('--epochs 0', 'greater')),
    ({'steps_per_epoch': 0}, ('--steps_per_epoch 0', 'greater')),
    ({'lr': 0.0}, ('--lr 0', 'greater')),
    ({'width': -1.0}, ('--width -1', 'greater')),
    ({'depth': 19}, ('--depth 19', '18', '50', '152')),
    ({'mode': 'post'}, ('--mode post', 'resnet', 'preact_typeA')),
    ({'net': 'vgg'}, ('--net vgg', 'resnet')),
    ({'seed': -1}, ('--seed -1', 'at least 0')),
    ({'warmup': -1.0}, ('--warmup -1', 'at least 0')),
    ({'wd': -1.0}, ('--wd -1', 'at least 0')),
    ({'wd': math.nan}, ('--wd nan', 'at least 0')),
    ({'lr': math.nan}, ('--lr nan', 'greater')),
    ({'lr': math.inf}, ('--lr inf', 'greater')),
    ({'width': math.inf}, ('--width inf', 'greater')),
    ({'image_size': 16}, ('--image_size 16', '28')),
    ({'image_size': 0}, ('--image_size 0', 'at least 1')),
    ({'resize': 'cubic'}, ('--resize cubic', 'nearest, area')),
    ({'schedule': 'linear'}, ('--schedule linear', 'step, cosine')),
    ({'kd': True, 'kd_type': 'none'}, ('--kd_type none', 'ens_topdown')),
    ({'trainer': 'horovod'}, ('--trainer horovod', 'replicated')),
    ({'qa': 2, 'fixed_qa': True, 'private_basis': True}, ('--fixed_qa', '--private_basis')),
    ({'data': 'nothing'}, ('--data nothing', 'animals28', 'cifar10:DIR'))])
def test_bad_values_are_named_with_what_would_be_right(given, parts):
    with pytest.raises(UsageError) as caught:
        config(**given)
    assert [part for part in parts if part not in str(caught.value)] == []


def test_no_size_at_all():
    with pytest.raises(UsageError, match='--sizes'):
        Config(sizes=()).check()


@pytest.mark.parametrize('given', [{}, {'preset': 'rs50_w2a2'}, {'gpu': (0, 1), 'load': 'x/model-5', 'width': 0.5}])
def test_survives_json(given, tmp_path):
    there = resolve(**{'data': 'fake', **given})[0]
    assert Config.from_json(json.loads(json.dumps(there.to_json())), 'here') == there
    (tmp_path / 'config.json').write_text(json.dumps(there.to_json()))
    assert read_config(tmp_path / 'config.json') == there
    assert hash(read_config(tmp_path / 'config.json')) == hash(there)


def test_an_unknown_field_is_named():
    with pytest.raises(UsageError, match=r"some\.json: unknown field 'qx'"):
        Config.from_json({'qw': 2, 'qx': 3}, 'some.json')


def test_fields_that_an_older_file_lacks_have_their_defaults():
    assert Config.from_json({'qw': 2}, 'here') == Config(qw=2)


@pytest.mark.parametrize('content', ['', '{', '{"qw": 2', '\x00\x01'])
def test_an_unreadable_file_is_named(content, tmp_path):
    (tmp_path / 'config.json').write_text(content)
    with pytest.raises(UsageError, match=r'config\.json: no readable run configuration'):
        read_config(tmp_path / 'config.json')


def test_a_file_of_bytes_and_a_missing_file(tmp_path):
    (tmp_path / 'bytes').write_bytes(b'\xff\xfe\x00')
    for name in ('bytes', 'missing'):
        with pytest.raises(UsageError, match=name):
            read_config(tmp_path / name)


@pytest.mark.parametrize('content', ['null', '[]', '3', '["qw"]'])
def test_json_that_is_no_object(content, tmp_path):
    (tmp_path / 'config.json').write_text(content)
    with pytest.raises(UsageError, match=r'config\.json: no run configuration \(it holds'):
        read_config(tmp_path / 'config.json')


@pytest.mark.parametrize('given, name', [
    ({}, 'resnet18-32-32-224-192-160-128-96-x'),
    ({'mode': 'preact', 'depth': 50, 'qw': 2, 'qa': 3, 'sizes': (96,)}, 'preact50-2-3-96-x'),
    ({'kd': True, 'fixed_qa': True, 'sizes': (96,)}, 'resnet18-32-32-96-distill-fixed_qa-x'),
    ({'private_basis': True, 'seed': 3, 'width': 0.5, 'load': 'y', 'sizes': (96,)},
     'resnet18-32-32-96-private-width0.5-seed3-finetune-x'),
    ({'data': '/data/ILSVRC2012/', 'sizes': (96,)}, 'resnet18-32-32-96-ILSVRC2012'),
    ({'data': 'cifar10:data/py', 'sizes': (96,)}, 'resnet18-32-32-96-py')])
def test_name_of_the_run_folder(given, name):
    assert Config(**{'data': 'x', **given}).name == name


@pytest.mark.parametrize('given, body, stem', [
    ({}, (None, None), (None, None)),
    ({'qw': 2}, (2, None), (None, None)),
    ({'qw': 1, 'qa': 3}, (1, 3), (None, None)),
    ({'qa': 4}, (None, 4), (None, None))])
def test_policy(given, body, stem):
    policy = Config(**given).policy
    for role, expected in (('body', body), ('shortcut', body), ('stem', stem), ('head', stem)):
        found = [getattr(half('any', role), 'bits', None) for half in (policy.weight, policy.activation)]
        assert found == list(expected)


@pytest.mark.parametrize('private', [False, True])
@pytest.mark.parametrize('fixed', [False, True])
def test_policy_of_activation_bases(private, fixed):
    quantizer = Config(qa=2, private_basis=private, fixed_qa=fixed).policy.activation('any', 'body')
    assert (quantizer.private, quantizer.update) == (private, 'strongest' if fixed else 'all')


def oracle_step(epoch: int) -> float:
    """The published schedule: value from each epoch on."""
    rate = 0.1
    for start, value in {30: 1e-2, 60: 1e-3, 85: 1e-4, 95: 1e-5, 105: 1e-6}.items():
        if epoch >= start:
            rate = value
    return rate


@pytest.mark.parametrize('steps', [1, 7, 5000])
def test_step_schedule_at_every_epoch(steps):
    rate = learning_rate(Config(steps_per_epoch=steps))
    for epoch in range(120):
        assert rate(epoch * steps) == rate(epoch * steps + steps - 1) == oracle_step(epoch)


@pytest.mark.parametrize('lr', [0.4, 0.02])
def test_lr_changes_only_the_first_part(lr):
    rate = learning_rate(Config(lr=lr, steps_per_epoch=10))
    assert [rate(10 * epoch) for epoch in (0, 29, 30, 60, 85, 95, 105, 119)] == [
        lr, lr, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-6]


@pytest.mark.parametrize('epochs', [24, 60, 240])
def test_step_schedule_scales_with_the_epochs(epochs):
    rate = learning_rate(Config(epochs=epochs, steps_per_epoch=10))
    for step in range(0, epochs * 10, 5):
        assert rate(step) == oracle_step(step * 120 // (epochs * 10))


def test_step_schedule_warms_up():
    rate = learning_rate(Config(warmup=2, steps_per_epoch=5))
    assert [rate(step) for step in range(12)] == pytest.approx([0.01 * k for k in range(1, 11)] + [0.1, 0.1])


@pytest.mark.parametrize('warmup', [0.0, 0.5, 2.0])
def test_cosine_with_warm_up(warmup):
    epochs, steps, lr = 5, 8, 0.3
    rate = learning_rate(Config(schedule='cosine', warmup=warmup, epochs=epochs, steps_per_epoch=steps, lr=lr))
    warm, total = int(warmup * steps), epochs * steps
    expected = [lr * (k + 1) / warm for k in range(warm)]
    expected += [lr * math.cos(math.pi / 2 * (k - warm) / (total - warm)) ** 2 for k in range(warm, total)]
    assert [rate(k) for k in range(total)] == pytest.approx(expected)
    assert rate(total) == pytest.approx(0)


def test_cosine_that_is_all_warm_up():
    rate = learning_rate(Config(schedule='cosine', warmup=2, epochs=1, steps_per_epoch=4, lr=0.8))
    assert [rate(k) for k in range(4)] == pytest.approx([0.1, 0.2, 0.3, 0.4])


@pytest.mark.parametrize('steps', [1, 3, 125])
def test_the_rate_never_exceeds_lr(steps):
    rate = learning_rate(Config(schedule='cosine', warmup=0.5, epochs=4, steps_per_epoch=steps))
    assert max(rate(step) for step in range(4 * steps)) <= 0.1


def test_every_flag_of_a_field_reaches_it():
    fields = {field.name for field in dataclasses.fields(Config)}
    flags = {action.dest for action in imagenet_tf.parser()._actions}
    assert fields - flags == {'classes'}


@pytest.mark.parametrize('argv, expected', [
    ('--preset demo --no-kd', {'preset': 'demo', 'kd': False}),
    ('--no-fixed-qa --no-private-basis', {'fixed_qa': False, 'private_basis': False}),
    ('--no-fixed_qa', {'fixed_qa': False}),
    ('--batch-size 8 --steps-per-epoch=3 --image-size 32', {'batch_size': 8, 'steps_per_epoch': 3, 'image_size': 32}),
    ('--kd-type=ens_topdown', {'kd_type': 'ens_topdown'}),
    ('--load=a-b --data c-d', {'load': 'a-b', 'data': 'c-d'}),
    ('-s 24 28 -d 8', {'sizes': (24, 28), 'depth': 8}),
    ('--gpu 2,0', {'gpu': (2, 0)}),
    ('--fake', {'data': 'fake'}),
    ('', {})])
def test_flags(argv, expected):
    assert imagenet_tf.explicit(imagenet_tf.parse(argv.split())) == expected


@pytest.mark.parametrize('preset', [name for name in PRESETS if name.startswith('rs')])
def test_published_presets_say_where_their_number_was_read(preset):
    assert re.match(r'\d\d\.\d(/\d\d\.\d){4}; .*README', PRESETS[preset].expect)
