"""scripts.bench bits: configurations, ratios of rounds, and what is printed."""

import json

import pytest

from scripts.bench import __main__ as bench
from scripts.bench import bits
from scripts.bench.turns import Step


def test_each_precision_alone():
    """Codes are shared by nobody in a network of one precision; all else stays as it is."""
    found = bits.configs(['--bits', '4', '2:3', '--batch_size', '8'])
    assert list(found) == ['joint', 'W4A4', 'W2A3']
    assert found['joint'].quantization.weight_quantizer == 'lq(nested=True)'
    weak = found['W2A3'].quantization
    assert (weak.bits, weak.qw, weak.qa, weak.weight_quantizer) == ((), 2, 3, 'lq')
    for config in found.values():
        assert (config.batch_size, config.sizes) == (8, (28, 20, 12))
        config.quantization.to_policy()


def test_ratio_is_that_of_rounds_side_by_side():
    """A slow round counts as any other: by what all took in it."""
    costs = {
        'joint': [Step(6, 0, 0), Step(20, 0, 0), Step(4, 0, 0)],
        'W4A4': [Step(3, 0, 0), Step(9, 0, 0), Step(1, 0, 0)],
        'W2A2': [Step(1, 0, 0), Step(11, 0, 0), Step(3, 0, 0)],
    }
    assert bits.ratio(costs) == (2.0, 2.0, 2.5)


@pytest.mark.parametrize(
    'flags, told',
    [
        (['--steps', '0'], '--steps 0: must be at least 1'),
        (['--bits', '4', '--qw', '4'], '--bits 4'),
    ],
)
def test_usage(flags, told, capsys):
    assert bench.main(['bits', *flags]) == 2
    assert told in capsys.readouterr().err


def test_line_of_json(monkeypatch, capsys):
    class Process:
        about = {'graph_ops': 7}

    monkeypatch.setattr(bits.train, 'start', lambda config: Process())
    monkeypatch.setattr(
        bits.turns, 'by_turns', lambda processes, rounds: dict.fromkeys(processes, [Step(1, 2, 3)])
    )
    assert bench.main(['bits', '--steps', '1']) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert record['ratio'] == {'median': 1, 'lower': 1, 'upper': 1}
    assert record['rows'][0] == {'step': 'joint', 'CPU s': 1, 'wall s': 2, 'MB': 3, 'ops': 7}
