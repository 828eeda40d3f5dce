"""scripts.study bits: its trainings, how precisions learn together, and going on."""

import dataclasses
import functools

import matplotlib
import numpy as np
import pytest

from engine.config import cli
from engine.config.resolve import resolve
from engine.results import bits_study, study_records
from engine.results.study_records import HOLDOUT, TEST
from engine.runs import checkpoint
from nets.points import Point
from nets.precisions import PrecisionOptions
from scripts import bits_study as bits_tasks
from scripts import study, study_tasks
from scripts.bits_study import ALONE, BITS, FULL, JOINT, KIND, QUICK, STILL, Form, Plan, ways
from tests.paths import ROOT
from tests.scripts import instant

SMALL = Form(seeds=2, steps=3, rate=0.02, parent_epochs=1, choice_seeds=1, choice_steps=4)
DOCUMENTED = ROOT / 'docs' / 'measured' / 'bits.json'


def points_of(result):
    """Spellings of the points of a network."""
    if result.recipe in ALONE or not result.recipe:
        return ['s28', 's12']
    return [str(Point(size=size, bits=bits)) for size in (28, 12) for bits in BITS]


def measured(result):
    """Top-1 by which summed losses without a teacher are the best to choose."""
    top1 = {'sum-labels': 92.0}.get(result.recipe, 91.0)
    codes = 8000 * (result.bits if result.weight != 'anyprecision' else sum(BITS)) // 8
    found = {'top1': dict.fromkeys(points_of(result), top1), 'step_ms': 10.0}
    return {**found, 'code_bytes': codes, 'weight_bytes': codes + 100}


@pytest.fixture
def workers(monkeypatch):
    return instant.installed(monkeypatch, measured)


def run(folder, *flags):
    return study.main(['bits', '--folder', str(folder), '--processes', '2', *flags])


def all_tasks(form, folder):
    """Every task of a study."""
    return instant.all_tasks(functools.partial(Plan, form, folder), measured)


@pytest.mark.parametrize('form', [FULL, QUICK, SMALL])
def test_tasks_are_counted_and_ordered(form, tmp_path):
    tasks = all_tasks(form, tmp_path)
    names = [task.name for task in tasks]
    assert len(set(names)) == len(names) == Plan(form, tmp_path, {}).total()
    for place, task in enumerate(tasks):
        assert set(task.needs) <= set(names[:place])
    # Whole seeds are done one after the other.
    seeds = [task.result.seed for task in tasks if task.result.recipe in bits_study.LABELS]
    assert seeds == sorted(seeds)


def test_commands_are_those_of_the_program(tmp_path):
    of_kind = {(task.result.recipe, task.result.bits): task for task in all_tasks(SMALL, tmp_path)}
    for task in of_kind.values():
        args = cli.parse(task.arguments)
        assert args.load == (str(tmp_path / task.needs[0]) if task.needs else None)
        config, _, _ = resolve({**cli.explicit(args), 'load': None})
        result = task.result
        assert (config.seed, config.lr, config.holdout) == (result.seed, result.rate, 1000)
        assert config.score_holdout == (result.scored == HOLDOUT)
        several = result.recipe not in ALONE and result.recipe != ''
        assert tuple(map(int, config.bits)) == (BITS if several else ())
        if not several:
            assert (config.qw, config.qa) == (result.bits, result.bits)
            assert bool(args.teacher) == (result.recipe == bits_study.TAUGHT)
        if result.recipe:
            settling = 40 if result.rate == STILL else result.steps
            assert config.steps_per_epoch == settling


def test_every_kind_of_codes_learns_as_chosen(tmp_path):
    tasks = all_tasks(SMALL, tmp_path)
    tried = [task.result.recipe for task in tasks if task.result.scored == HOLDOUT]
    assert sorted(tried) == sorted(ways())
    joint = [task for task in tasks if task.result.recipe in JOINT]
    assert len(joint) == SMALL.seeds * len(JOINT)
    for task in joint:
        args = cli.parse(task.arguments)
        assert (args.bits_loss, args.bits_teacher) == ('sum', 'labels')
        assert task.result.scored == TEST
    first = list(Plan(SMALL, tmp_path, {}).tasks())
    assert not any(task.result.recipe in JOINT for task in first)


def test_times_of_steps(tmp_path):
    steps = {}
    for task in all_tasks(SMALL, tmp_path):
        steps[task.result.recipe] = task.result.steps
    alone = steps[bits_study.INDIVIDUAL]
    assert steps[bits_study.LONGER] == 3 * alone == 3 * steps[bits_study.NESTED]
    assert steps['mean-labels'] == SMALL.choice_steps


def test_a_stopped_study_goes_on(tmp_path, workers, capsys):
    folder = tmp_path / 'study'
    flags = ('--seeds', '1', '--steps', '7')
    workers.stop_at = 9
    assert run(folder, *flags) == 130
    first = list(workers.names)
    workers.stop_at = None
    workers.names.clear()
    assert run(folder, *flags) == 0
    assert not set(first) & set(workers.names)
    tasks = (folder / study_tasks.TASKS).glob('*.json')
    assert {path.stem for path in tasks} == {*first, *workers.names}
    text = capsys.readouterr().out
    assert '91.00' in text and 'table: ' in text and 'picture: ' in text
    again = tmp_path / 'again.svg'
    line = ['bits', '--table', str(folder), '--picture', str(again)]
    assert study.main(line) == 0
    printed = capsys.readouterr().out.strip()
    assert printed and printed in text
    assert again.read_bytes() == (folder / 'bits.svg').read_bytes()
    assert run(folder, '--quick') == 2
    assert 'holds a study of another form' in capsys.readouterr().err


def test_one_seed_ranks_nothing(tmp_path, workers, capsys):
    assert run(tmp_path / 'study', '--quick') == 0
    assert 'does not rank' in capsys.readouterr().out


def test_the_documented_choice_is_the_default():
    records = study_records.read(DOCUMENTED)
    chosen = bits_study.chosen(records.results, len(bits_study.ways(records.results)))
    assert chosen == f'{PrecisionOptions.bits_loss}-{PrecisionOptions.bits_teacher}'


def test_the_documented_picture_is_that_of_the_records(tmp_path, capsys):
    picture = tmp_path / 'again.svg'
    line = ['bits', '--table', str(DOCUMENTED), '--picture', str(picture)]
    assert study.main(line) == 0
    kept = (ROOT / 'docs' / 'bits_study.svg').read_text()
    # Another version of matplotlib places letters otherwise.
    if f'Matplotlib v{matplotlib.__version__}' in kept:
        assert picture.read_text() == kept


@pytest.mark.parametrize(
    ('flags', 'text'),
    [
        (['bits', '--bf16'], '--bf16: `bits` trains in float32'),
        (['bits', '--picture', 'x.svg'], '--picture: draws the records of --table'),
        (['demo', '--picture', 'x.svg'], '--picture: only `quantizers` and `bits` have it'),
    ],
)
def test_refused_flags(flags, text, capsys):
    with pytest.raises(SystemExit) as stopped:
        study.main(flags)
    assert stopped.value.code == 2
    assert text in capsys.readouterr().err


@pytest.mark.slow
def test_a_small_study(tmp_path, monkeypatch):
    """Real trainings by processes, of few kinds, and the W4A4 network cut."""
    codes = {recipe: JOINT[recipe] for recipe in (bits_study.NESTED, bits_study.CUT)}
    monkeypatch.setattr(bits_tasks, 'JOINT', codes)
    monkeypatch.setattr(bits_tasks, 'ALONE', {bits_study.INDIVIDUAL: (1, False)})
    monkeypatch.setattr(bits_tasks, 'TEACHERS', ('labels',))
    monkeypatch.setattr(bits_tasks, 'SETTLING', 2)
    form = dataclasses.replace(SMALL, seeds=1, steps=2, choice_steps=2)
    monkeypatch.setattr(bits_tasks, 'KIND', KIND._replace(full=form))
    folder = tmp_path / 'study'
    assert run(folder) == 0
    records = study_records.read(folder)
    assert not study_records.failures(records)
    methods, _ = bits_study.tables(records)
    found = {row['recipe']: row for row in methods.data()}
    assert list(found) == [bits_study.INDIVIDUAL, *codes, bits_study.UNTRAINED]
    alone, nested = found[bits_study.INDIVIDUAL], found[bits_study.NESTED]
    assert 9 * nested['code_bytes'] == 4 * alone['code_bytes'] > 0
    # What is cut has the weights that it started from.
    before, after = map(values_of, (folder / 'individual-w4a4-seed0', folder / 'untrained-seed0'))
    kernels = [name for name in before if name.endswith('/W')]
    assert len(kernels) > 5
    for name in kernels:
        np.testing.assert_allclose(after[name], before[name], atol=1e-7)


def values_of(run):
    """Variables of the last checkpoint of a run by name."""
    return checkpoint.read(checkpoint.find(str(run), None, 'RUN'), flag='RUN').values
