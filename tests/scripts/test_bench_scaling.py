"""scripts.bench scaling: configurations of the sweeps, fitted lines, and what is printed."""

import json
import shlex

import pytest

from scripts.bench import __main__ as bench
from scripts.bench import scaling, train


def test_usage(capsys):
    assert bench.main(['scaling', '--rounds', '0']) == 2
    assert '--rounds 0: must be at least 1' in capsys.readouterr().err


@pytest.mark.parametrize('name', scaling.SWEEPS)
@pytest.mark.parametrize('quick', [True, False])
def test_every_value_is_a_configuration(name, quick):
    commands = scaling.SWEEPS[name].commands(quick)
    *_, largest = values = list(commands)
    assert len(values) >= 3 and values == sorted(values)
    config = train.configuration(shlex.split(commands[largest]))
    network = config.network()
    found = {
        'sizes': len(config.sizes),
        'bits': config.qa,
        'depth': int(config.arch.removeprefix('resnet')) if name == 'depth' else 0,
        'towers': len(config.gpu),
        'exits': getattr(network, 'exits', 0),
        'routes': len(getattr(network, 'routes', ())),
    }
    assert found[name] == largest


def test_a_line_and_what_departs_from_it():
    line = scaling.fitted([1, 2, 3, 4], [3.0, 5.0, 7.0, 9.0])
    assert line.start == pytest.approx(1) and line.slope == pytest.approx(2)
    assert line.departure == pytest.approx(0, abs=1e-9)
    # By hand: the line through these is 5/3 + 0 x, 2/3 above the value in the middle.
    line = scaling.fitted([1, 2, 3], [2.0, 1.0, 2.0])
    assert line.start == pytest.approx(5 / 3) and line.slope == pytest.approx(0)
    assert line.departure == pytest.approx(-2 / 3) and line.where == 2


def row(n, madds):
    costs = dict.fromkeys(scaling.HEADERS, 1.0 + n)
    return {**costs, 'n': n, 'MMAdds': madds, 'parameters': 1, 'exchanged bytes': 2}


def test_time_is_fitted_over_multiply_adds_where_they_differ():
    assert 'CPU ms over MMAdds' in scaling.lines([row(1, 10.0), row(2, 20.0)])
    assert 'CPU ms over n' in scaling.lines([row(1, 10.0), row(2, 10.0)])


def test_line_of_json(monkeypatch, capsys):
    monkeypatch.setattr(scaling, 'measured', lambda *_: [row(1, 10.0), row(2, 20.0)])
    assert bench.main(['scaling', '--quick', '--only', 'bits']) == 0
    out = capsys.readouterr().out
    record = json.loads(out.splitlines()[-1])
    assert record['bench'] == 'scaling' and record['quick']
    bits = record['sweeps']['bits']
    assert [one['n'] for one in bits['rows']] == [1, 2]
    assert bits['lines']['ops over n']['slope'] == pytest.approx(1)
    assert 'ops over n: 1 + 1 x, furthest' in out
