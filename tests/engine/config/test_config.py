"""Configurations.

Where their values come from, what is refused, what is recorded, and the course of the rate.
"""

import copy
import dataclasses
import json
import math
import os
import pickle
import re
import shlex

import pytest

import nets
from engine.config import cli, groups
from engine.config import resolve as resolving
from engine.config.config import Config, read_config
from engine.config.presets import PRESETS
from engine.data import animals28
from engine.errors import UsageError

SMALL_SIZES = (28, 24, 20, 16, 12)
RS_SIZES = (224, 192, 160, 128, 96)


def resolve(**given):
    return resolving.resolve(given)


def config(**given) -> Config:
    return resolve(**{'data': 'animals28', **given})[0]


def notes(**given) -> str:
    return '\n'.join(resolve(**given)[2])


def test_what_is_loaded_is_named_as_it_was_given():
    given = {'data': 'animals28', 'load': 'some/run'}
    loaded = config(width=0.5)
    resolved, _, said = resolving.resolve(given, loaded)
    assert any(note.startswith('as --load some/run: ') and '--width 0.5' in note for note in said)
    assert resolved.load == os.path.abspath('some/run')


def test_defaults_are_the_published_recipe():
    c = Config.from_values()
    assert (c.net, c.mode, c.arch, c.qw, c.qa, c.wd, c.batch_size, c.lr, c.sizes) == (
        'rsnet',
        'resnet',
        'resnet18',
        32,
        32,
        5e-5,
        256,
        0.1,
        RS_SIZES,
    )
    assert (c.epochs, c.steps_per_epoch, c.schedule, c.warmup, c.resize) == (
        120,
        5000,
        'step',
        0,
        'nearest',
    )
    assert (c.kd_type, c.inputs, c.decay, c.nesterov) == (
        'ens_topdown',
        'normalized_bgr',
        'kernels',
        True,
    )
    assert not (c.kd or c.fixed_qa or c.private_basis)


def test_options_have_one_owner():
    """So that reading an option by name alone is never another one."""
    own = {field.name for field in dataclasses.fields(Config)}
    for net in nets.names():
        names = [name for cls in groups.of_net(net).values() for name in groups.field_names(cls)]
        assert len(set(names)) == len(names)
        assert set(names) & {*own, *vars(Config)} == set()


def test_an_option_of_other_networks_is_neither_read_nor_set():
    found = Config.from_values(net='aig')
    with pytest.raises(AttributeError, match="^no option 'encoding' of --net aig$"):
        found.encoding  # noqa: B018
    with pytest.raises(AttributeError, match="^no option 'batchsize' of --net aig$"):
        found.batchsize  # noqa: B018
    for change in (found.replacing, Config.from_values):
        with pytest.raises(UsageError, match='^--encoding: --net (aig|rsnet) has no such option'):
            change(encoding=24.0)
    with pytest.raises(TypeError):
        dataclasses.replace(found, batch_size=2)


def test_of_another_network_the_options_that_both_have_stay():
    found = Config.from_values(net='san', kd=True, kd_type='topdown', encoding=24.0, lr=0.5)
    other = found.replacing(net='msdnet')
    assert (other.kd, other.kd_type, other.lr) == (True, 'topdown', 0.5)
    assert not hasattr(other, 'encoding')
    assert found.replacing(net='aig').adjusted(kd=True, lr=0.25) == Config.from_values(
        net='aig', lr=0.25
    )


def test_a_configuration_can_be_copied():
    found = Config.from_values(net='san', encoding=24.0)
    assert copy.deepcopy(found) == pickle.loads(pickle.dumps(found)) == found


def test_fake_images_keep_the_published_recipe():
    found, dataset, _ = resolve(data='fake')
    published = Config.from_values().replacing(
        data='fake', dataset='fake', steps_per_epoch=len(dataset.train) // 256
    )
    assert found == published


@pytest.mark.parametrize('field', sorted(animals28.SPEC.options()))
def test_defaults_of_the_embedded_set(field):
    assert getattr(config(), field) == animals28.SPEC.options()[field]


def test_the_embedded_set_decides_classes_crop_and_length():
    found, dataset, _ = resolve(data='animals28')
    assert (found.classes, found.image_size) == (10, 28)
    assert found.steps_per_epoch == len(dataset.train) // 64
    assert config(batch_size=100).steps_per_epoch == len(dataset.train) // 100


def test_a_batch_larger_than_the_set_still_has_a_step():
    assert config(batch_size=10**6).steps_per_epoch == 1


@pytest.mark.parametrize('preset', PRESETS)
def test_a_preset_sets_all_that_it_names(preset):
    found = resolve(preset=preset, data='fake')[0]
    expected = {**PRESETS[preset].values, 'data': 'fake'}
    assert {key: getattr(found, key) for key in expected} == expected
    assert found.preset == preset
    assert PRESETS[preset].expect in notes(preset=preset, data='fake')


@pytest.mark.parametrize(
    'given',
    [
        {'arch': 'resnet20'},
        {'kd': False},
        {'epochs': 1},
        {'lr': 1.0},
        {'sizes': (28,)},
        {'qw': 1, 'qa': 3},
        {'private_basis': False},
        {'wd': 0.0},
    ],
)
def test_flags_beat_the_preset(given):
    found = resolve(preset='demo', **given)[0]
    expected = {**PRESETS['demo'].values, **given}
    assert {key: getattr(found, key) for key in expected} == expected


def test_a_preset_beats_the_defaults_of_its_data():
    assert animals28.SPEC.training['epochs'] != PRESETS['study'].values['epochs']
    assert resolve(preset='study')[0].epochs == PRESETS['study'].values['epochs']


def test_no_data_means_the_embedded_set_with_an_eighth_of_the_pixels():
    found, dataset, said = resolve(sizes=(224, 160))
    assert (dataset.name, found.data, found.sizes) == ('animals28', 'animals28', (28, 20))
    assert 'no --data' in said[0]
    assert 'animals28' in said[0]


def test_no_data_no_sizes():
    found = resolve()[0]
    assert (found.sizes, found.arch, found.image_size) == (SMALL_SIZES, 'resnet8', 28)


def test_data_that_is_named_leaves_sizes_and_is_not_remarked():
    assert config(sizes=(64, 48)).sizes == (64, 48)
    assert 'no --data' not in notes(data='animals28')


def test_a_published_preset_needs_data():
    with pytest.raises(UsageError, match='--preset rs18_w2a2.*--data'):
        resolve(preset='rs18_w2a2')


@pytest.mark.parametrize(
    'given, sizes, arch',
    [
        ({}, '28 24 20 16 12', 'resnet8'),
        ({'sizes': (64, 96)}, '8 12', 'resnet8'),
        ({'sizes': (28, 24), 'arch': 'resnet20'}, '28 24', 'resnet20'),
    ],
)
def test_the_note_names_the_sizes_and_the_architecture_that_are_used(given, sizes, arch):
    assert f'sizes {sizes}' in notes(**given)
    assert arch in notes(**given)


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


PYTORCH_SAN = {'net': 'san', 'arch': 'resnet8', 'mode': 'pytorch', 'kd_type': 'topdown'}
NEW_CHECKS = [
    (
        {'inputs': 'rgb'},
        ('--inputs rgb', 'normalized_bgr, normalized_rgb, cifar_rgb', 'cifar100_rgb, unit_rgb'),
    ),
    ({'decay': 'none'}, ('--decay none', 'kernels, all')),
    ({'gamma': 0.0}, ('--gamma 0', 'greater')),
    ({'gamma': math.nan}, ('--gamma nan', 'greater')),
    (
        {'kd': True, 'kd_type': 'topdown'},
        ('--kd_type topdown', 'ens_topdown, ens, none'),
    ),
    ({**PYTORCH_SAN, 'kd_type': 'ens'}, ('--kd_type ens', 'topdown')),
    ({**PYTORCH_SAN, 'mode': 'preact'}, ('--net san', '--mode preact', 'pytorch')),
    ({**PYTORCH_SAN, 'init': 'zero'}, ('--init zero', 'published, scaled')),
    ({**PYTORCH_SAN, 'encoding': 0.0}, ('--encoding 0.0', 'greater than 0')),
    ({**PYTORCH_SAN, 'encoding': math.inf}, ('--encoding inf', 'greater than 0')),
    (
        {'arch': 'mobilenetv2', 'mode': 'preact'},
        ('--arch mobilenetv2', '--mode preact', 'pytorch only'),
    ),
    ({'arch': 'resnext50_32x4d', 'width': 0.5}, ('--arch resnext50_32x4d', 'width 1')),
    ({'arch': 'vgg16'}, ('--arch vgg16', 'mobilenetv2')),
]


@pytest.mark.parametrize(
    'given, parts',
    [
        ({'sizes': (28, 28)}, ('--sizes 28 28', 'repeated')),
        ({'sizes': (12, 28, 12)}, ('--sizes 12 28 12', 'repeated')),
        ({'sizes': (28, 7)}, ('--sizes 28 7', 'at least 8')),
        ({'qa': 2, 'mode': 'resnet'}, ('--qa 2', '--mode resnet', '--mode preact')),
        ({'qw': 9}, ('--qw 9', '1 to 8', '32')),
        ({'qw': 0}, ('--qw 0', '1 to 8')),
        ({'qa': 16, 'mode': 'preact'}, ('--qa 16', '1 to 8')),
        ({'batch_size': 63, 'gpu': (0, 1)}, ('--batch_size 63', '2 towers', '--gpu')),
        ({'batch_size': 0}, ('--batch_size 0', 'at least 1')),
        ({'batch_size': 1, 'mixup': 0.2}, ('--batch_size 1 with --mixup', 'two images to mix')),
        ({'mixup': -1.0}, ('--mixup -1', 'at least 0')),
        ({'cutmix': math.nan}, ('--cutmix nan', 'at least 0')),
        ({'val_interval': 0}, ('--val_interval 0', 'at least 1')),
        ({'val_split': 1.0}, ('--val_split 1.0', 'below 1')),
        ({'augmentation': 'flip'}, ('--augmentation', "'flip'", 'area_crop, shift')),
        ({'batch_size': -64}, ('--batch_size -64', 'at least 1')),
        ({'epochs': 0}, ('--epochs 0', 'at least 1')),
        ({'steps_per_epoch': 0}, ('--steps_per_epoch 0', 'at least 1')),
        ({'lr': 0.0}, ('--lr 0', 'greater')),
        ({'width': -1.0}, ('--width -1', 'greater')),
        ({'arch': 'resnet19'}, ('--arch resnet19', 'resnet18', 'resnext50_32x4d')),
        ({'mode': 'post'}, ('--mode post', 'resnet', 'preact_typeA')),
        ({'net': 'vgg'}, ('--net vgg', 'rsnet')),
        ({'seed': -1}, ('--seed -1', 'at least 0')),
        ({'warmup': -1.0}, ('--warmup -1', 'at least 0')),
        ({'wd': -1.0}, ('--wd -1', 'at least 0')),
        ({'wd': math.nan}, ('--wd nan', 'at least 0')),
        ({'lr': math.nan}, ('--lr nan', 'greater')),
        ({'lr': math.inf}, ('--lr inf', 'greater')),
        ({'width': math.inf}, ('--width inf', 'greater')),
        ({'image_size': 16}, ('--image_size 16', '28')),
        ({'image_size': 0}, ('--image_size 0', 'at least 1')),
        ({'sizes': (28,), 'for_cascades': True}, ('--for_cascades with --sizes 28', 'two of them')),
        ({'resize': 'cubic'}, ('--resize cubic', 'nearest, area, antialias')),
        ({'schedule': 'poly'}, ('--schedule poly', 'step, cosine, linear, milestones')),
        *NEW_CHECKS,
        ({'kd': True, 'kd_type': 'half'}, ('kd_type half', 'ens_topdown')),
        ({'trainer': 'horovod'}, ('--trainer horovod', 'replicated')),
        ({'qa': 2, 'fixed_qa': True, 'private_basis': True}, ('--fixed_qa', 'private_basis')),
        ({'data': 'nothing'}, ('--data nothing', 'animals28', 'cifar10:DIR')),
    ],
)
def test_bad_values_are_named_with_what_would_be_right(given, parts):
    with pytest.raises(UsageError) as caught:
        config(**given)
    assert [part for part in parts if part not in str(caught.value)] == []


def test_no_size_at_all():
    with pytest.raises(UsageError, match='--sizes'):
        Config.from_values(sizes=()).check()


@pytest.mark.parametrize(
    'given', [{}, {'preset': 'rs50_w2a2'}, {'gpu': (0, 1), 'load': 'x/model-5', 'width': 0.5}]
)
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
    assert Config.from_json({'qw': 2}, 'here') == Config.from_values(qw=2)


@pytest.mark.parametrize('content', ['', '{', '{"qw": 2', '\x00\x01'])
def test_an_unreadable_file_is_named(content, tmp_path):
    (tmp_path / 'config.json').write_text(content)
    with pytest.raises(UsageError, match=r'config\.json: damaged'):
        read_config(tmp_path / 'config.json')


def test_a_file_of_bytes_and_a_missing_file(tmp_path):
    (tmp_path / 'bytes').write_bytes(b'\xff\xfe\x00')
    for name in ('bytes', 'missing'):
        with pytest.raises(UsageError, match=name):
            read_config(tmp_path / name)


@pytest.mark.parametrize('content', ['null', '[]', '3', '["qw"]'])
def test_json_that_is_no_object(content, tmp_path):
    (tmp_path / 'config.json').write_text(content)
    with pytest.raises(UsageError, match=r'config\.json: damaged \(.*an object expected'):
        read_config(tmp_path / 'config.json')


@pytest.mark.parametrize(
    'given, name',
    [
        ({}, 'resnet18-32-32-224-192-160-128-96-x'),
        (
            {'mode': 'preact', 'arch': 'resnet50', 'qw': 2, 'qa': 3, 'sizes': (96,)},
            'preact50-2-3-96-x',
        ),
        ({'mode': 'pytorch', 'arch': 'resnet50', 'sizes': (96,)}, 'rsnet-resnet50-32-32-96-x'),
        (
            {'net': 'san', 'mode': 'pytorch', 'arch': 'mobilenetv2', 'sizes': (96,), 'kd': True},
            'san-mobilenetv2-32-32-96-distill-x',
        ),
        ({'kd': True, 'fixed_qa': True, 'sizes': (96,)}, 'resnet18-32-32-96-distill-fixed_qa-x'),
        (
            {'private_basis': True, 'seed': 3, 'width': 0.5, 'load': 'y', 'sizes': (96,)},
            'resnet18-32-32-96-private-width0.5-seed3-finetune-x',
        ),
        ({'sync_bn': True, 'bf16': True, 'sizes': (96,)}, 'resnet18-32-32-96-sync-bf16-x'),
        ({'data': '/data/ILSVRC2012/', 'sizes': (96,)}, 'resnet18-32-32-96-ILSVRC2012'),
        ({'data': 'cifar10:data/py', 'sizes': (96,)}, 'resnet18-32-32-96-py'),
    ],
)
def test_name_of_the_run_folder(given, name):
    assert Config.from_values(**{'data': 'x', **given}).name == name


@pytest.mark.parametrize(
    'given, body, stem',
    [
        ({}, (None, None), (None, None)),
        ({'qw': 2}, (2, None), (None, None)),
        ({'qw': 1, 'qa': 3}, (1, 3), (None, None)),
        ({'qa': 4}, (None, 4), (None, None)),
    ],
)
def test_policy(given, body, stem):
    policy = Config.from_values(**given).quantization.to_policy()
    for role, expected in (('body', body), ('shortcut', body), ('stem', stem), ('head', stem)):
        found = [
            getattr(half('any', role), 'bits', None) for half in (policy.weight, policy.activation)
        ]
        assert found == list(expected)


@pytest.mark.parametrize(('private', 'fixed'), [(False, False), (True, False), (False, True)])
def test_policy_of_activation_bases(private, fixed):
    policy = Config.from_values(
        qa=2, private_basis=private, fixed_qa=fixed
    ).quantization.to_policy()
    quantizer = policy.activation('any', 'body')
    assert (quantizer.private, quantizer.update) == (private, 'strongest' if fixed else 'all')


def test_every_flag_of_a_field_reaches_it():
    fields = {name for net in nets.names() for name in Config.from_values(net=net).flat()}
    dests = {action.dest for action in cli.parser()._actions}
    settled = {'operation_threads', 'rewriting'}
    of_data = {'classes', 'class_weights', 'dataset'}
    of_commands = {'absolute', 'closed_blocks', 'open_blocks', 'sized', 'stages', 'widths'}
    of_commands.add('used_bits')
    assert fields - dests == settled | of_data | of_commands


@pytest.mark.parametrize(
    'given',
    [
        *(
            {'preset': name}
            for name, preset in PRESETS.items()
            if preset.values.get('data') == 'animals28'
        ),
        {
            'preset': 'demo',
            'qw': 2,
            'qa': 2,
            'load': 'a run/model-5',
            'epochs': 2,
            'lr': 0.005,
            'kd': False,
            'seed': 3,
        },
        {'preset': 'demo-aig', 'targets': (0.5, 1.0) + 7 * (0.4,), 'gpu': (1, 0)},
        {'preset': 'rs18_w2a2', 'data': 'fake'},
        {'preset': 'demo-dsnet-gate', 'target_madds': 250e6, 'routes': (0, 5)},
        {'data': 'animals28', 'sizes': (28, 20)},
        {
            'data': 'animals28',
            'net': 'msdnet',
            'exit_weights': (1.0, 2.0),
            'nBlocks': 2,
            'bottleneck': False,
        },
        {'data': 'fake', 'net': 'dsnet', 'image_size': 256},
        {'data': 'fake', 'qa': 4},
        {'data': 'fake', 'bits': ('4', '2:4')},
        {'data': 'fake', 'weight_quantizer': 'lq(bits=(4, 2), nested=True)'},
        {'preset': 'rs18_w2a2', 'data': 'fake', 'bits': ('4', '2'), 'qw': 4, 'qa': 4},
    ],
)
def test_the_command_of_a_configuration_gives_it(given):
    expected = resolve(**given)[0]
    words = shlex.split(cli.command(expected))
    assert words[:2] == ['python', 'imagenet_tf.py']
    assert resolve(**cli.explicit(cli.parse(words[2:])))[0] == expected


def test_a_command_says_bits_once():
    both = ['--bits', '4', '2']
    words = shlex.split(cli.command(resolve(data='fake', bits=('4', '2'))[0]))
    assert [word for word in words if word in ('--bits', '--qw', '--qa')] == ['--bits']
    assert words[words.index('--bits') :][:3] == both
    spec = 'lq(bits=(4, 2), nested=True)'
    words = shlex.split(cli.command(resolve(data='fake', weight_quantizer=spec)[0]))
    assert spec in words and not {'--bits', '--qw', '--qa'} & set(words)


@pytest.mark.parametrize(
    'argv, expected',
    [
        ('--preset demo --no-kd', {'preset': 'demo', 'kd': False}),
        ('--no-fixed-qa --no-private-basis', {'fixed_qa': False, 'private_basis': False}),
        ('--no-fixed_qa', {'fixed_qa': False}),
        (
            '--batch-size 8 --steps-per-epoch=3 --image-size 32',
            {'batch_size': 8, 'steps_per_epoch': 3, 'image_size': 32},
        ),
        ('--kd-type=ens_topdown', {'kd_type': 'ens_topdown'}),
        ('--kd-type=none', {'kd_type': 'none'}),
        ('--load=a-b --data c-d', {'load': 'a-b', 'data': 'c-d'}),
        ('-s 24 28 -d 8', {'sizes': (24, 28), 'arch': 'resnet8'}),
        ('--depth 50', {'arch': 'resnet50'}),
        ('--arch mobilenetv2', {'arch': 'mobilenetv2'}),
        (
            '--milestones 3 5 --gamma .2 --no-nesterov',
            {'milestones': (3, 5), 'gamma': 0.2, 'nesterov': False},
        ),
        ('--gpu 2,0', {'gpu': (2, 0)}),
        ('--fake', {'data': 'fake'}),
        ('', {}),
    ],
)
def test_flags(argv, expected):
    assert cli.explicit(cli.parse(argv.split())) == expected


@pytest.mark.parametrize('argv', ['-d 18 --arch resnet18', '--arch mobilenetv2 --depth 18'])
def test_two_ways_of_naming_the_architecture_are_not_mixed(argv):
    with pytest.raises(UsageError, match=r'^-d 18 with --arch \w+: give one of them$'):
        cli.explicit(cli.parse(argv.split()))


# The settings that reach the published numbers, FACTS_RSF section 6 and FACTS_SAN section 6.
PUBLISHED = {
    'mode': 'pytorch',
    'inputs': 'unit_rgb',
    'resize': 'antialias',
    'decay': 'all',
    'nesterov': False,
    'kd': True,
    'batch_size': 256,
    'schedule': 'cosine',
    'warmup': 0,
    'sizes': RS_SIZES,
    'qw': 32,
    'qa': 32,
    'width': 1,
    'image_size': 224,
    'classes': 1000,
}
RESNETS = {**PUBLISHED, 'epochs': 120, 'lr': 0.1, 'wd': 1e-4}
MOBILENETS = {**PUBLISHED, 'epochs': 150, 'lr': 0.05, 'wd': 4e-5, 'arch': 'mobilenetv2'}
RS, SAN = (
    {'net': 'rsnet', 'kd_type': 'ens_topdown'},
    {'net': 'san', 'kd_type': 'topdown', 'encoding': 320, 'init': 'published'},
)
RECIPES = {
    'rsnet18': {**RESNETS, **RS, 'arch': 'resnet18'},
    'rsnet50': {**RESNETS, **RS, 'arch': 'resnet50'},
    'rsnet_mobilenetv2': {**MOBILENETS, **RS},
    'san_mobilenetv2': {**MOBILENETS, **SAN},
    'san18': {**RESNETS, **SAN, 'arch': 'resnet18'},
    'san50': {**RESNETS, **SAN, 'arch': 'resnet50'},
    'demo-san': {
        'net': 'san',
        'arch': 'resnet8',
        'mode': 'pytorch',
        'inputs': 'unit_rgb',
        'encoding': 40,
        'epochs': 4,
        'kd': True,
        'kd_type': 'topdown',
        'sizes': SMALL_SIZES,
        'data': 'animals28',
        'batch_size': 64,
    },
    'demo-mobilenet': {
        'net': 'rsnet',
        'arch': 'mobilenetv2_small',
        'mode': 'pytorch',
        'epochs': 4,
        'inputs': 'unit_rgb',
        'kd': True,
        'sizes': SMALL_SIZES,
        'data': 'animals28',
    },
}


@pytest.mark.parametrize('preset', RECIPES)
def test_recipes_of_the_presets(preset):
    found = resolve(preset=preset, **({} if preset.startswith('demo') else {'data': 'fake'}))[0]
    assert {key: getattr(found, key) for key in RECIPES[preset]} == RECIPES[preset]
    assert found.network().padding == 'symmetric'


@pytest.mark.parametrize(
    'given, recipe',
    [
        ({'net': 'san'}, 'san18'),
        ({'net': 'san', 'arch': 'mobilenetv2'}, 'san_mobilenetv2'),
        ({'arch': 'mobilenetv2'}, 'rsnet_mobilenetv2'),
    ],
)
def test_networks_of_pytorch_alone_come_with_their_recipe(given, recipe):
    found = resolve(data='fake', **given)[0]
    expected = {key: value for key, value in RECIPES[recipe].items() if key != 'kd'}
    assert {key: getattr(found, key) for key in expected} == expected


def test_view_sizes_are_those_the_flow_makes():
    assert resolve(data='fake', preset='rsnet18')[0].preprocessing.view_sizes == RS_SIZES
    assert resolve(data='fake')[0].preprocessing.view_sizes == (224,)


@pytest.mark.parametrize('preset', [name for name in PRESETS if name.startswith('rs')])
def test_published_presets_say_where_their_number_was_read(preset):
    assert re.match(r'\d\d\.\d(/\d\d\.\d){4}; .*README', PRESETS[preset].expect)
