"""Which command goes on with a run: other GPUs, more epochs, schedules of earlier versions."""

import json

import pytest

from engine.config.config import Config, read_config
from engine.errors import UsageError
from engine.runs.folder import open_run

CONFIG = Config.from_values(
    data='animals28', steps_per_epoch=10, epochs=6, lr=0.04, schedule='cosine', gpu=(0, 1, 2, 3)
)


def begin(path, config, *, epochs, earlier=False):
    """A run of ``config`` that has done so many epochs; ``earlier``: by an earlier version."""
    open_run(config, path, None)
    if earlier:
        record = json.loads((path / 'config.json').read_text())
        for added in ('checked', 'checksum'):
            del record[added]
        del record['course']['absolute']
        (path / 'config.json').write_text(json.dumps(record))
    rows = []
    for epoch in range(1, epochs + 1):
        rows.append({'epoch_num': epoch})
        for end in ('index', 'data-00000-of-00001'):
            (path / f'model-{10 * epoch}.{end}').touch()
    (path / 'stats.json').write_text(json.dumps(rows))
    return path


@pytest.fixture
def finished(tmp_path):
    return begin(tmp_path / 'run', CONFIG, epochs=6)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_number_of_gpus_may_change_and_is_told_in_one_line(tmp_path, capsys):
    path = begin(tmp_path / 'run', CONFIG, epochs=2)
    run = open_run(CONFIG.replacing(gpu=(5, 6)), path, None)
    assert run.step == 20
    assert run.config.gpu == (5, 6) == read_config(path / 'config.json').gpu
    said = capsys.readouterr().out.splitlines()
    assert said == ['--gpu: towers 2, before 4; --batch_size 256 stays, 128 images each, before 64']
    assert open_run(CONFIG.replacing(gpu=(7, 8)), path, None).step == 20
    assert capsys.readouterr().out == ''


@pytest.mark.parametrize('changed', [{'batch_size': 128}, {'sync_bn': True}, {'lr': 0.05}])
def test_what_a_step_computes_may_not(changed, tmp_path):
    path = begin(tmp_path / 'run', CONFIG, epochs=2)
    (name,) = changed
    with pytest.raises(UsageError, match=f'{name}: .* there, .* here'):
        open_run(CONFIG.replacing(gpu=(0,), **changed), path, None)


@pytest.mark.parametrize(
    'values',
    [
        {'schedule': 'step'},
        {'schedule': 'milestones', 'milestones': (2, 4)},
        {'schedule': 'cosine_epochs', 'min_lr': 1e-4},
    ],
)
def test_a_finished_run_becomes_longer(values, tmp_path, capsys):
    config = CONFIG.replacing(**values)
    path = begin(tmp_path / 'run', config, epochs=6)
    longer = config.replacing(epochs=9)
    run = open_run(longer, path, None)
    assert (run.step, run.config) == (60, longer)
    assert read_config(path / 'config.json') == longer
    rate, before = longer.course.rate()(60), config.course.rate()(60)
    assert capsys.readouterr().out == (
        f'--epochs 9, before 6: the learning rate at step 60 is {rate:.3g}, before {before:.3g}\n'
    )


@pytest.mark.parametrize('schedule', ['cosine', 'linear', 'cosine_epochs'])
def test_a_rate_that_ended_at_zero_is_refused_unless_asked_for(schedule, tmp_path):
    config = CONFIG.replacing(schedule=schedule, warmup=0.7)
    path = begin(tmp_path / 'run', config, epochs=6)
    before = contents(path)
    longer = config.replacing(epochs=9)
    for action in (None, 'k'):
        with pytest.raises(UsageError) as caught:
            open_run(longer, path, action)
        message = str(caught.value)
        assert '--epochs 9: the learning rate has fallen to 0 over the 6 epochs' in message
        assert f'--schedule {schedule}' in message
        assert '-a p' in message
    assert contents(path) == before
    assert open_run(longer, path, 'p').step == 60
    assert read_config(path / 'config.json').epochs == 9


def test_one_that_has_not_ended_yet_becomes_longer(tmp_path):
    path = begin(tmp_path / 'run', CONFIG, epochs=4)
    assert open_run(CONFIG.replacing(epochs=9), path, None).step == 40


def test_a_shorter_run_is_another(finished):
    with pytest.raises(UsageError, match='epochs: 6 there, 5 here'):
        open_run(CONFIG.replacing(epochs=5), finished, 'p')


@pytest.mark.parametrize(('epochs', 'rate'), [(6, 1e-3), (8, 1e-2)])
def test_a_run_of_an_earlier_version_keeps_its_schedule(epochs, rate, tmp_path, capsys):
    marks = {'milestones': (30, 60), 'warmup': 0.5}
    began = CONFIG.replacing(schedule='step', **marks)
    path = begin(tmp_path / 'run', began, epochs=3, earlier=True)
    today = CONFIG.replacing(schedule='step', milestones=(2, 4), warmup=0.1, epochs=epochs)
    run = open_run(today, path, None)
    assert run.config.course == began.replacing(absolute=True, epochs=epochs).course
    assert run.config.course.rate()(30) == rate
    assert 'rules of an earlier version' in capsys.readouterr().out
    assert open_run(today, path, None).config == run.config


def test_a_mark_that_is_asked_for_is_compared(tmp_path):
    path = begin(tmp_path / 'run', CONFIG.replacing(warmup=0.5), epochs=3, earlier=True)
    with pytest.raises(UsageError, match='warmup: 0.5 there, 1.0 here'):
        open_run(CONFIG.replacing(warmup=1.0), path, None, given=['warmup'])


def settled(**values):
    machine = {'operation_threads': 4, 'rewriting': 'off', 'native': 'require'}
    return CONFIG.replacing(**{**machine, **values})


def test_the_order_of_sums_stays_on_another_machine(tmp_path, capsys):
    path = begin(tmp_path / 'run', settled(), epochs=2)
    run = open_run(settled(operation_threads=16, rewriting='on', native='off'), path, None)
    assert run.config == settled() == read_config(path / 'config.json')
    assert capsys.readouterr().out == ''


@pytest.mark.parametrize(
    ('changed', 'said'),
    [
        ({'operation_threads': 2}, '--threads 2, before 4'),
        ({'native': 'off'}, '--native off, before require'),
    ],
)
def test_another_order_has_to_be_asked_for(changed, said, tmp_path, capsys):
    path = begin(tmp_path / 'run', settled(), epochs=2)
    run = open_run(settled(**changed), path, None, given=changed)
    assert run.config == settled(**changed) == read_config(path / 'config.json')
    assert f'{said}: sums may be rounded otherwise' in capsys.readouterr().out


def test_a_run_of_an_earlier_version_keeps_its_order_of_sums(tmp_path):
    path = begin(tmp_path / 'run', CONFIG, epochs=2)
    record = json.loads((path / 'config.json').read_text())
    for added in ('operation_threads', 'rewriting', 'native'):
        del record['machine'][added]
    for added in ('checked', 'checksum'):
        del record[added]
    (path / 'config.json').write_text(json.dumps(record))
    found = open_run(settled(), path, None).config
    assert (found.operation_threads, found.rewriting, found.native) == (1, 'on', 'off')
