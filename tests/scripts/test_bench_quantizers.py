"""scripts.bench quantizers: what is tried, what is refused, and the numbers of a row."""

import json

import numpy as np
import pytest

from engine.config.config import Config
from engine.timing import Taken
from quant import specs
from scripts.bench import __main__ as bench
from scripts.bench import quantizers
from scripts.bench.quantizers import Case


@pytest.mark.parametrize(
    'flags, said',
    [
        (['--bits', '9'], '--bits 9: must be 1 to 8'),
        (['--rounds', '0'], '--rounds 0: must be at least 1'),
        (['--qw', '2'], 'is to be in float'),
    ],
)
def test_usage(flags, said, capsys):
    assert bench.main(['quantizers', *flags]) == 2
    assert said in capsys.readouterr().err


def test_every_method_is_tried_in_all_its_uses():
    found = quantizers.cases(specs.names(), [2, 4])
    assert Case('lsq(bits=2)', 'weights') in found
    assert Case('lsq(bits=4)', 'activations') in found
    assert Case('bireal(bits=1)', 'activations') in found
    assert [case for case in found if case.spec.startswith('ttq')] == [
        Case('ttq(bits=2)', 'weights')
    ]
    assert [case for case in found if case.spec.startswith('pact')] == [
        Case('pact(bits=2)', 'activations'),
        Case('pact(bits=4)', 'activations'),
    ]
    assert len(set(found)) == len(found)
    names = {specs.split(case.spec)[0] for case in found}
    assert names == set(specs.names())


def test_quick():
    args, config = quantizers.parse_args(['--quick', '--batch_size', '8'])
    assert (args.bits, args.rounds) == ([2], 5)
    assert isinstance(config, Config)
    assert config.batch_size == 8
    assert config.qw == config.qa == 32


def test_ratios_are_taken_round_by_round():
    """One round in which the machine was ten times slower changes nothing."""
    other = [Taken(1.0, 2.0), Taken(10.0, 20.0), Taken(1.0, 2.0)]
    own = [Taken(3.0, 4.0), Taken(30.0, 40.0), Taken(3.0, 4.0)]
    in_one = [Taken(2.0, 2.0), Taken(20.0, 20.0), Taken(2.0, 2.0)]
    case = Case('lsq(bits=2)', 'weights')
    found = {str(case): own, f'{case}{quantizers.NATIVE}': in_one, 'float': other}
    expected = ['lsq(bits=2)', 'weights', 3000.0, 4000.0, 3.0, '3-3', 2.0]
    assert quantizers.row(case, found, 'float') == [*expected, 2000.0, 2.0]
    found.pop(f'{case}{quantizers.NATIVE}')
    assert quantizers.row(case, found, 'float') == [*expected, None, None]


@pytest.mark.slow
def test_a_table(monkeypatch, capsys):
    shapes = {'activations': (1, 4, 4, 8), 'weights': (3, 3, 8, 8)}
    monkeypatch.setattr(quantizers, 'SHAPES', shapes)
    flags = ['--rounds', '1', '--bits', '2', '3', '--batch_size', '2', '--width', '0.25']
    assert bench.main(['quantizers', *flags]) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert len(record['alone']) == len(quantizers.cases(specs.names(), [2, 3]))
    assert len(record['step']) == len(quantizers.cases(specs.names(), [2]))
    for row in record['alone'] + record['step']:
        assert np.isfinite(row['x CPU']) and row['x CPU'] > 0
