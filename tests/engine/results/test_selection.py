"""Choosing by budget over run folders made by hand: static points, exits, gates, routes; what is printed and refused."""

import itertools
import json
import shlex
from pathlib import Path

import numpy as np
import pytest

from engine.config.cli import parse
from engine.errors import UsageError
from engine.quantities import quantity
from engine.results import exit_thresholds, selection
from engine.results.exit_thresholds import ALWAYS, Policy
from engine.results.selection import Choice, Limits
from nets import cost
from nets.cost import LayerRecord
from scripts import choose, thresholds

CONFIG = {
    'net': 'rsnet',
    'mode': 'pytorch',
    'arch': 'resnet8',
    'data': 'animals28',
    'classes': 10,
    'qw': 32,
    'qa': 32,
}
MEASURES = ('madds', 'ms', 'weight_bytes')


def layer(name, madds, **options):
    """A layer of one weight: its multiply-adds are the size of its output."""
    return LayerRecord(name, 'body', (1, 1, 1, 1), (madds, 1), **options)


def make_run(folder, layers, evals, *, times=None, **config):
    """A run folder; ``evals`` are top-1 by point, or by point and by what lent its statistics."""
    (folder / 'eval').mkdir(parents=True)
    (folder / 'config.json').write_text(json.dumps({**CONFIG, **config}))
    (folder / 'layers.json').write_text(json.dumps(cost.to_json(layers)))
    for key, top1 in evals.items():
        point, _, bn = key.partition('@')
        record = {'point': point, 'bn': bn or point, 'top1': top1, 'top5': 99.0, 'images': 50}
        (folder / 'eval' / f'{key}.json').write_text(json.dumps(record))
    if times:
        points = {point: {'batch1_ms': ms} for point, ms in times.items()}
        (folder / 'profile.json').write_text(json.dumps({'points': points}))
    return folder


@pytest.fixture
def static(tmp_path):
    layers = {'s28': [layer('conv', 4_000_000)], 's20': [layer('conv', 2_000_000)]}
    return make_run(
        tmp_path / 'static',
        layers,
        {'s28': 90.0, 's20': 80.0, 's20@s28': 70.0, 'ensemble': 95.0},
        times={'s28': 4.0},
        sizes=[28, 20],
    )


@pytest.fixture
def gated(tmp_path):
    layers = {'s28': [layer('conv', 1_000_000), layer('body', 3_000_000, gate='body')]}
    run = make_run(tmp_path / 'gated', layers, {'s28': 85.0}, net='aig', sizes=[28])
    (run / 'gates').mkdir()
    (run / 'gates' / 's28.json').write_text(json.dumps({'madds': 1_500_000.4}))
    return run


@pytest.fixture
def routed(tmp_path):
    layers = {
        'w03': [LayerRecord('conv', 'body', (1, 1, 4, 4), (400, 400))],
        'w00': [LayerRecord('conv', 'body', (1, 1, 2, 2), (400, 400))],
    }
    run = make_run(
        tmp_path / 'routed',
        layers,
        {'w03': 88.0, 'w00': 60.0, 'dynamic': 87.0},
        net='dsnet',
        sizes=[28],
        stage='gate',
    )
    (run / 'routes').mkdir()
    (run / 'routes' / 's28.json').write_text(json.dumps({'madds': 1_200_000}))
    return run


FIRST, SECOND = 1_234_564, 2_345_679


@pytest.fixture
def exits(tmp_path):
    """Two exits; the second one has the first one's layer and one of its own."""
    conv, more = layer('conv', FIRST), layer('more', SECOND - FIRST)
    run = make_run(
        tmp_path / 'the exits',
        {'s28-x1': [conv, more], 's28-x0': [conv]},
        {'s28-x1': 90.0, 's28-x0': 60.0, 'ensemble-s28-x1': 91.0},
        net='msdnet',
        sizes=[28],
        times={'s28-x0': 1.0, 's28-x1': 3.0},
    )
    rng = np.random.default_rng(0)
    arrays = {
        'confidence': -rng.random((40, 2)),
        'right': np.ones((40, 2), bool),
        'test_confidence': -rng.random((50, 2)),
        'test_right': rng.random((50, 2)) < (0.6, 0.9),
    }
    (run / 'exits').mkdir()
    np.savez(run / 'exits' / 's28.npz', **arrays)
    return run, arrays


def by_point(run):
    return {found.point: found for found in selection.choices(run) if found.policy is None}


def test_static_points(static):
    """Neither foreign statistics nor ensembles, which no command runs alone."""
    found = by_point(static)
    assert list(found.values()) == [
        Choice(str(static), 's28', 90.0, 4e6, 4, 4.0),
        Choice(str(static), 's20', 80.0, 2e6, 4),
    ]


def test_gates_cost_what_was_measured(gated, routed):
    assert by_point(gated)['s28'].madds == 1_500_000
    found = by_point(routed)
    assert {point: (one.top1, one.madds, one.weight_bytes) for point, one in found.items()} == {
        'w03': (88.0, 2_560_000, 64),
        'w00': (60.0, 640_000, 16),
        'dynamic': (87.0, 1_200_000, 64),
    }


def test_exits_become_policies(exits):
    """Thresholds of the hold-out, scored on the validation images, from the cost of the first exit to the last."""
    run, arrays = exits
    found = [one for one in selection.choices(run) if one.policy]
    assert len(found) == selection.POLICIES and {one.point for one in found} == {'s28'}
    assert {one.weight_bytes for one in found} == {8}
    asked = [one.policy.budget for one in found]
    np.testing.assert_allclose(asked, np.linspace(FIRST, SECOND, selection.POLICIES))
    for one in found:
        first = arrays['test_confidence'][:, 0] >= one.policy.thresholds[0]
        right = np.where(first, *arrays['test_right'].T)
        assert one.policy.thresholds[1] == ALWAYS and one.policy.exits == (0, 1)
        assert one.top1 == pytest.approx(100 * right.mean())
        assert (
            one.madds == one.policy.cost == pytest.approx(SECOND + first.mean() * (FIRST - SECOND))
        )
        assert one.ms == pytest.approx(3.0 - 2.0 * first.mean())
    assert found[0].madds == FIRST and found[-1].madds == SECOND
    assert {point: one.madds for point, one in by_point(run).items()} == {
        's28-x0': FIRST,
        's28-x1': SECOND,
    }


def test_no_policies_without_a_holdout(exits):
    run, arrays = exits
    np.savez(
        run / 'exits' / 's28.npz',
        **{key: value for key, value in arrays.items() if key.startswith('test')},
    )
    assert len(selection.choices(run)) == 2


@pytest.mark.parametrize('damage', [b'', b'nothing', b'PK\x03\x04nothing'])
def test_damaged_exits(damage, exits, capsys):
    (exits[0] / 'exits' / 's28.npz').write_bytes(damage)
    assert choose.main([str(exits[0])]) == 2
    assert 's28.npz: no readable record of exits' in capsys.readouterr().err


MADE = [
    Choice('a', 's28', 90.0, 4e6, 100, 4.0),
    Choice('a', 's20', 80.0, 2e6, 100, None),
    Choice('b', 's28', 85.0, 2e6, 50, 9.0),
    Choice('c', 's28', 70.0, 1e6, 400, 1.0),
    Choice('d', 's28', 90.0, 3e6, 500, 5.0),
]


@pytest.mark.parametrize(
    'limits, expected',
    [
        ({'madds': 4e6}, 4),
        ({'madds': 2e6}, 2),
        ({'madds': 2.9e6}, 2),
        ({'madds': 1e6}, 3),
        ({'ms': 4.5}, 0),
        ({'ms': 2.0}, 3),
        ({'weight_bytes': 60}, 2),
        ({'weight_bytes': 100, 'ms': 5.0}, 0),
        ({'top1': 85.0}, 2),
        ({'top1': 60.0}, 3),
        ({'top1': 86.0}, 4),
        ({'top1': 80.0, 'weight_bytes': 100}, 0),
        ({'top1': 80.0, 'madds': 2e6}, 2),
        ({}, 4),
    ],
)
def test_best(limits, expected):
    """The most accurate; of equals the cheapest; without a limit on cost the cheapest that is accurate enough."""
    for order in (MADE, MADE[::-1]):
        assert selection.best(order, Limits(**limits)) == MADE[expected]


def test_best_against_all():
    """Every combination of limits, each next to a value that is there: by filtering."""
    grid = {
        'madds': (1e6, 2.5e6, 9e6),
        'ms': (None, 4.5),
        'weight_bytes': (None, 60, 450),
        'top1': (None, 82.0),
    }
    for values in itertools.product(*grid.values()):
        limits = dict(zip(grid, values))
        kept = [
            one
            for one in MADE
            if all(
                limit is None or getattr(one, name) is not None and getattr(one, name) <= limit
                for name, limit in limits.items()
                if name in MEASURES
            )
            and one.top1 >= (limits['top1'] or 0)
        ]
        if kept:
            assert selection.best(MADE, Limits(**limits)) == max(
                kept, key=lambda one: (one.top1, -one.madds)
            )
        else:
            with pytest.raises(UsageError, match='no choice keeps the limits; the nearest is'):
                selection.best(MADE, Limits(**limits))


def test_excess():
    one = MADE[0]
    assert Limits().excess(one) == 0 and Limits(madds=8e6).excess(one) == 0.5
    assert Limits(madds=2e6, ms=1.0, weight_bytes=100).excess(one) == 4
    assert Limits(top1=99.0, madds=8e6).excess(one) == pytest.approx(1.1)
    assert Limits(ms=1e9).excess(MADE[1]) == float('inf')


@pytest.mark.parametrize(
    'limits, nearest',
    [
        ({'madds': 5e5}, 'c at s28'),
        ({'weight_bytes': 40}, 'b at s28'),
        ({'ms': 0.5}, 'c at s28'),
        ({'top1': 95.0}, 'd at s28, top-1 90.00 %'),
        ({'madds': 1.9e6, 'top1': 84.0}, 'b at s28'),
    ],
)
def test_unreachable(limits, nearest):
    with pytest.raises(UsageError, match=f'no choice keeps the limits; the nearest is .*{nearest}'):
        selection.best(MADE, Limits(**limits))


def test_nothing_to_choose_from():
    for found in ([], MADE[1:2]):
        with pytest.raises(UsageError, match='run scripts.profile first'):
            selection.best(found, Limits(ms=3.0))


def test_pareto():
    assert selection.pareto(MADE) == [MADE[3], MADE[2], MADE[4]]
    assert selection.pareto([]) == []
    assert selection.pareto([MADE[0], MADE[0]]) == [MADE[0]]


def test_describe():
    assert selection.describe(MADE[0]) == (
        'a at s28, top-1 90.00 %, 4.00 M multiply-adds, 4.00 ms, 0.0001 MB of weights'
    )
    assert (
        selection.describe(Choice('a', 's28', 1.0, 1e6, None))
        == 'a at s28, top-1 1.00 %, 1.00 M multiply-adds'
    )


@pytest.mark.parametrize(
    'point, flags',
    [
        ('s28', {'eval_scale': [28], 'eval_widths': None}),
        ('w03', {'eval_scale': None, 'eval_widths': [3]}),
        ('s20-w13', {'eval_scale': [20], 'eval_widths': [13]}),
        ('s28-x1', {'eval_scale': [28], 'eval_widths': None}),
        ('dynamic', {'eval_scale': None, 'eval_widths': None}),
        ('s28-dynamic', {'eval_scale': None, 'eval_widths': None}),
    ],
)
@pytest.mark.parametrize('run', ['train_log/run', 'my runs/a'])
def test_commands(point, flags, run):
    (command,) = Choice(run, point, 1.0, 1e6, None).commands
    program, file, *rest = shlex.split(command)
    args = parse(rest)
    assert (program, file, args.eval, args.eval_checkpoint) == (
        'python',
        'imagenet_tf.py',
        True,
        run,
    )
    assert {name: getattr(args, name) for name in flags} == flags


def test_commands_of_thresholds(exits):
    """The first makes the file that the second takes, with the thresholds that were chosen."""
    run, _ = exits
    for one in (found for found in selection.choices(run) if found.policy):
        setting, evaluating = map(shlex.split, one.commands)
        assert setting[:3] == ['python', '-m', 'scripts.thresholds']
        args = thresholds.parse_args(setting[3:])
        assert (str(args.run), args.size) == (str(run), 28)
        assert one.policy.budget <= quantity('--budget', args.budget) < one.policy.budget + 1
        assert thresholds.main(setting[3:]) == 0
        args = parse(evaluating[2:])
        assert args.eval and args.eval_checkpoint == str(run)
        written = exit_thresholds.read_policy(Path(args.thresholds))
        assert written.thresholds == pytest.approx(one.policy.thresholds)


def test_the_script_chooses_over_runs(static, gated, routed, capsys):
    runs = list(map(str, (static, gated, routed)))
    assert choose.main([*runs, '--madds', '2M']) == 0
    first, command = capsys.readouterr().out.splitlines()
    assert first.startswith(f'{routed} at dynamic, top-1 87.00 %, 1.20 M multiply-adds')
    assert command == f'    python imagenet_tf.py --eval -ec {routed}'
    for flags, expected in (
        (['--latency', '5ms'], f'{static} at s28'),
        (['--min-top1', '80'], f'{routed} at dynamic'),
        (['--memory', '20B'], f'{static} at s28'),
        (['--memory', '3B', '--madds', '9M'], None),
    ):
        assert choose.main([*runs, *flags]) == (0 if expected else 2)
        shown = capsys.readouterr()
        assert shown.out.startswith(expected or '') and ('nearest is' in shown.err) != bool(
            expected
        )


def test_the_script_shows_the_front(static, gated, routed, exits, capsys):
    assert choose.main(list(map(str, (static, gated, routed)))) == 0
    lines = capsys.readouterr().out.splitlines()[2:]
    assert [line.split()[:2] for line in lines] == [
        [str(routed), 'w00'],
        [str(routed), 'dynamic'],
        [str(routed), 'w03'],
        [str(static), 's28'],
    ]
    assert choose.main([str(exits[0])]) == 0
    assert 'thresholds' in capsys.readouterr().out


@pytest.mark.parametrize(
    'flags, message',
    [
        (['--madds', '3ms'], '--madds 3ms: expected multiply-adds'),
        (['--latency', '3'], '--latency 3: expected a time'),
        (['--memory', 'x'], '--memory x: expected a size'),
        (['--madds', '1'], 'the nearest is'),
        (['--min-top1', '99'], 'the nearest is'),
    ],
)
def test_the_script_refuses(flags, message, static, capsys):
    assert choose.main([str(static), *flags]) == 2
    assert message in capsys.readouterr().err


def test_the_script_refuses_what_is_no_run(tmp_path, static, capsys):
    assert choose.main([str(tmp_path / 'none')]) == 2
    assert 'no such run folder' in capsys.readouterr().err
    for path in (static / 'eval').iterdir():
        path.unlink()
    assert choose.main([str(static)]) == 2
    assert 'no evaluation records' in capsys.readouterr().err
    with pytest.raises(SystemExit, match='2'):
        choose.main([])


def test_a_policy_is_told_apart():
    policy = Policy(28, (0,), (ALWAYS,), 1e6, 1e6, 'MAdds', 'a')
    assert ' with exit thresholds, ' in selection.describe(
        Choice('a', 's28', 1.0, 1e6, None, policy=policy)
    )
