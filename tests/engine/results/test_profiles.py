"""Times by device: never mixed, and what is said where it is not clear whose are meant."""

import json

import pytest

from engine import processor
from engine.errors import UsageError
from engine.results import profiles, selection, tables
from engine.results.profiles import Device
from scripts import choose

GPU = Device('A processor', 'NVIDIA H100', 2, 'tensorflow')
ONE = Device('A processor', '', 1, 'tensorflow')
NATIVE = Device('A processor', '', 1, 'native')
ALL = Device('A processor', '', 16, 'tensorflow')


def profiled(run, device, ms):
    about = {'processor': device.processor, 'gpu': device.gpu, 'backend': device.backend}
    record = {
        'device': {**about, 'threads': device.threads},
        'points': {'s28': {'batch1_ms': ms}, 's20': {'batch1_ms': ms / 2}},
    }
    (run / device.file).write_text(json.dumps(record))


@pytest.fixture
def several(static):
    """A run that was profiled on two devices; the file without a device is gone."""
    (static / 'profile.json').unlink()
    profiled(static, GPU, 1.0)
    profiled(static, ONE, 8.0)
    return static


def test_names():
    assert GPU.name == 'NVIDIA H100, tensorflow'
    assert ONE.name == 'A processor, 1 thread, tensorflow'
    assert ALL.file == 'profile-a-processor-16-threads-tensorflow.json'
    assert Device().name == profiles.UNRECORDED


def test_the_only_device_is_taken(static):
    """Also that of an earlier version, which was not recorded."""
    assert profiles.device_of([static]) == profiles.UNRECORDED
    (first, *_) = selection.choices(static)
    assert (first.ms, first.device) == (4.0, profiles.UNRECORDED)


@pytest.mark.parametrize(
    'asked, ms', [('h100', 1.0), ('1 THREAD', 8.0), ('NVIDIA H100, tensorflow', 1.0)]
)
def test_a_part_of_the_name_is_enough(asked, ms, several):
    device = profiles.device_of([several], asked)
    assert selection.choices(several, device)[0].ms == ms
    (run,) = tables.read_runs([str(several)], asked)
    assert run.rows[0].ms == ms


def test_of_several_this_one_is_taken(several, monkeypatch):
    assert profiles.device_of([several]) == ''
    assert selection.choices(several)[0].ms is None
    monkeypatch.setattr(processor, 'name', lambda: 'A processor')
    assert profiles.device_of([several]) == ONE.name
    profiled(several, ALL, 3.0)
    assert profiles.device_of([several]) == ''


def test_of_several_the_gpu_here_is_taken(several, monkeypatch):
    """Where the processor beside it has no times of its own."""
    (several / ONE.file).unlink()
    profiled(several, Device('Another', '', 1, 'tensorflow'), 8.0)
    assert profiles.device_of([several]) == ''
    monkeypatch.setattr(processor, 'name', lambda: 'A processor')
    assert profiles.device_of([several]) == GPU.name


@pytest.mark.parametrize(
    'flags, message',
    [
        (['--latency', '5ms', '--device', 'tpu'], 'no profile is of such a device'),
        (['--ms', '5ms', '--device', 'tensorflow'], 'several of the profiles'),
        (['--latency', '5ms'], '--latency 5ms: give --device'),
        (['--ms', '5ms'], '--ms 5ms: give --device'),
    ],
)
def test_choose_lists_what_there_is(flags, message, several, capsys):
    assert choose.main([str(several), *flags]) == 2
    error = capsys.readouterr().err
    assert message in error and GPU.name in error and ONE.name in error


def test_choose_names_the_device(several, capsys):
    assert choose.main([str(several), '--ms', '5ms', '--device', 'h100']) == 0
    assert f'1.00 ms on {GPU.name}' in capsys.readouterr().out
    assert choose.main([str(several), '--ms', '5ms', '--device', '1 thread']) == 0
    assert f'at s20, top-1 80.00 %, 2.00 M multiply-adds, 4.00 ms on {ONE.name}' in (
        capsys.readouterr().out
    )
    assert choose.main([str(several), '--device', 'h100']) == 0
    assert f'ms: of one image alone on {GPU.name}' in capsys.readouterr().out


def test_other_backends_count_where_they_are_asked_for(several, monkeypatch, capsys):
    monkeypatch.setattr(processor, 'name', lambda: 'A processor')
    profiled(several, NATIVE, 2.0)
    assert profiles.device_of([several]) == ONE.name
    assert profiles.device_of([several], backend='native') == NATIVE.name
    assert profiles.device_of([several], '1 thread', 'native') == NATIVE.name
    assert choose.main([str(several), '--ms', '1.5ms', '--backend', 'native']) == 0
    assert f'at s20, top-1 80.00 %, 2.00 M multiply-adds, 1.00 ms on {NATIVE.name}' in (
        capsys.readouterr().out
    )
    (several / ONE.file).unlink()
    (several / GPU.file).unlink()
    assert profiles.device_of([several]) == ''
    assert profiles.device_of([several], 'native') == NATIVE.name
    assert choose.main([str(several), '--ms', '5ms']) == 2
    assert f'give --device, or --backend; there are: {NATIVE.name}' in capsys.readouterr().err


def test_nothing_was_profiled(gated, capsys):
    with pytest.raises(UsageError, match='run scripts.profile first'):
        profiles.device_of([gated], 'h100')
    assert choose.main([str(gated), '--latency', '5ms']) == 2
    assert 'run scripts.profile first' in capsys.readouterr().err
