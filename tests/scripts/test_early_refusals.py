"""What the records of a run rule out is refused before its checkpoint is read, by every script."""

import shlex
import shutil

import pytest

import imagenet_tf
from engine.config.config import Config
from engine.files import write_json
from engine.runs import checkpoint, history
from scripts import (
    calibrate,
    check_data,
    export,
    pack_data,
    predict,
    profile,
    prune_gates,
    quantize,
    show_quantizer,
    snap,
    thresholds,
)

SMALL = {'data': 'animals28', 'classes': 10, 'image_size': 28, 'steps_per_epoch': 10, 'epochs': 1}
LQ = {'qw': 2, 'qa': 2, 'mode': 'preact', 'arch': 'resnet8', 'sizes': (16, 12), 'width': 0.25}
RUNS = {
    'rsnet': {**LQ},
    'lsq': {**LQ, 'quantizer': 'lsq'},
    'float': {**LQ, 'qw': 32, 'qa': 32},
    'bits': {
        **LQ,
        'qw': 4,
        'qa': 4,
        'bits': ('4', '2'),
        'weight_quantizer': 'lq(nested=True)',
    },
    'aig': {'net': 'aig', 'arch': 'resnet20', 'mode': 'pytorch', 'sizes': (28,)},
    'dsnet': {'net': 'dsnet', 'arch': 'mobilenetv1_small', 'mode': 'pytorch', 'sizes': (28,)},
}
SCRIPTS = {
    'calibrate': calibrate,
    'check_data': check_data,
    'export': export,
    'pack_data': pack_data,
    'predict': predict,
    'profile': profile,
    'prune_gates': prune_gates,
    'quantize': quantize,
    'show_quantizer': show_quantizer,
    'snap': snap,
    'thresholds': thresholds,
}


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """Run folders with everything but the bytes of a checkpoint, and what is none."""
    root = tmp_path_factory.mktemp('runs')
    for name, options in RUNS.items():
        folder = root / name
        folder.mkdir()
        config = Config.from_values(**SMALL, **options)
        write_json(folder / 'config.json', config.to_json())
        (folder / 'model-10.index').touch()
        history.write(folder, [{'epoch_num': 1, 'global_step': 10}])
    (root / 'stopped').mkdir()
    write_json(root / 'stopped' / 'config.json', config.to_json())
    (root / 'alien').mkdir()
    (root / 'alien' / 'model-10.index').touch()
    (root / 'file').write_text('precious')
    return root


@pytest.fixture
def runs(made, monkeypatch):
    """The folder of these runs, which is the current one; nothing reads a checkpoint."""

    def read(prefix, **_):
        raise AssertionError(f'{prefix} was read')

    monkeypatch.setattr(checkpoint, 'read_variables', read)
    monkeypatch.chdir(made)
    return made


def refused(line, capsys):
    """What a command line says on the way to status 2."""
    name, *words = shlex.split(line)
    main = imagenet_tf.main if name == 'imagenet_tf' else SCRIPTS[name].main
    try:
        status = main(words)
    except SystemExit as end:  # argparse
        status = end.code
    said = capsys.readouterr().err
    assert status == 2, said
    return said


@pytest.mark.parametrize(
    'line, words',
    [
        ('calibrate rsnet', '--net rsnet: is no slimmable network; give --sizes'),
        ('calibrate rsnet --widths 3', 'give --sizes'),
        ('calibrate rsnet --bits 3', '--bits 3: rsnet was trained without --bits'),
        ('calibrate bits --bits 8', '--bits 8: codes of bits are nested and have 2 to 4 bits'),
        ('calibrate bits --bits 3 3', '--bits 3 3: a value is repeated'),
        ('calibrate dsnet --widths 3 3', '--widths 3 3: a value is repeated'),
        ('calibrate dsnet --widths 99', 'widths 99 is no width; there are 0 to 14'),
        ('calibrate rsnet --sizes 14 14', '--sizes 14 14: a size is repeated'),
        ('calibrate rsnet --sizes 14 --images 1', '--images 1: must lie between 2 and the 8000'),
        ('calibrate rsnet --sizes 14 --threads -1', '--threads -1: must be at least 0'),
        ('calibrate rsnet --sizes 14 --data none', '--data none: is not there'),
        ('calibrate stopped --sizes 14', 'RUN stopped: no checkpoint'),
        ('calibrate alien --sizes 14', 'alien/model-10: no config.json there; import it first'),
        ('check_data animals28 --threads -1', '--threads -1: must be at least 0'),
        ('pack_data animals28 ""', "'': is empty; give a path"),
        ('pack_data animals28 out --threads -1', '--threads -1: must be at least 0'),
        ('export rsnet --point s99 --out a.onnx', '--point s99: rsnet/model-10 has s16 s12'),
        ('export rsnet --points dynamic --out a.onnx', 'makes no choice image by image'),
        ('export aig --points dynamic --out folder', 'this format holds operating points alone'),
        ('export rsnet --form int8 --out a.onnx', '--form int8: rsnet/model-10 has levels'),
        ('export float --form int8 --out a.onnx', '--form int8: no layer has both'),
        ('export float --snap --out a.onnx', 'float/model-10: has no levels to snap'),
        ('export rsnet --prune-gates 0.9 --out a.onnx', 'is a rsnet, which has no gates'),
        ('export rsnet --thresholds file --out a.onnx', '--thresholds file: no exit chooses'),
        ('export rsnet --weights ema --out a.onnx', '--weights ema: rsnet/model-10 holds no'),
        ('export rsnet --data none --out a.onnx', '--data none: no such name'),
        ('export rsnet --bits-first 2 --out a.lqn', '--bits-first 2: rsnet/model-10 has no points'),
        ('export bits --bits-first 3 --out a.lqn', '--bits-first 3: bits/model-10 has 4, 2'),
        ('export rsnet --form native --out a.onnx', '--form native with --out a.onnx: .onnx'),
        ('export rsnet --form packed --out a.lqn', '--form packed with --out a.lqn: .lqn'),
        ('export rsnet --snap --cascade file --out a.onnx', '--cascade file: was chosen for rsnet'),
        ('export alien --out a.onnx', 'alien/model-10: no config.json there'),
        ('predict rsnet file --point s99', "--point 's99': rsnet/model-10 has s16 s12"),
        ('predict rsnet file --budget 3X', '--budget 3X: expected multiply-adds'),
        ('predict rsnet file --budget 3M', 'rsnet/layers.json: cannot be read'),
        ('predict rsnet file --deadline-ms nan', '--deadline-ms nan: must be milliseconds'),
        ('predict rsnet file --point s16 --budget 3M', '--point s16 and --budget 3M: give one'),
        ('predict rsnet file --cascade file', 'file: damaged'),
        ('predict rsnet file --backend tensorflw', "--backend 'tensorflw': unknown; did you"),
        ('predict none file', 'RUN none: no such run folder'),
        ('predict rsnet none.jpg', 'IMAGE none.jpg: is not there'),
        ('profile stopped', 'RUN stopped: no checkpoint'),
        ('prune_gates rsnet', 'rsnet/model-10: is a rsnet, which has no gates of blocks'),
        ('prune_gates aig', 'aig/model-10: has no hold-out'),
        ('prune_gates aig --weights ema', '--weights ema: aig/model-10 holds no averages'),
        ('quantize rsnet --qw 8', 'RUN rsnet: is quantized already, to W2A2'),
        ('quantize float --qw 9', '--qw 9: bits must be 1 to 8'),
        ('quantize float', '--qw 32 --qa 32: is float'),
        ('quantize float --qw 8 --threads -1', '--threads -1: must be at least 0'),
        ('quantize float --qw 8 --images 1', '--images 1: must lie between 2 and the 8000'),
        ('show_quantizer float -o a.svg', 'float/model-10: is in float'),
        ('show_quantizer rsnet --point s99 -o a.svg', "--point 's99': unknown; there are s16, s12"),
        ('show_quantizer rsnet --data none -o a.svg', '--data none: is not there'),
        ('show_quantizer --all file', '--all file: '),
        ('snap float', 'float/model-10: has no levels to snap'),
        ('snap lsq', 'lsq/model-10: has no levels to snap'),
        ('snap rsnet --weights ema', '--weights ema: rsnet/model-10 holds no averages'),
        ('snap rsnet --data none', '--data none: no such name'),
        ('thresholds rsnet --sweep 100000000', '--sweep 100000000: at least 2 budgets'),
        ('imagenet_tf --eval -ec rsnet -es 14', '-es 14: no statistics for size 14'),
        ('imagenet_tf --eval -ec rsnet -ew 3', '-ew 3: --net rsnet has no widths'),
        ('imagenet_tf --eval -ec rsnet -eb 3', '-eb 3: rsnet/model-10 was trained without'),
        ('imagenet_tf --eval -ec bits -eb 2 2', '-eb 2 2: a value is repeated'),
        ('imagenet_tf --eval -ec bits -eb 3', 'no statistics for s16-b3 s12-b3'),
        ('imagenet_tf --eval -ec rsnet --weights ema', '--weights ema: rsnet/model-10 holds no'),
        ('imagenet_tf --eval -ec rsnet --thresholds file', 'file: damaged'),
        ('imagenet_tf --eval -ec rsnet --logdir file', '--logdir file: is a file'),
        ('imagenet_tf --eval -ec rsnet --draws 3', '--draws 3: needs --gate_noise'),
    ],
)
def test_refused_before_the_checkpoint_is_read(line, words, runs, capsys):
    before = sorted(path.name for path in runs.iterdir())
    assert words in refused(line, capsys)
    assert sorted(path.name for path in runs.iterdir()) == before
    assert (runs / 'file').read_text() == 'precious'


@pytest.mark.parametrize('line', ['snap rsnet', 'export rsnet --form int8 --snap --out a.onnx'])
def test_what_can_be_is_not_refused(line, runs):
    """The same runs without the fault: their checkpoints are read."""
    name, *words = shlex.split(line)
    with pytest.raises(AssertionError, match='model-10 was read'):
        SCRIPTS[name].main(words)


def test_levels_of_a_copy_are_looked_at(runs, tmp_path):
    """Nothing but a training says that its levels are no whole numbers: a copy can be snapped."""
    copy = tmp_path / 'copy'
    shutil.copytree(runs / 'rsnet', copy)
    (copy / history.FILE).unlink()
    with pytest.raises(AssertionError, match='model-10 was read'):
        export.main([str(copy), '--form', 'int8', '--out', str(tmp_path / 'a.onnx')])
