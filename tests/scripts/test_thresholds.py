"""scripts/thresholds.py over a made-up run folder."""

import json

import numpy as np
import pytest

from engine.files import write_json
from engine.results import exit_thresholds
from nets import cost
from nets.cost import LayerRecord
from scripts import thresholds

EXITS, IMAGES = 3, 3000


def records(rng, images):
    """Log-probabilities and right answers that agree: exits get surer, sure answers are right."""
    confidence = -np.exp(rng.standard_normal((images, EXITS)) - np.arange(EXITS))
    return confidence, rng.random(confidence.shape) < np.exp(confidence)


def layers(size):
    """Exit k needs blocks 0..k of 1, 2 and 3 million multiply-adds and its own head of 0.1."""

    def layer(name, madds):
        return LayerRecord(name, 'body', (1, 1, 100, madds // 100), (1, 1))

    return {
        f's{size}-x{k}': [
            *(layer(f'block{j}', (j + 1) * 1000000) for j in range(k + 1)),
            layer(f'head{k}', 100000),
        ]
        for k in range(EXITS)
    }


COSTS = np.array([1.1e6, 3.2e6, 6.3e6])


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(5)
    run = tmp_path / 'run'
    (run / 'exits').mkdir(parents=True)
    for size in (28, 20):
        confidence, right = records(rng, IMAGES)
        test_confidence, test_right = records(rng, 700)
        np.savez(
            run / 'exits' / f's{size}.npz',
            confidence=confidence,
            right=right,
            labels=np.zeros(IMAGES, int),
            test_confidence=test_confidence,
            test_right=test_right,
        )
    write_json(run / 'layers.json', cost.to_json({**layers(28), **layers(20)}))
    write_json(
        run / 'exits' / 'latency.json',
        {f's28-x{k}': {'batch1_ms': k + 1.0, 'batch32_ms': 9.0} for k in range(EXITS)},
    )
    for step in (10, 20):
        (run / f'model-{step}.index').touch()
    return run


def call(run, *flags):
    return thresholds.main([str(run), *flags])


def failure(capsys, run, *flags):
    assert call(run, *flags) == 2
    error = capsys.readouterr().err
    assert error.startswith('thresholds: error: ')
    return error


def test_budget(folder, capsys):
    assert call(folder, '--budget', '3M', '--format', 'markdown') == 0
    policy = exit_thresholds.read_policy(folder / 'exits' / 'thresholds-3M.json')
    with np.load(folder / 'exits' / 's28.npz') as arrays:
        found = {name: arrays[name] for name in arrays}
    top1, spent, _ = exit_thresholds.dynamic(
        found['confidence'], found['right'], np.array(policy.thresholds), COSTS
    )
    assert (policy.size, policy.exits, policy.unit, policy.budget) == (28, (0, 1, 2), 'MAdds', 3e6)
    assert policy.source == str(folder / 'model-20')
    assert policy.cost == spent and 2.99e6 < spent <= 3e6
    printed = capsys.readouterr().out.splitlines()
    seen, tested, share = exit_thresholds.dynamic(
        found['test_confidence'], found['test_right'], np.array(policy.thresholds), COSTS
    )
    numbers = [
        '3.00',
        f'{spent / 1e6:.2f}',
        f'{top1:.2f}',
        f'{tested / 1e6:.2f}',
        f'{seen:.2f}',
        ' '.join(f'{100 * part:.1f}' for part in share),
    ]
    assert printed[2].replace('|', ' ').split() == ' '.join(numbers).split()
    assert 'hold-out MAdds' in printed[0] and 'validation top-1' in printed[0]
    assert printed[-1] == f'{folder}/exits/thresholds-3M.json: thresholds for 28 pixels'


def test_latency(folder):
    assert call(folder, '--latency', '1.5ms', '--out', str(folder / 'own.json')) == 0
    policy = exit_thresholds.read_policy(folder / 'own.json')
    assert policy.unit == 'ms' and 1.49 < policy.cost <= 1.5


def test_another_size(folder):
    assert call(folder, '--budget', '0.003G', '--size', '20') == 0
    assert exit_thresholds.read_policy(folder / 'exits' / 'thresholds-s20-0.003G.json').size == 20


def test_sweep(folder, capsys):
    assert call(folder, '--sweep', '7', '--format', 'markdown') == 0
    rows = json.loads((folder / 'exits' / 'thresholds-sweep7.json').read_text())
    assert [row['budget'] for row in rows] == pytest.approx(np.linspace(1.1e6, 6.3e6, 7))
    spent = [row['cost'] for row in rows]
    assert spent == sorted(spent) and spent[0] == 1.1e6 and spent[-1] == 6.3e6
    table = capsys.readouterr().out.splitlines()
    assert len(table) == 2 + 7 + 2
    assert '| 100.0 0.0 0.0 ' in table[2] and '| 0.0 0.0 100.0 ' in table[8]


def test_without_validation_images(folder, capsys):
    confidence, right = records(np.random.default_rng(1), 500)
    np.savez(folder / 'exits' / 's28.npz', confidence=confidence, right=right)
    assert call(folder, '--budget', '3M') == 0
    assert '% by exit (hold-out)' in capsys.readouterr().out


def test_more_than_the_network_costs(folder):
    assert call(folder, '--budget', '1G') == 0
    policy = exit_thresholds.read_policy(folder / 'exits' / 'thresholds-1G.json')
    assert policy.cost == 6.3e6 and policy.thresholds == (
        exit_thresholds.NEVER,
        exit_thresholds.NEVER,
        exit_thresholds.ALWAYS,
    )


@pytest.mark.parametrize(
    'flags, part',
    [
        (
            '--budget 1M',
            '--budget 1M: the smallest possible budget is 1,100,000, the cost of the first exit',
        ),
        ('--latency 0.5ms', '--latency 0.5ms: the smallest possible budget is 1, the'),
        ('--budget 3ms', '--budget 3ms: expected multiply-adds such as 60M'),
        ('--budget M', '--budget M: expected'),
        ('--budget 3M --out .', '--out .: is a folder; give a file'),
        ('--budget 1.2.3M', '--budget 1.2.3M: expected'),
        ('--budget 0', '--budget 0: expected'),
        ('--budget=-3M', '--budget -3M: expected'),
        ('--latency 3', '--latency 3: expected a time such as 3ms'),
        ('--latency 60M', '--latency 60M: expected'),
        ('--sweep 1', '--sweep 1: at least 2 budgets'),
        ('--budget 3M --size 24', '--size 24: '),
        ('--latency 3ms --size 20', 'latency.json: has no cost of s20-x0 s20-x1'),
    ],
)
def test_bad_flags(flags, part, folder, capsys):
    before = sorted(folder.glob('**/*'))
    assert part in failure(capsys, folder, *flags.split())
    assert sorted(folder.glob('**/*')) == before


def spoil(path, **arrays):
    with np.load(path) as found:
        np.savez(path, **({name: found[name] for name in found} | arrays))


@pytest.mark.parametrize(
    'spoiled, part',
    [
        (lambda run: (run / 'layers.json').unlink(), 'layers.json: cannot be read'),
        (
            lambda run: (run / 'exits' / 's28.npz').write_bytes(b'PK'),
            's28.npz: damaged',
        ),
        (
            lambda run: np.savez(run / 'exits' / 's28.npz', right=np.ones((2, 3))),
            's28.npz: damaged',
        ),
        (
            lambda run: spoil(run / 'exits' / 's28.npz', right=np.ones((2, 3), bool)),
            'right [2, 3]: expected images x',
        ),
        (
            lambda run: spoil(run / 'exits' / 's28.npz', confidence=np.full((IMAGES, 3), np.nan)),
            'has diverged',
        ),
        (
            lambda run: spoil(run / 'exits' / 's28.npz', test_confidence=np.full((700, 3), np.inf)),
            'validation confidence',
        ),
        (
            lambda run: write_json(run / 'layers.json', cost.to_json(layers(20))),
            'no cost of s28-x0 s28-x1 s28-x2',
        ),
    ],
)
def test_bad_records(spoiled, part, folder, capsys):
    spoiled(folder)
    assert part in failure(capsys, folder, '--budget', '3M')


def test_times_that_fall(folder, capsys):
    write_json(
        folder / 'exits' / 'latency.json',
        {f's28-x{k}': {'batch1_ms': 3.0 - k} for k in range(EXITS)},
    )
    assert '--latency 3ms: costs of the exits 3, 2, 1' in failure(
        capsys, folder, '--latency', '3ms'
    )


def test_no_records(tmp_path, capsys):
    assert 'no records of exits' in failure(capsys, tmp_path, '--budget', '3M')


def test_interrupted(folder, capsys, monkeypatch):
    monkeypatch.setattr(
        exit_thresholds, 'solve', lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    assert call(folder, '--budget', '3M') == 130
    assert capsys.readouterr().err == 'interrupted\n'
