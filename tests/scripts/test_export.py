"""scripts/export.py: one operating point of a run becomes a file of its own weights."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from onnx import helper

from engine.data.identity import Part
from engine.deployment import forms, onnx_export, runtimes, verification
from engine.deployment.predictor import Predictor
from engine.graph import freeze
from engine.importers import pytorch
from engine.optimization import averages
from engine.results import cascades
from engine.results.exit_thresholds import ALWAYS, ExitPolicy
from engine.results.records import read_layers
from engine.runs import checkpoint, data_record, fingerprint
from engine.runs.checkpoint import POINTS
from engine.runs.data_record import DataRecord
from nets import cost
from quant import integers
from quant.backend import tf
from scripts import calibrate, export
from tests.conftest import make_shallow
from tests.engine.deployment.test_program import made as checkpoint_of
from tests.engine.graph.test_freeze import NETS, batch, constants, evaluated, made
from tests.engine.runs.test_checkpoint import save
from tests.paths import ROOT

pytestmark = pytest.mark.usefixtures('short_slimmable')


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """Run folders that look trained; what the configurations and values are."""
    folder, found = tmp_path_factory.mktemp('runs'), {}
    for name, points in (('dsnet', ['w06']), ('rsnet', []), ('msdnet', [])):
        config, values = made(NETS[name][0])
        extra = {POINTS: np.array(points)} if points else {}
        pytorch.write(pytorch.Imported(config, values | extra, []), folder / name)
        found[name] = config, values
    return folder, found


def exports(run, point, out, *flags) -> int:
    # All forms are checked by some images.
    few = [] if '--verify' in flags else ['--verify', '20']
    return export.main([str(run), '--point', point, '--out', str(out), *few, *flags])


@pytest.mark.parametrize(
    'name, point',
    [
        pytest.param('dsnet', 'w06', marks=pytest.mark.slow),
        ('rsnet', 's12'),
        ('msdnet', 's16-x1'),
    ],
)
def test_the_file_gives_the_logits_of_the_run(name, point, runs, tmp_path, capsys):
    folder, (config, values) = runs[0], runs[1][name]
    assert exports(folder / name, point, tmp_path / 'out') == 0
    said, images = capsys.readouterr().out, batch(config)
    size = sum(path.stat().st_size for path in (tmp_path / 'out').rglob('*') if path.is_file())
    *_, last = said.splitlines()
    assert last == (
        f'{tmp_path / "out"}: {point} of {folder / name / "model-0"}, {size / 1e3:.1f} kB'
    )
    (checked,) = [line.split() for line in said.splitlines() if line.startswith('tensorflow')]
    assert checked[2:5] == [point, '20', '0']
    assert 'checked with 20 images of noise' in said and 'top-1' not in said
    layers = read_layers(folder / name)[point]
    with tf.Graph().as_default() as graph, tf.Session() as session:
        meta = tf.saved_model.load(session, ['serve'], str(tmp_path / 'out'))
        signature = meta.signature_def['serving_default']
        found = session.run(
            signature.outputs['logits'].name, {signature.inputs['images'].name: images[0]}
        )
        stored = sum(array.nbytes for array in constants(graph.as_graph_def()).values())
        assert not tf.global_variables()
    expected = evaluated(config, values, images, point)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * expected.std())
    # Normalisation comes on top of the weights.
    assert 4 * cost.parameters(layers) <= stored < 1.4 * 4 * cost.parameters(layers)
    assert stored < size < stored + 1e5


def test_averages_are_exported(runs, tmp_path):
    """``--weights ema``: the constants of the file are those of the averages."""
    folder, (config, values) = runs[0], runs[1]['rsnet']
    run = tmp_path / 'run'
    trained = {}
    for name, value in values.items():
        trained[name] = np.flip(value).copy()
        trained[f'{averages.SCOPE}{name}'] = value
    save(trained, run / 'model-0')
    for name in ('config.json', 'layers.json'):
        shutil.copy(folder / 'rsnet' / name, run)
    found = {}
    for source, flags in ((run, ['--weights', 'ema']), (folder / 'rsnet', []), (run, [])):
        out = tmp_path / f'out{len(found)}'
        assert exports(source, 's12', out, *flags) == 0
        found[len(found)] = logits_of(out, batch(config)[-1])
    np.testing.assert_array_equal(found[0], found[1])
    assert np.abs(found[2] - found[1]).max() > 1e-3


def logits_of(out, images):
    """What the SavedModel in a folder says of images."""
    with tf.Graph().as_default(), tf.Session() as session:
        meta = tf.saved_model.load(session, ['serve'], str(out))
        signature = meta.signature_def['serving_default']
        feed = {signature.inputs['images'].name: images}
        return session.run(signature.outputs['logits'].name, feed)


def test_names_of_classes_travel(runs, tmp_path):
    """From the run folder to the predictor and the file."""
    run = tmp_path / 'run'
    shutil.copytree(runs[0] / 'rsnet', run)
    names = tuple(f'class {k}' for k in range(runs[1]['rsnet'][0].classes))
    data_record.write(run, DataRecord(classes=names, val=Part(3, 7)))
    assert Predictor(run).classes == names
    assert exports(run, 's12', tmp_path / 'out') == 0
    stored = json.loads((tmp_path / 'out' / 'assets.extra' / 'texts.json').read_text())
    assert tuple(stored['class_names']) == names
    assert Predictor(runs[0] / 'rsnet').classes == ()


class Names(forms.Exporter):
    """A format: the operations of the graph in a text file."""

    def write(self, source, points, path):
        frozen = freeze.named(source, *points)
        path.write_text('\n'.join(node.name for node in frozen.graph_def.node))


def test_a_format_is_one_line_of_the_registry(runs, tmp_path, capsys, monkeypatch):
    form = forms.Form(f'{__name__}.Names', 'names of operations')
    monkeypatch.setitem(forms.FORMS, 'names', form)
    out = tmp_path / 'out.txt'
    assert exports(runs[0] / 'rsnet', 's12', out, '--form', 'names') == 0
    names = out.read_text().splitlines()
    assert 'images_16' in names
    assert f'{out}: s12 of ' in capsys.readouterr().out
    with pytest.raises(SystemExit):
        exports(runs[0] / 'rsnet', 's12', tmp_path / 'other', '--form', 'unheard')
    assert '--form: unheard: unknown; there are' in capsys.readouterr().err
    with pytest.raises(SystemExit):
        export.main(['--help'])
    assert 'names of operations' in ' '.join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    'name, point, part',
    [
        ('dsnet', 'w07', '--point w07: '),
        ('dsnet', 's16', 'model-0 has w14 w06 w00; python -m scripts.calibrate'),
        ('rsnet', 'nonsense', 'has s16 s12'),
        ('msdnet', 's16-x7', 'has s16-x2 s16-x1 s16-x0'),
        ('nowhere', 's16', 'no such checkpoint or folder'),
    ],
)
def test_points_that_are_not_there(name, point, part, runs, tmp_path, capsys):
    assert exports(runs[0] / name, point, tmp_path / 'out') == 2
    said = capsys.readouterr().err
    assert part in said and said.startswith('export: error: ')
    assert not (tmp_path / 'out').exists()


REFUSALS = {
    'nowhere --out a.onnx': 'RUN nowhere: no such checkpoint or folder',
    'empty --out a.onnx': 'RUN empty: no checkpoint',
    'empty --out empty': '--out empty: exists',
    'empty --out cut.onnx/a.onnx': '--out cut.onnx/a.onnx: ',
    'empty --out a --no-preprocess': 'only ONNX files can do without',
    '--show nowhere.onnx': '--show nowhere.onnx: no such file',
    '--show empty': '--show empty: is no exported SavedModel',
    '--show cut.onnx': '--show cut.onnx: is no ONNX file',
    '--show a.onnx --out b.onnx': 'give RUN and --out PATH, or --show FILE alone',
    'empty --show a.onnx': 'give RUN and --out PATH, or --show FILE alone',
    'empty': 'give RUN and --out PATH, or --show FILE alone',
    'empty --out a.onnx --format csv': '--format csv: only --show has it',
}
EACH = """
import sys
from scripts import export
for line in sys.argv[1:]:
    try:
        print(export.main(line.split()))
    except SystemExit as left:
        print(left.code)
assert 'tensorflow' not in sys.modules
"""


def test_bad_input_is_refused_before_tensorflow_is_loaded(tmp_path):
    """Each with status 2 and a line that says what; nothing is left."""
    (tmp_path / 'empty').mkdir()
    model = helper.make_model(helper.make_graph([], 'a', [], []))
    (tmp_path / 'cut.onnx').write_bytes(model.SerializeToString()[:-3])
    environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
    command = [sys.executable, '-c', EACH, *REFUSALS]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ['2'] * len(REFUSALS)
    said = [line for line in done.stderr.splitlines() if 'error: ' in line]
    for line, part in zip(said, REFUSALS.values(), strict=True):
        assert part in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ['cut.onnx', 'empty']


def test_what_shows_a_file_is_not_installed(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, 'engine.deployment.onnx_file', None)
    (tmp_path / 'a.onnx').touch()
    assert export.main(['--show', str(tmp_path / 'a.onnx')]) == 2
    assert "pip install '.[export]' installs what it needs" in capsys.readouterr().err


def test_an_existing_folder_is_kept(runs, tmp_path, capsys):
    assert exports(runs[0] / 'dsnet', 'w06', tmp_path) == 2
    assert f'--out {tmp_path}: exists' in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_that_is_not_imported(runs, tmp_path, capsys):
    run = tmp_path / 'bare'
    run.mkdir()
    for path in (runs[0] / 'rsnet').glob('model-0.*'):
        (run / path.name).write_bytes(path.read_bytes())
    assert exports(run, 's16', tmp_path / 'out') == 2
    assert 'import it first' in capsys.readouterr().err


@pytest.fixture(scope='module')
def low_bits(tmp_path_factory):
    """The folder of a run of 2 bits with two sizes that looks trained."""
    folder = tmp_path_factory.mktemp('low') / 'run'
    with pytest.MonkeyPatch.context() as patch:
        make_shallow(patch)
        source = checkpoint_of('rsnet-sizes-w2a2')
        pytorch.write(pytorch.Imported(source.config, source.values, []), folder)
    return folder


@pytest.mark.usefixtures('shallow')
def test_one_onnx_file_of_all_sizes(low_bits, tmp_path, capsys):
    """The runtimes answer as evaluation, and the file says what it holds."""
    out = tmp_path / 'a.onnx'
    assert export.main([str(low_bits), '--out', str(out), '--verify', '20']) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[-1].startswith(f'{out}: s16 s12 of {low_bits / "model-0"}, ')
    for runtime, images in (('interpreter', '4'), ('onnxruntime', '20'), ('openvino', '20')):
        rows = [line.split() for line in said.splitlines() if line.startswith(runtime)]
        assert [row[-7:-4] for row in rows] == [['s16', images, '0'], ['s12', images, '0']]
    assert export.main(['--show', str(tmp_path / 'a.onnx')]) == 0
    shown = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ['s12', '16', '12'] in [row[:3] for row in shown]
    for row in (['net', 'rsnet'], ['qw', '2'], ['head', 'bits', '32'], ['form', 'packed']):
        assert row in shown
    assert ['interpreter', 's16', 's12', '4', '0'] in shown


@pytest.mark.usefixtures('shallow')
def test_levels_that_are_not_whole_are_not_rounded(low_bits, tmp_path, capsys, monkeypatch):
    """What would be shipped is not what was evaluated; the message says what to do."""
    monkeypatch.setattr(integers, 'EXACT', -1.0)
    assert export.main([str(low_bits), '--form', 'int8', '--out', str(tmp_path / 'a.onnx')]) == 2
    said = capsys.readouterr().err
    assert said.startswith('export: error: --form int8: group0/block0/quant1/')
    assert f'python -m scripts.snap {low_bits}, makes a run whose levels are' in said
    assert list(tmp_path.iterdir()) == []


class Failing:
    """A runtime that loads every file and runs none."""

    version = '1.0'

    def __init__(self, content, threads):
        self.texts = {}

    def at(self, number, side, thresholds=()):
        def run(images):
            raise RuntimeError('\nno memory left\nfor this')

        return run


@pytest.mark.slow
@pytest.mark.usefixtures('shallow')
def test_a_runtime_that_cannot_run_the_file(low_bits, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(runtimes.RUNTIMES, 'onnxruntime', f'{__name__}.Failing')
    assert export.main([str(low_bits), '--out', str(tmp_path / 'a.onnx'), '--verify', '3']) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == (
        f'export: {tmp_path / "a.onnx"} is not made: the file: onnxruntime cannot run it at s16 '
        '(no memory left)'
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.usefixtures('shallow')
def test_a_size_above_the_images_that_was_calibrated(low_bits, tmp_path, capsys):
    """Its images are larger than those of the sizes that were trained."""
    run = tmp_path / 'run'
    shutil.copytree(low_bits, run)
    assert calibrate.main([str(run), '--sizes', '20', '--images', '64']) == 0
    assert Predictor(run).points == ['s16', 's12', 's20']
    out = tmp_path / 'a.onnx'
    assert export.main([str(run), '--out', str(out), '--verify', '20']) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    checked = [row[-7:-4] for row in rows if row and row[0] == 'onnxruntime']
    assert checked == [['s16', '20', '0'], ['s12', '20', '0'], ['s20', '20', '0']]


@pytest.mark.slow
@pytest.mark.usefixtures('shallow')
def test_two_exports_are_the_same_bytes_and_codes_take_fewer(low_bits, tmp_path):
    for name, flags in (('a', []), ('b', []), ('float', ['--form', 'float'])):
        out = tmp_path / f'{name}.onnx'
        assert export.main([str(low_bits), '--out', str(out), '--verify', '20', *flags]) == 0
    assert (tmp_path / 'a.onnx').read_bytes() == (tmp_path / 'b.onnx').read_bytes()
    assert (tmp_path / 'a.onnx').stat().st_size < (tmp_path / 'float.onnx').stat().st_size


@pytest.mark.slow
@pytest.mark.usefixtures('shallow')
def test_images_of_the_size_of_their_point(low_bits, tmp_path, capsys):
    out = tmp_path / 'a.onnx'
    flags = ['--verify', '20', '--no-preprocess']
    assert export.main([str(low_bits), '--out', str(out), *flags]) == 0
    checked = [line.split()[-7:-4] for line in capsys.readouterr().out.splitlines()]
    assert ['s12', '20', '0'] in checked and ['s16', '20', '0'] in checked
    assert export.main(['--show', str(out)]) == 0
    shown = capsys.readouterr().out
    assert 'float32 [N, side, side, 3]' in shown
    assert ['s12', '12', '12'] in [line.split()[:3] for line in shown.splitlines()]


def test_a_savedmodel_prepares_its_images(runs, tmp_path, capsys):
    assert exports(runs[0] / 'rsnet', 's16', tmp_path / 'a', '--no-preprocess') == 2
    assert '--no-preprocess: only ONNX files can do without' in capsys.readouterr().err


@pytest.mark.usefixtures('shallow')
def test_a_file_that_answers_differently_is_not_kept(low_bits, tmp_path, capsys, monkeypatch):
    class Wrong:
        version = '0'

        def at(self, number, side):
            return lambda images: np.eye(5)[np.arange(len(images)) % 5]

    monkeypatch.setattr(onnx_export, 'load', lambda *args, **options: Wrong())
    assert export.main([str(low_bits), '--out', str(tmp_path / 'a.onnx'), '--verify', '20']) == 1
    said = capsys.readouterr().err
    assert f'export: {tmp_path / "a.onnx"} is not made: onnxruntime 0 answers' in said
    assert '; --snap has sums of whole numbers' in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('moment', ['write', 'compare', 'note'])
@pytest.mark.parametrize('out', ['a.onnx', 'a'])
def test_an_interrupted_export_leaves_nothing(out, moment, runs, tmp_path, capsys, monkeypatch):
    """While a file or a folder is written, checked, or has its texts written."""

    class Interrupted(forms.Exporter):
        static = True

        def write(self, source, points, path):
            if out == 'a':
                path.mkdir()
            (path / 'b' if out == 'a' else path).write_text('begun')
            stop('write')

        def note(self, path, texts):
            stop('note')

    def stop(here):
        if here == moment:
            signal.raise_signal(signal.SIGINT)

    def compare(*_):
        stop('compare')
        return []

    monkeypatch.setattr(export.forms, 'exporter', lambda name: Interrupted())
    monkeypatch.setattr(verification, 'compare', compare)
    place = tmp_path / 'new'
    # Where tests run in the background the signal is ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert exports(runs[0] / 'rsnet', 's12', place / out) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().err.splitlines()[-1] == 'interrupted'
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    'flags, said',
    [
        (['RUN'], 'give RUN and --out PATH, or --show FILE'),
        (['RUN', '--out', 'x', '--verify', '0'], "'0' must be a number from 1 on, or all"),
        (['RUN', '--out', 'x', '--verify', 'some'], "'some' must be a number"),
    ],
)
def test_flags_that_say_too_little(flags, said, capsys):
    with pytest.raises(SystemExit) as ended:
        export.main(flags)
    assert ended.value.code == 2 and said in capsys.readouterr().err


@pytest.mark.parametrize('content', [None, b'', b'no model', b'\x08\x06'])
def test_what_is_no_onnx_file_is_not_shown(content, tmp_path, capsys):
    path = tmp_path / 'a.onnx'
    if content is not None:
        path.write_bytes(content)
    assert export.main(['--show', str(path)]) == 2
    assert f'--show {path}: ' in capsys.readouterr().err


@pytest.mark.slow
def test_a_saved_model_says_what_it_holds(runs, tmp_path, capsys):
    out = tmp_path / 'out'
    assert exports(runs[0] / 'rsnet', 's16', out, '--points', 's16', 's12') == 0
    capsys.readouterr()
    assert export.main(['--show', str(out)]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    checked = [row[2:] for row in rows if row and row[0] == 'tensorflow']
    assert checked == [['s16', '20', '0'], ['s12', '20', '0']]
    assert ['library', 'tensorflow', tf.__version__] in rows
    assert export.main(['--show', str(tmp_path)]) == 2
    assert 'is no exported SavedModel' in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize('name', ['msdnet', 'dsnet'])
def test_points_that_differ_in_layers_share_a_file(name, runs, tmp_path, capsys):
    out = tmp_path / 'a.onnx'
    assert export.main([str(runs[0] / name), '--out', str(out), '--verify', '20']) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    points = freeze.points(checkpoint.read(str(runs[0] / name / 'model-0'), flag='RUN'))
    for runtime in ('onnxruntime', 'openvino'):
        checked = [row[2:5] for row in rows if row and row[0] == runtime]
        assert checked == [[point, '20', '0'] for point in points]


def policy(size=16, exits=3):
    thresholds = (-1.6, -1.5, -1.4, -1.3)[: exits - 1]
    return ExitPolicy(size, tuple(range(exits)), (*thresholds, -1e8), 2e6, 1e6, 'MAdds', 'model-0')


@pytest.mark.parametrize(
    'name, points, given, said',
    [
        ('rsnet', 'dynamic', None, 'makes no choice image by image; it has s16 s12'),
        ('msdnet', 'dynamic', None, 'has none; python -m scripts.thresholds RUN --budget'),
        ('msdnet', 's16-dynamic', policy(size=12), 'is for size 12, not 16'),
        ('msdnet', 's16-dynamic', policy(exits=2), 'has 2 exits, the network 3'),
        ('msdnet', 's16-x1', policy(), 'no exit chooses; leave it out'),
        ('msdnet', 's12-dynamic', policy(), 'has s16-x2 s16-x1 s16-x0 s16-dynamic; '),
    ],
)
def test_choices_that_cannot_be_exported(name, points, given, said, runs, tmp_path, capsys):
    flags = ['--out', str(tmp_path / 'a.onnx'), '--points', points]
    if given is not None:
        given.write(tmp_path / 'policy.json')
        flags += ['--thresholds', str(tmp_path / 'policy.json')]
    assert export.main([str(runs[0] / name), *flags]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / 'a.onnx').exists()


def test_a_saved_model_does_not_choose(runs, tmp_path, capsys):
    flags = ['--points', 's16-dynamic', '--out', str(tmp_path / 'out')]
    assert export.main([str(runs[0] / 'msdnet'), *flags]) == 2
    assert '--points s16-dynamic: this format holds operating points' in capsys.readouterr().err


@pytest.mark.slow
def test_a_file_that_chooses(runs, tmp_path, capsys):
    """With the thresholds of the run folder; what it executed is compared and priced."""
    run = tmp_path / 'run'
    shutil.copytree(runs[0] / 'msdnet', run)
    (run / 'exits').mkdir()
    policy().write(run / 'exits' / 'thresholds-2M.json')
    out = tmp_path / 'a.onnx'
    flags = ['--points', 'dynamic', '--out', str(out), '--verify', '20']
    assert export.main([str(run), *flags]) == 0
    said = capsys.readouterr().out
    assert 'executed otherwise' in said
    for runtime in ('onnxruntime', 'openvino'):
        (row,) = [line.split() for line in said.splitlines() if line.startswith(runtime)]
        assert row[2:5] == ['s16-dynamic', '20', '0'] and row[-1] == '0'
    assert export.main(['--show', str(out)]) == 0
    (row,) = [line for line in capsys.readouterr().out.splitlines() if 'executed: exit' in line]
    layers = read_layers(run)
    for exit in range(3):
        madds = cost.madds(cost.cumulative(layers, f's16-x{exit}'))
        assert f'{exit}: {madds:,} MAdds' in row


def cascade_of(run, file, points=('s12', 's16'), **changes):
    """A file of a cascade of a run, which lets images leave that are right by half."""
    none = cascades.Interval(0.0, 0.0)
    judged = cascades.Judged(9, 50.0, 90.0, none, 5.0, none, (0.5, 0.5), (None, None), 0.0, none)
    prefix = checkpoint.find(str(run), None, 'RUN')
    fields = {
        'points': points,
        'thresholds': (-1.5, ALWAYS)[-len(points) :],
        'combine': 'mean',
        'temperatures': (0.5, 2.0)[-len(points) :],
        'asked': '5M',
        'unit': 'MAdds',
        'checkpoint': prefix,
        'identity': fingerprint.identity(prefix),
        'instead': 's12',
        'holdout': judged,
        'validation': judged,
    }
    cascades.write(file, cascades.Cascade(**(fields | changes)))
    return str(file)


@pytest.mark.parametrize(
    'changes, flags, said',
    [
        ({'identity': 'another'}, [], 'thresholds were chosen for another checkpoint'),
        ({'points': ('s12', 's14')}, [], 'no point s14; .* has s16 s12'),
        ({'points': ('s12',)}, [], 'is one point; --points s12 writes it'),
        ({}, ['--points', 's12'], 'says points and thresholds; leave --points out'),
        ({}, ['--out', 'saved'], 'in the forms packed, int8, float, can hold a cascade'),
        ({}, ['--no-preprocess'], 'makes the size of a stage when the stage runs'),
    ],
)
def test_cascades_that_are_not_exported(changes, flags, said, runs, tmp_path, capsys, monkeypatch):
    run, out = runs[0] / 'rsnet', tmp_path / 'out.onnx'
    monkeypatch.chdir(tmp_path)
    file = cascade_of(run, tmp_path / 'one.json', **changes)
    assert export.main([str(run), '--cascade', file, '--out', str(out), *flags]) == 2
    assert re.search(said, capsys.readouterr().err)
    assert [path.name for path in tmp_path.iterdir()] == ['one.json']


@pytest.mark.slow
@pytest.mark.parametrize('form', ['packed', 'float'])
def test_a_cascade_is_exported(form, runs, tmp_path, capsys):
    """Checked, described, the same bytes again, and read by a predictor."""
    run, out = runs[0] / 'rsnet', tmp_path / 'a.onnx'
    images = list(np.random.default_rng(0).integers(256, size=(30, 20, 20, 3), dtype=np.uint8))
    # Logits that look trained are so large that every image is sure.
    rule = {'temperatures': (300.0, 200.0)}
    first = cascade_of(run, tmp_path / 'first.json', thresholds=(-30.0, ALWAYS), **rule)
    confidence = np.sort(np.log(Predictor(run).predict(images, cascade=first).scores))  # [30]
    between = float(confidence[14:16].mean())
    file = cascade_of(run, tmp_path / 'one.json', thresholds=(between, ALWAYS), **rule)
    flags = ['--cascade', file, '--form', form, '--verify', '40']
    for path in (out, tmp_path / 'b.onnx'):
        assert export.main([str(run), *flags, '--out', str(path)]) == 0
    said = capsys.readouterr().out
    checked = re.findall(r'^(?:interpreter|onnxruntime|openvino) .*$', said, re.MULTILINE)
    lines = [line.split() for line in checked if 's12+s16' in line.split()]
    assert len(lines) == 6 and all(line[3:5] == ['40', '0'] for line in lines if line[3] == '40')
    assert out.read_bytes() == (tmp_path / 'b.onnx').read_bytes()
    assert export.main(['--show', str(out)]) == 0
    shown = capsys.readouterr().out
    layers = read_layers(run)
    madds = [cost.madds(layers[point]) for point in ('s12', 's16')]
    for stage, spent in enumerate((madds[0], sum(madds))):
        assert re.search(rf'{stage} +s1[26] .*{spent / 1e6:.3f}', shown)
    assert f'50.00 % of 9, {(madds[0] + sum(madds)) / 2e6:.3f} M MAdds' in shown
    found = Predictor(out).predict(images)
    right = Predictor(run).predict(images, cascade=file)
    assert found.stages == right.stages and len(set(found.stages)) == 2
    np.testing.assert_array_equal(found.labels, right.labels)
    assert Predictor(out).predict(images, cascade=file).stages == found.stages
