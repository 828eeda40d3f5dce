"""scripts.bench, its steps and all: help, configurations, rows, a benchmark that fails."""

import json
import subprocess

import pytest

from engine.files import read_json
from scripts.bench import __main__ as bench
from scripts.bench import everything, steps

SMALL = ['--data', 'animals28', '--arch', 'resnet8', '--sizes', '16']


def test_steps_at_bits_and_in_both_types():
    found = steps.configs(SMALL, [2, 4], bf16=True)
    assert list(found) == ['float', 'W2A2', 'W4A4', 'float bf16', 'W2A2 bf16']
    assert [(one.qw, one.qa, one.bf16) for one in found.values()] == [
        (32, 32, False),
        (2, 2, False),
        (4, 4, False),
        (32, 32, True),
        (2, 2, True),
    ]
    assert list(steps.configs(SMALL, [2], bf16=False)) == ['float', 'W2A2']


def test_rows_of_steps():
    costs = {'cpu_s': 2.0, 'peak_rss_mb': 100.0, 'graph_ops': 5, 'first_step_s': 1.0}
    low = {**costs, 'cpu_s': 1.0}
    mixed = {**costs, 'cpu_s': 3.0, 'peak_rss_mb': 150.0}
    rows = steps.rows({'float': costs, 'float bf16': low, 'W2A2': mixed})
    assert rows[2]['x float'] == 1.5 and rows[2]['x float bf16'] == 3
    assert rows[2]['MB x float'] == 1.5
    first, second = steps.rows({'float': costs, 'W2A2': mixed})
    assert second['x float'] == 1.5 and second['x float bf16'] is None
    names = {'steps': {'rows': [first, second]}}
    assert not any('bf16' in figure for _, figure, _ in everything.figures(names))


@pytest.mark.parametrize('flags', [['--steps', '0'], ['--bits', '9']])
def test_usage_of_steps(flags, capsys):
    assert bench.main(['steps', *flags]) == 2
    assert flags[0] in capsys.readouterr().err


# A record as each benchmark prints it, as far as the table of all reads it.
RECORDS = {
    'steps': {'rows': [{'step': 'W2A2', 'x float': 1.1, 'x float bf16': 2, 'MB x float': 1}]},
    'bits': {'ratio': {'median': 2.5, 'lower': 2.25, 'upper': 2.75}},
    'quantizers': {
        'step': [
            {'quantizer': 'lsq', 'of': 'weights', 'x CPU': 1.2, 'native x CPU': 1.1},
            {'quantizer': 'twn', 'of': 'weights', 'x CPU': 1.3, 'native x CPU': None},
        ]
    },
    'gates': {
        'net': 'aig',
        'rows': [
            {
                'batch': 1,
                'rate': 0.5,
                'MAdds ratio': 0.6,
                'time / MAdds': 1.3,
                'CPU / MAdds': 1.4,
                'CPU / MAdds, unfolded': 1.2,
            }
        ],
    },
    'exits': {
        'net': 'msdnet',
        'rows': [{'batch': 1, 'budget': 0.5, 'MAdds ratio': 0.5, 'time / MAdds': 1.4}],
    },
    'widths': {
        'net': 'dsnet',
        'rows': [{'batch': 1, 'width': 13, 'MAdds ratio': 1.0, 'time / MAdds': 1.0}],
        'mixed': {'32': {'ratio': 0.9, 'cpu_ratio': 1.1}},
    },
    'peers': {'rows': [{'who': 'torch', 'sizes': 5, 'type': 'f32', 'x CPU': 1.1, 'x MB': 0.7}]},
    'data': {'ratio': {'val': 1.1}, 'decoders': [{'decoder': 'a', 'its speed / OpenCV': 1.01}]},
    'scaling': {'sweeps': {'bits': {'lines': {'ops': {'departure': 0.02}}}}},
}


def test_all(monkeypatch, capsys, tmp_path):
    """A benchmark that fails is named in the table, and the others go on."""
    commands = []

    def run(command, **how):
        commands.append(command)
        assert 'cwd' not in how  # else a relative --python would be another one
        name = list(everything.ENTRIES)[len(commands) - 1]
        text = f'a table\n{json.dumps(RECORDS[name])}\n'
        failed = name == 'exits'
        return subprocess.CompletedProcess(command, 2 if failed else 0, '' if failed else text)

    monkeypatch.setattr(subprocess, 'run', run)
    out = tmp_path / 'bench.json'
    assert bench.main(['all', '--out', str(out), '--python', 'mine']) == 0
    printed = capsys.readouterr().out
    record = json.loads(printed.splitlines()[-1])
    assert list(record['results']) == list(everything.ENTRIES)
    assert record['results']['exits']['error'] == 'exit status 2'
    for text in (
        'W2A2: CPU against float',
        'CPU of a joint step against one precision',
        'batch 1, rate 0.5: time',
        'batch 1, width 13: time',
        'exit status 2',
        'torch, 5 sizes, f32',
        'bits: ops, furthest from a line',
        'a table',
    ):
        assert text in printed
    assert [command[-1] for command in commands if 'peers' in command] == ['mine']
    assert read_json(out, dict, '')['steps']['rows'] == RECORDS['steps']['rows']


def test_figures_are_those_of_the_rows():
    gates = dict(everything.ENTRIES['gates'].figures(RECORDS['gates']))
    assert gates == {
        'batch 1, rate 0.5: MAdds ratio': 0.6,
        'batch 1, rate 0.5: time ratio / MAdds ratio': 1.3,
        'batch 1, rate 0.5: CPU ratio / MAdds ratio': 1.4,
        'batch 1, rate 0.5: the same, over evaluation': 1.2,
    }
    widths = dict(everything.ENTRIES['widths'].figures(RECORDS['widths']))
    assert widths['mixed batch of 32: time against its groups'] == 0.9
    assert widths['mixed batch of 32: CPU against its groups'] == 1.1
    bits = everything.ENTRIES['bits'].figures(RECORDS['bits'])
    assert [value for _, value in bits] == [2.5, 2.25, 2.75]
    quantizers = everything.ENTRIES['quantizers'].figures(RECORDS['quantizers'])
    assert [value for _, value in quantizers] == [1.2, 1.1, 1.3]


def test_every_entry_is_a_benchmark():
    assert list(everything.ENTRIES) == list(RECORDS)
    for entry in everything.ENTRIES.values():
        assert entry.flags.split()[0] in bench.BENCHMARKS


OWN_FLAGS = {
    'train': '--steps',
    'infer': '--rates',
    'infer --net msdnet': '--budgets',
    'data': '--images',
    'deploy': '--parent',
    'quantizers': '--names',
    'peers': 'pip install torch',
    'scaling': '--quick',
    'steps': '--bits',
    'bits': '--steps',
    'all': '--only',
}


@pytest.mark.parametrize('command', OWN_FLAGS)
def test_help_is_that_of_the_benchmark(command, capsys):
    assert set(bench.BENCHMARKS) == {command.partition(' ')[0] for command in OWN_FLAGS}
    with pytest.raises(SystemExit) as ended:
        bench.main([*command.split(), '--help'])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert OWN_FLAGS[command] in said and f'scripts.bench {command}' in said
