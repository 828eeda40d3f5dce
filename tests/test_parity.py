"""Our networks against the outputs of published code, and the judge against spoilt fixtures."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.parity.__main__ import judge, main
from tests.parity.fixtures import Result, compare, draw, fill, load
from tests.paths import SHARED

HERE = Path(__file__).parent / 'parity'
# Too large or too slow to be kept with the tests.
LEFT_OUT = (
    'rsq_preact50_w2a2.json',
    'rsq_resnet50_w2a32.json',
    'rsf_parallel_resnet18.json',
    'rsf_parallel_resnet50.json',
    'rsf_parallel_mobilenetv2.json',
    'rsf_meta_resnet18.json',
    'rsf_meta_mobilenetv2.json',
    'rsf_losses.json',
    'rsf_transforms.json',
    'rsf_train_parallel_resnet18.json',
    'rsf_train_parallel_mobilenetv2.json',
    'rsf_train_meta_resnet18.json',
)
SHARED_KINDS = ('rs[fq]_*', '*aig_*', '*_aig.*', 'msd_*', 'dsnet_*')
# One of every family that is not among ours.
QUICK = ('msd_cifar_min.json',)
# Kept with the tests, but with 72 networks to build, a step to repeat until it is settled, or
# much like another one.
LENGTHY = (
    'madds_rs_san',
    'rsq_preact_typeA18_w2a2',
    'rsq_train_kd128_96',
    'rsq_train_single96',
)


def named(folder: Path, pattern: str) -> list[Path]:
    """Fixtures of a folder, each once: by its JSON, or by its arrays if it has none."""
    files = sorted(folder.glob(pattern))
    return [
        file
        for file in files
        if file.suffix == '.json'
        or file.suffix == '.npz'
        and not file.with_suffix('.json').exists()
    ]


@pytest.mark.parametrize(
    'file',
    [
        pytest.param(file, id=file.stem, marks=[pytest.mark.slow] * (file.stem in LENGTHY))
        for file in named(HERE, '*')
    ],
)
def test_fixture(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = main([str(file)])
    assert status == 0, capsys.readouterr().out


@pytest.mark.parametrize(
    'name',
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK))
        for name in sorted(
            {
                *LEFT_OUT,
                *QUICK,
                *(f.name for pattern in SHARED_KINDS for f in named(SHARED, pattern)),
            }
            - {f.name for f in named(HERE, '*')}
        )
    ],
)
def test_shared_fixture(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    if not (SHARED / name).exists():
        pytest.skip(f'{SHARED / name} is not there; the small fixtures in {HERE} were run')
    status = main([str(SHARED / name)])
    assert status == 0, capsys.readouterr().out


class Copy:
    """A fixture of our own folder, or of the shared one, in a temporary one, to be spoilt."""

    def __init__(self, folder: Path, name: str):
        files = [
            folder / f'{name}{suffix}' for folder in (HERE, SHARED) for suffix in ('.json', '.npz')
        ]
        files = [file for file in files if file.exists()][:2]
        if not files:
            pytest.skip(f'{name} is neither in {HERE} nor in {SHARED}')
        for file in files:
            (folder / file.name).write_bytes(file.read_bytes())
        self.json, self.npz = folder / f'{name}.json', folder / f'{name}.npz'

    def change_tensor(self, name: str, change: Callable[[dict], None]) -> None:
        data = json.loads(self.json.read_text())
        change(next(row for row in data['tensors'] if row['name'] == name))
        self.json.write_text(json.dumps(data))

    def change_array(self, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
        arrays = dict(np.load(self.npz))
        arrays[name] = change(arrays[name])
        np.savez(self.npz, **arrays)


@pytest.mark.slow
def test_one_wrong_variable_fails_a_forward_fixture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Copy(tmp_path, 'rsq_preact_typeA18_w2a2')
    copy.change_tensor('imagenet/group2/block1/conv2/W', lambda row: row.update(b=row['b'] * 1.001))
    assert main([str(copy.json)]) == 1
    assert 'FAIL' in capsys.readouterr().out


def test_one_wrong_output_fails_a_forward_fixture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Copy(tmp_path, 'rsq_resnet18_w2a32')
    copy.change_array('logits_128', lambda x: x + 1e-3 * (np.arange(x.size) == 5).reshape(x.shape))
    assert main([str(copy.json)]) == 1
    assert 'logits_128' in capsys.readouterr().out


def test_missing_and_surplus_variables_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Copy(tmp_path, 'rsq_resnet18_w2a32')
    copy.change_tensor('imagenet/linear/W', lambda row: row.update(name='imagenet/linear2/W'))
    assert main([str(copy.json)]) == 1
    line = capsys.readouterr().out
    assert 'the fixture lacks: linear/W;' in line
    assert 'we lack: linear2/W' in line


@pytest.mark.slow
def test_noise_does_not_settle_a_wrong_training_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('tests.parity.rsq_train.TRIES', 8)
    copy = Copy(tmp_path, 'rsq_train_kd128_96')
    copy.change_tensor(
        'imagenet/group3/bn-last096/bn/beta', lambda row: row.update(b=row['b'] * 1.01)
    )
    assert main([str(copy.json)]) == 1
    assert 'no draw of noise' in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(
    'name, keys',
    [
        ('rsq_train_kd128_96', ['cost', 'distill', 'galpha', 'g_linear_b', 'wd']),
        (
            'rsq_train_single96',
            [
                'cost_0',
                'gnorm_conv0_0',
                'after0/imagenet/conv0/bn096/gamma',
                'after0/norm_g3b1c2W',
                'after0/imagenet/group0/quant_last/ActivationQuantization/basis',
            ],
        ),
    ],
)
def test_each_wrong_training_output_fails(name: str, keys: list[str], tmp_path: Path) -> None:
    copy = Copy(tmp_path, name)
    for key in keys:
        copy.change_array(key, lambda x: x * np.float32(1.002))
    result = judge(load(copy.json))
    assert not result.passed
    assert {check.what for check in result.checks if not check.passed} == set(keys)


@pytest.mark.parametrize(
    'case, key',
    [
        ('rs_ens_topdown', 'total'),
        ('rs_ens_topdown_n3', 'grad_logits'),
        ('rs_ens', 'grad_alpha'),
        ('rs_off', 'ce_ensemble'),
        ('san_kd', 'kd_raw'),
        ('san_kd', 'kl_topdown'),
    ],
)
def test_one_wrong_loss_fails(case: str, key: str, tmp_path: Path) -> None:
    copy = Copy(tmp_path, 'rsf_losses')
    data = json.loads(copy.json.read_text())
    data['cases'] = {case: data['cases'][case]}
    copy.json.write_text(json.dumps(data))
    copy.change_array(f'{case}/{key}', lambda x: x * np.float32(1.001))
    failed = [check.what for check in judge(load(copy.json)).checks if not check.passed]
    assert failed == [f'{case}/{"distillation" if key == "kd_raw" else key}']


@pytest.mark.parametrize(
    'row',
    [
        ['cos', True, 5, 0, 0.0999],
        ['linear', False, 2, 10, 0.0982],
        ['schedule', False, 30, 0, 0.1],
    ],
)
def test_one_wrong_learning_rate_fails(row: list, tmp_path: Path) -> None:
    copy = Copy(tmp_path, 'rsf_losses')
    data = json.loads(copy.json.read_text())
    data['cases'], data['lr_schedule']['rs'] = {}, [row]
    copy.json.write_text(json.dumps(data))
    assert [check.what for check in judge(load(copy.json)).checks if not check.passed] == [
        f'rs {row}'
    ]


@pytest.mark.slow
def test_one_wrong_pytorch_tensor_fails(tmp_path: Path) -> None:
    copy = Copy(tmp_path, 'rsf_parallel_resnet18')
    copy.change_tensor(
        'layer2.0.downsample.1.bn_3.running_var', lambda row: row.update(b=row['b'] * 1.01)
    )
    failed = {check.what for check in judge(load(copy.json)).checks if not check.passed}
    assert failed == {'logits_128', 'pooled_128', 'ensemble'}


@pytest.mark.parametrize(
    'key',
    [
        'activ_b3/y',
        'activ_b2_signed/gx',
        'weight_b4/basis_init',
        'weight_b2/basis1',
        'activ_b2/basis2',
        'weight_b1/biased1',
        'activ_b1/basis_ema',
    ],
)
def test_one_wrong_quantizer_value_fails(
    key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Copy(tmp_path, 'rsq_quantizers')
    data = json.loads(copy.json.read_text())
    data['cases'] = [case for case in data['cases'] if case['case'] == key.partition('/')[0]]
    copy.json.write_text(json.dumps(data))
    copy.change_array(key, lambda x: x * np.float32(1.001))
    assert main([str(copy.json)]) == 1
    assert key in capsys.readouterr().out


@pytest.mark.parametrize(
    'key', ['w_b2/y', 'w_pc_b4/gx', 'a_b3/grad_s', 'w_b8/init_s', 'a_clip_b2/y', 'edge_s3_0.3/gx']
)
def test_one_wrong_value_of_a_quantizer_fails(key: str, tmp_path: Path) -> None:
    copy = Copy(tmp_path, 'quant_lsq')
    data = json.loads(copy.json.read_text())
    data['cases'] = [case for case in data['cases'] if case['case'] == key.partition('/')[0]]
    copy.json.write_text(json.dumps(data))
    copy.change_array(key, lambda x: x * np.float32(1.001))
    assert [check.what for check in judge(load(copy.json)).checks if not check.passed] == [key]


def test_a_fixture_of_an_unknown_quantizer_is_not_passed(tmp_path: Path) -> None:
    copy = Copy(tmp_path, 'quant_lsq')
    other = tmp_path / 'quant_other.json'
    copy.json.rename(other)
    copy.npz.rename(other.with_suffix('.npz'))
    assert judge(load(other)).problems == ['no quantizer of ours for this file']


def test_one_wrong_index_fails(tmp_path: Path) -> None:
    copy = Copy(tmp_path, 'rsq_resize_idx')
    copy.change_array('idx_192', lambda x: x + (np.arange(192) == 54))
    assert main([str(copy.npz)]) == 1


def test_one_wrong_checkpoint_name_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Copy(tmp_path, 'rsq_ckpt_names_preact18')
    data = json.loads(copy.json.read_text())
    data['names']['imagenet/group1/block0/conv1/W2'] = data['names'].pop(
        'imagenet/group1/block0/conv1/W'
    )
    copy.json.write_text(json.dumps(data))
    assert main([str(copy.json)]) == 1
    assert 'group1/block0/conv1/W2' in capsys.readouterr().out


def test_one_wrong_count_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = Copy(tmp_path, 'madds_rs_san')
    data = json.loads(copy.json.read_text())
    data['models'] = {'parallel_resnet18': data['models']['parallel_resnet18']}
    data['models']['parallel_resnet18']['madds']['176']['conv'] += 1
    copy.json.write_text(json.dumps(data))
    assert main([str(copy.json)]) == 1
    assert 'parallel_resnet18 176 conv' in capsys.readouterr().out


@pytest.mark.parametrize(
    'name, key',
    [
        ('aig_loss', 'gate/logit_grad'),
        ('aig_loss', 'cifar_r110_default_0.6_soft/act_grad'),
        pytest.param('aig_resnet110_cifar', 'noisy_gate_decision', marks=pytest.mark.slow),
    ],
)
def test_one_wrong_gate_fails(name: str, key: str, tmp_path: Path) -> None:
    copy = Copy(tmp_path, name)
    copy.change_array(
        key, lambda x: x + np.float32(0.1) * (np.arange(x.size) == 5).reshape(x.shape)
    )
    failed = [check.what for check in judge(load(copy.json)).checks if not check.passed]
    assert failed and all(what.endswith(key) for what in failed)


def test_missing_files_and_unknown_kinds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unknown = tmp_path / 'abc_net.json'
    unknown.write_text('{}')
    assert main([str(unknown)]) == 1
    assert 'no runner yet' in capsys.readouterr().out
    assert main([str(unknown), str(tmp_path / 'none.json')]) == 2
    assert 'none.json: no such file' in capsys.readouterr().err
    (tmp_path / 'rsq_half.json').write_text('{"outputs": {}}')
    assert main([str(tmp_path / 'rsq_half.json')]) == 2
    unknown.write_text('{')
    assert main([str(unknown)]) == 2


def test_what_is_not_finite_or_of_another_shape_fails() -> None:
    ones = np.ones(3)
    assert compare('x', ones, ones, 0.0).passed
    assert not compare('x', ones * np.nan, ones, 1.0).passed
    assert not compare('x', ones[:1], ones, 1.0).passed
    assert not Result('nothing was compared').passed


def test_fill_and_draw_follow_the_published_rules() -> None:
    row = {
        'name': 'abc',
        'shape': [2, 3],
        'dist': 'uniform',
        'a': [[0.0], [10.0]],
        'b': [[1.0], [11.0]],
    }
    assert (fill(row) // 10 == [[0] * 3, [1] * 3]).all()
    one = np.random.RandomState(0x352441C2).standard_normal([2]) * 3 + 2  # crc32(b'abc')
    assert (
        fill({'name': 'abc', 'shape': [2], 'dist': 'normal', 'a': 2.0, 'b': 3.0})
        == one.astype('float32')
    ).all()
    labels = draw({'name': 'label', 'rule': 'RandomState(201).randint(0,1000,(4,)).astype(int32)'})
    assert (labels == np.random.RandomState(201).randint(0, 1000, 4)).all()
    images = draw({'shape': [2, 4, 4, 3], 'seeds': [1, 2]})
    assert (images[1] == np.random.RandomState(2).randint(0, 256, (4, 4, 3))).all()
