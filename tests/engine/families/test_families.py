"""Families: one for every network, none needs TensorFlow, and each answers for its own."""

import re
import subprocess
import sys

import pytest

import nets
from engine import families
from engine.config.config import Config
from engine.errors import UsageError
from engine.families.aig import SCHEDULES, schedule
from engine.families.family import Family
from nets.aig import AIG
from nets.points import Point
from tests.paths import ROOT

PRESETS = families.presets()

# Target rates of ConvNet-AIG's README, where t is the rate of the preset.
README50 = {t: [1, 1, 0.8, 1, t, t, t, 1, t, t, t, t, t, 1, 0.7, 1] for t in (0.4, 0.5, 0.6, 0.7)}


def dsnet(**options) -> Config:
    return Config.from_values(
        net='dsnet', arch='mobilenetv1_small', mode='pytorch', sizes=(16,), **options
    )


def test_importing_families_imports_neither_tensorflow_nor_rooms_above():
    program = (
        'import sys\nfrom engine import families\nfamilies.presets()\n'
        "heavy = {'tensorflow', 'tensorpack', 'engine.graph', 'engine.evaluation'}\n"
        'print(sorted(heavy & set(sys.modules)))'
    )
    assert subprocess.check_output([sys.executable, '-c', program], cwd=ROOT) == b'[]\n'


@pytest.mark.parametrize('net', nets.names())
def test_every_network_has_presets_of_its_own(net):
    family = families.get(net)
    assert family.net == net and family.presets
    for preset in family.presets.values():
        assert preset.values.get('net', 'rsnet') == net


def test_a_network_without_a_family_gets_the_answers_of_most():
    family = families.get('another')
    config = Config.from_values()
    assert type(family) is Family and family.net == 'another'
    assert family.defaults('resnet18') == {} == dict(family.presets)
    assert family.evaluators(config) == family.folder_parts(config) == []
    assert family.calibrated(config, [208], None).sizes == (208,)
    assert family.lends_kernels('ideal')


def test_what_goes_on_from_a_preset_is_a_preset():
    followers = {preset.then for preset in PRESETS.values()} - {''}
    assert followers == {'dsnet_mbv1_gate', 'demo-dsnet-gate'}
    assert followers <= set(PRESETS)


QUANTIZERS = ('quantizer', 'weight_quantizer', 'activation_quantizer', 'policy')


@pytest.mark.parametrize('bits', [(32, 32), (4, 4), (2, 4), (2, 2)])
def test_what_goes_on_from_a_preset_has_its_quantizers(bits):
    given = dict(zip(('qw', 'qa'), bits))
    for preset in PRESETS.values():
        if not preset.then:
            continue
        before, after = preset.at(given), PRESETS[preset.then].at(given)
        for name in QUANTIZERS:
            assert before.get(name) == after.get(name)


def test_a_network_of_few_bits_does_not_teach_itself_where_another_teaches():
    few = {'qw': 2, 'qa': 2}
    taught = PRESETS['demo-dsnet'].at({**few, 'teacher': 'RUN'})
    assert (taught['label_weight'], taught['inplace_bootstrap']) == (0, False)
    alone = PRESETS['demo-dsnet'].at(few)
    assert alone['epochs'] == taught['epochs'] and 'inplace_bootstrap' not in alone


@pytest.mark.parametrize('net', ['rsnet', 'san', 'aig', 'msdnet'])
def test_widths_are_asked_of_networks_that_have_some(net):
    family = families.get(net)
    with pytest.raises(UsageError, match=f'-ew 0 3: --net {net} has no widths'):
        family.evaluated(Config.from_values(), [Point(size=224)], [0, 3])
    with pytest.raises(UsageError, match=f'--net {net}: is no slimmable network; give --sizes'):
        family.calibrated(Config.from_values(), None, [0])


@pytest.mark.parametrize(
    'asked, widths, stage',
    [
        (None, (0, 5, 13), 'gate'),
        ([0, 13], (0, 13), 'gate'),
        ([5, 13], (5, 13), 'supernet'),
    ],
)
def test_a_gate_is_evaluated_where_all_of_its_routes_are(asked, widths, stage):
    known = [Point(width=width) for width in (13, 5, 0)]
    config = dsnet(stage='gate', routes=(0, 13))
    found = families.get('dsnet').evaluated(config, known, asked)
    assert (found.widths, found.stage) == (widths, stage)


def test_evaluators_follow_the_configuration():
    configs = [Config.from_values(net=net) for net in ('rsnet', 'aig', 'msdnet')]
    kinds = []
    for config in (*configs, dsnet(), dsnet(stage='gate')):
        found = families.get(config.net).evaluators(config)
        kinds.append([type(one).__name__ for one in found])
    assert kinds == [[], ['Gates'], ['Exits'], [], ['Widths']]


def test_a_network_at_one_point():
    config = families.get('dsnet').at_point(dsnet(stage='gate', routes=(0, 13)), Point(width=5))
    assert (config.widths, config.stage, config.sizes) == ((5,), 'supernet', (16,))
    config = families.get('rsnet').at_point(Config.from_values(), Point(size=256))
    assert (config.sizes, config.image_size) == ((256,), 256)
    assert (
        families.get('rsnet').at_point(Config.from_values(), Point(size=160))
        == Config.from_values()
    )


def test_published_schedules():
    for rate, rates in README50.items():
        assert list(schedule('aig50', rate)) == rates
    assert schedule('aig101', 0.3) == (1.0,) * 8 + (0.3,) * 25
    assert set(SCHEDULES) == {'aig50', 'aig101'}


@pytest.mark.parametrize('name', families.get('aig').presets)
def test_presets_of_aig_are_networks(name):
    config = Config.from_values(**PRESETS[name].values)
    config.check()
    net = config.network()
    assert isinstance(net, AIG) and len(net.targets) == len(net.blocks)
    rate = re.fullmatch(r'aig(\d+)_t(.*)', name)
    if rate:
        assert config.arch == f'resnet{rate[1]}'
        assert net.targets == list(schedule(f'aig{rate[1]}', float(rate[2])))
        assert net.forced == [target == 1 for target in net.targets]
