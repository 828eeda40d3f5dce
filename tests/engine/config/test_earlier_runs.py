"""Runs of the version whose records had no groups: they are evaluated and resumed as before."""

import json
import shutil
from pathlib import Path

import pytest

import imagenet_tf
from engine.config.config import Config, read_config
from engine.config.record import VERSION
from engine.runs.folder import open_run

EARLIER = Path(__file__).parents[2] / 'data' / 'earlier_runs'
RUNS = {'rsnet_float': 60, 'msdnet_w2a2': 40, 'dsnet_gate': 120}


def records(folder):
    """Accuracies in percent by operating point."""
    found = {}
    for path in folder.glob('eval/*.json'):
        record = json.loads(path.read_text())
        found[record['point']] = record['top1'], record['top5'], record['images']
    return found


@pytest.fixture(params=RUNS)
def run(request, tmp_path):
    """A copy of an earlier run."""
    return Path(shutil.copytree(EARLIER / request.param, tmp_path / request.param))


@pytest.mark.parametrize(
    'run',
    [
        'rsnet_float',
        pytest.param('msdnet_w2a2', marks=pytest.mark.slow),
        pytest.param('dsnet_gate', marks=pytest.mark.slow),
    ],
    indirect=True,
)
def test_it_evaluates_to_the_recorded_numbers(run):
    expected = records(run)
    shutil.rmtree(run / 'eval')
    assert imagenet_tf.main(['--eval', '-ec', str(run), '--threads', '0']) == 0
    assert records(run) == expected


def test_it_is_resumed_and_its_record_stays(run):
    before = (run / 'config.json').read_bytes()
    config = read_config(run / 'config.json')
    assert open_run(config, run, None).step == RUNS[run.name]
    assert (run / 'config.json').read_bytes() == before


def test_a_record_without_groups_gives_what_it_says(run):
    recorded = json.loads((run / 'config.json').read_text())
    found = read_config(run / 'config.json').flat()
    known = set(recorded) & set(found)
    assert {'net', 'sizes', 'qw'} <= known
    for name in known:
        assert found[name] == (
            tuple(recorded[name]) if isinstance(recorded[name], list) else recorded[name]
        )


def test_a_record_of_today_has_a_version_and_groups(run):
    config = read_config(run / 'config.json')
    record = json.loads(json.dumps(config.to_json()))
    assert record['version'] == VERSION
    assert record['architecture']['net'] == config.net
    assert Config.from_json(record, 'here') == config
