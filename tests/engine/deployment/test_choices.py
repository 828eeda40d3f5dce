"""Choices image by image: a file answers and executes what the network does."""

import functools

import numpy as np
import onnx
import onnxruntime
import pytest

from engine import Predictor
from engine.data.preprocessing import Preprocessing
from engine.deployment import (
    choices,
    cutting,
    description,
    integer_program,
    interpreter,
    onnx_file,
    program,
    snapping,
    texts,
    tf_graph,
    trace,
)
from engine.deployment.pool import Constants
from engine.deployment.runtimes import RUNTIMES
from engine.errors import UsageError
from engine.graph import freeze
from tests.engine.deployment.test_program import IMAGES, logits, made

pytestmark = pytest.mark.usefixtures('shallow')

# From dark to bright, that gates have something to tell apart.
MIXED = (IMAGES * np.linspace(0, 1, len(IMAGES))[:, None, None, None]).astype(np.uint8)


def undecided(cell, sign=1):
    """A checkpoint whose gates do not say the same of all images, or the other way round."""
    source = made(cell)
    rng = np.random.default_rng(3)
    for name, value in source.values.items():
        if name.endswith(('gate1/W', 'gate2/W', 'slimming_gate/W', 'se/reduce/W')):
            source.values[name] = sign * rng.normal(0, 9, value.shape).astype(np.float32)
        elif name.endswith(('gate1/b', 'gate2/b', 'se/reduce/b')):
            source.values[name] = rng.normal(0, 1, value.shape).astype(np.float32)
    return source


def halfway(source):
    """Thresholds by which half of the images leave a network of two exits at the first."""
    points = logits(source, MIXED)
    if 's16-x0' not in points:
        return []
    answers = points['s16-x0'].astype(np.float64)
    confidence = answers.max(axis=1) - np.log(np.exp(answers).sum(axis=1))
    return [float(np.median(confidence)), -1e8]


def evaluated(source, name, thresholds):
    """[N, classes + choices] of the graph in which TensorFlow makes the choices."""
    frozen, _ = freeze.of_choices(source, name, thresholds)
    (run,) = frozen.runs()
    views = [MIXED[:, :side, :side] for side in source.config.preprocessing.view_sizes]
    answers, *executed = run(*views)
    return np.concatenate([answers, *(numbers[:, None] for numbers in executed)], axis=1)


def by_hand():
    """Two exits of which the second has two widths, chosen by the brighter of two channels."""
    constants = Constants()
    rng = np.random.default_rng(0)
    head0, head1, head2 = (
        constants.add(rng.normal(size=(3, 4)), f'head{k}', kernel=True) for k in range(3)
    )
    gate = constants.add(np.eye(3)[:, :2], 'gate')
    threshold = constants.add(np.float32([-0.8]), 'threshold')
    scale = constants.add(np.float32([0.01]), 'scale')
    operations = (
        program.Cast('cast', 'images'),
        program.Arithmetic('small', 'cast', 'multiply', scale),
        program.GlobalPool('pool', 'small'),
        program.ToRows('rows', 'pool'),
        program.Dense('x0', 'rows', head0),
        choices.Confident('sure', 'x0', 0, threshold),
        program.Activation('more', 'rows', 'relu'),
        program.Dense('gate', 'more', gate),
        choices.Largest('width', 'gate'),
        program.Dense('w0', 'more', head1),
        program.Dense('w1', 'more', head2),
        choices.Number('5', 'width', 5),
        choices.Number('7', 'width', 7),
        choices.Choose('wide', 'width', (('w0', '5'), ('w1', '7')), ('which',)),
        choices.Number('first', 'width', 0),
        choices.Choose('out', 'sure', (('wide', 'which'), ('x0', 'first')), ('told',)),
    )
    told = choices.chosen(operations, 'exit', 'told')
    return program.Program(
        {'made': program.PointProgram('images', 4, operations, 'out', (told,))}, constants
    )


@pytest.mark.parametrize('packed', [True, False])
def test_nested_choices(packed, tmp_path):
    """Against a loop over images; a threshold that is given is the one that counts."""
    whole = by_hand()
    assert whole.points['made'].choices[0].numbers == (0, 5, 7)
    images = np.random.default_rng(1).integers(256, size=(40, 4, 4, 3), dtype=np.uint8)
    images = (images * np.linspace(0, 1, 40)[:, None, None, None]).astype(np.uint8)
    path = tmp_path / 'a.onnx'
    onnx_file.save(whole, path, {}, packed=packed)
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    answers, executed = interpreter.answers(whole, 'made', images)
    heads = [whole.constants[f'head{k}'].values for k in range(3)]
    seen = set()
    for image, logits_found, told in zip(images, answers, executed[:, 0]):
        rows = (0.01 * image.astype(np.float64)).mean(axis=(0, 1))
        scores = rows @ heads[0]
        sure = scores.max() - np.log(np.exp(scores).sum()) >= -0.8
        wide = int(rows[1] > rows[0])
        expected = scores if sure else rows @ heads[1 + wide]
        number = 0 if sure else (5, 7)[wide]
        np.testing.assert_allclose(logits_found, expected, rtol=0, atol=1e-5)
        assert told == number
        found, numbers = session.run(None, {'images': image[None]})
        np.testing.assert_allclose(found[0], expected, rtol=0, atol=1e-5)
        assert numbers.tolist() == [[number]]
        never = {'images': image[None], 'thresholds': np.float32([1e9, 0])}
        assert session.run(['executed'], never)[0].tolist() == [[(5, 7)[wide]]]
        seen.add(number)
    assert seen == {0, 5, 7}


def skipping(lasting):
    """Blocks around which bright images go, the second by a projection.

    ``lasting``: what enters the first is read again at the end.
    """
    constants = Constants()
    rng = np.random.default_rng(0)
    kernels = [rng.normal(size=(3, 3, 3, 3)), rng.normal(size=(3, 3, 3, 5))]
    body, wide = (constants.add(value, f'k{n}', kernel=True) for n, value in enumerate(kernels))
    beside = constants.add(rng.normal(size=(1, 1, 3, 5)), 'beside', kernel=True)
    scale = constants.add(np.float32([0.01]), 'scale')
    head = constants.add(rng.normal(size=(5, 4)), 'head', kernel=True)
    again = constants.add(rng.normal(size=(3, 4)), 'again', kernel=True)
    # Of black images no gate opens, of white ones each does.
    gate = constants.add(np.float32([[0, 1], [0, 1], [0, -1.5]]), 'gate')
    limit = constants.add(np.float32([0.1, 0.0]), 'limit')
    conv = functools.partial(program.Convolution, stride=1, pads=(1, 1, 1, 1), same=True, groups=1)
    aside = functools.partial(program.Convolution, stride=2, pads=(0, 0, 0, 0), same=False)
    operations = [
        program.Cast('cast', 'images'),
        program.Arithmetic('small', 'cast', 'multiply', scale),
        *decided('0', 'small', gate, limit),
        conv('body0', 'small', kernel=body),
        program.Combine('sum0', 'body0', 'small', 'add'),
        program.Activation('y0', 'sum0', 'relu'),
        choices.Number('no0', 'number0', 0),
        choices.Number('yes0', 'number0', 1),
        choices.Choose('out0', 'number0', (('small', 'no0'), ('y0', 'yes0')), ('told0',)),
        *decided('1', 'out0', gate, limit),
        aside('beside', 'out0', kernel=beside, groups=1),
        program.Activation('skipped', 'beside', 'relu'),
        program.Convolution('body1', 'out0', wide, 2, (1, 1, 1, 1), False, 1),
        program.Combine('sum1', 'body1', 'beside', 'add'),
        program.Activation('y1', 'sum1', 'relu'),
        choices.Number('no1', 'number1', 0),
        choices.Number('yes1', 'number1', 1),
        choices.Choose('out1', 'number1', (('skipped', 'no1'), ('y1', 'yes1')), ('told1',)),
        program.GlobalPool('pool', 'out1'),
        program.ToRows('rows', 'pool'),
        program.Dense('logits', 'rows', head),
    ]
    if lasting:
        operations += [
            program.GlobalPool('pool again', 'small'),
            program.ToRows('rows again', 'pool again'),
            program.Dense('more', 'rows again', again),
            program.Combine('both', 'logits', 'more', 'add'),
        ]
    told = [choices.chosen(operations, f'block{n}', f'told{n}') for n in range(2)]
    output = operations[-1].out
    point = program.PointProgram('images', 6, tuple(operations), output, tuple(told))
    return program.Program({'made': point}, constants)


def decided(block, x, gate, limit):
    """The gate of a block."""
    return [
        program.GlobalPool(f'pool{block}', x),
        program.ToRows(f'rows{block}', f'pool{block}'),
        program.Dense(f'gate{block}', f'rows{block}', gate),
        program.Arithmetic(f'logits{block}', f'gate{block}', 'add', limit),
        choices.Largest(f'number{block}', f'logits{block}'),
    ]


MADE = {
    'widths in an exit': by_hand,
    'blocks': functools.partial(skipping, False),
    'blocks, and their input again': functools.partial(skipping, True),
}
# Of a batch, the share of full brightness that its images have at most.
BRIGHTNESS = {'none': 0, 'some': 1, 'few': 0.2, 'one image': 1, 'all': 1}


@pytest.mark.parametrize('alone', [False, True])
@pytest.mark.parametrize('whole', MADE.values(), ids=MADE)
def test_a_graph_of_tensorflow_chooses_as_the_program(whole, alone):
    """Batches of which no image takes a branch, some do, or all; and each image alone."""
    whole = whole()
    (point,) = whole.points.values()
    batch = 1 if alone else None
    graph = tf_graph.graph_of(whole, ['made'], batch=batch, telling=True)
    (run,) = tf_graph.serving(graph, 1)
    seen = set()
    for name, most in BRIGHTNESS.items():
        images = np.random.default_rng(1).integers(256, size=(12, point.side, point.side, 3))
        share = np.full(12, most) if name == 'all' else np.linspace(0, most, 12)
        images = (images * share[:, None, None, None]).astype(np.uint8)
        if name == 'all':
            images[:] = [200, 200, 20]
        for part in np.split(images, 12) if alone or name == 'one image' else [images]:
            logits, *told = run(part)
            expected, executed = interpreter.answers(whole, 'made', part)
            np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5)
            np.testing.assert_array_equal(np.stack(told, 1), executed)
            seen.add(tuple(np.unique(executed)))
    assert len(seen) > 1


def three_exits():
    """Three exits, each sure of its answer by a threshold of its own."""
    constants = Constants()
    rng = np.random.default_rng(0)
    scale = constants.add(np.float32([0.01]), 'scale')
    operations = [
        program.Cast('cast', 'images'),
        program.Arithmetic('small', 'cast', 'multiply', scale),
        program.GlobalPool('pool', 'small'),
        program.ToRows('rows', 'pool'),
    ]
    for k in range(3):
        head = constants.add(rng.normal(size=(3, 4)), f'head{k}')
        operations.append(program.Dense(f'x{k}', 'rows', head))
        operations.append(choices.Number(f'n{k}', 'rows', k))
    for k in range(2):
        threshold = constants.add(np.float32([-0.5 - k]), f'threshold{k}')
        operations.append(choices.Confident(f'sure{k}', f'x{k}', k, threshold))
    later = (('x2', 'n2'), ('x1', 'n1'))
    operations.append(choices.Choose('later', 'sure1', later, ('which',)))
    first = (('later', 'which'), ('x0', 'n0'))
    operations.append(choices.Choose('out', 'sure0', first, ('told',)))
    told = choices.chosen(operations, 'exit', 'told')
    point = program.PointProgram('images', 4, tuple(operations), 'out', (told,))
    return program.Program({'s4-dynamic': point}, constants)


@pytest.fixture(scope='module')
def exits_file(tmp_path_factory):
    """A file of three exits with budgets, as evaluation would have recorded them."""
    whole = three_exits()
    path = tmp_path_factory.mktemp('exits') / 'net.onnx'
    ways = [(10, 50.0, (-1e8, -1e8, -1e8)), (20, 60.0, (1e8, -1e8, -1e8)), (30, 70.0, (1e8,) * 3)]
    found = texts.Texts(
        points=(texts.PointText('s4-dynamic', 4, 4),),
        images=description.images(Preprocessing('shift', 4, (4,), 'area', 'unit_rgb')),
        network=texts.NetworkText('msdnet', 'msdnet', 1.0, 4, 'lq', 'lq', 2, 2, 32, 32),
        source=texts.SourceText('run', 'model-1', 'raw', '0', 'animals28'),
        versions=texts.VersionText('0', 'onnx 1', 'packed'),
        choices=(texts.ChoiceText('exit', (0, 1, 2)),),
        budgets=tuple(
            texts.BudgetText('s4-dynamic', top1, madds, thresholds)
            for madds, top1, thresholds in ways
        ),
    )
    onnx_file.save(whole, path, found.spelled(), packed=True)
    return path


@pytest.mark.parametrize('runtime', RUNTIMES)
def test_exits_answer_by_budget_and_by_deadline(runtime, exits_file):
    """Thresholds are given in place of those of the file, in nested branches too."""
    predictor = Predictor(exits_file, backend=runtime, threads=1)
    rng = np.random.default_rng(1)
    images = list(rng.integers(256, size=(6, 4, 4, 3), dtype=np.uint8))
    for exit, budget in enumerate((15, 29, 30)):
        found = predictor.predict(images, budget=budget)
        assert found.points == [f's4-x{exit}'] * 6
        heads = three_exits().constants[f'head{exit}'].values
        rows = 0.01 * np.mean(images, axis=(1, 2), dtype=np.float64)
        np.testing.assert_array_equal(found.labels, (rows @ heads).argmax(axis=1))
    assert predictor.within(29).top1 == 60.0
    assert predictor.anytime(images, deadline_ms=1e6).points == ['s4-x2'] * 6
    assert predictor.anytime(images, deadline_ms=0).points == ['s4-x0'] * 6
    with pytest.raises(UsageError, match='size 12: .* has s4-dynamic'):
        predictor.anytime(images, deadline_ms=1, size=12)
    with pytest.raises(UsageError, match='the nearest is .* at s4-dynamic'):
        predictor.within(9)


@pytest.mark.parametrize('runtime', RUNTIMES)
def test_after_warm_up_no_image_waits_for_its_way(runtime, exits_file, monkeypatch):
    predictor = Predictor(exits_file, backend=runtime, threads=1)
    predictor.warm_up('s4-dynamic')
    # A way that is not prepared yet could not be any more.
    monkeypatch.delattr(cutting.Part, 'file')
    colours = np.random.default_rng(1).integers(256, size=(16, 1, 1, 3), dtype=np.uint8)
    images = list(np.broadcast_to(colours, (16, 4, 4, 3)))
    found = predictor.predict(images, point='s4-dynamic')
    assert set(found.points) == {'s4-x0', 's4-x1'}


CELLS = {
    'msdnet-exits-w2a2': ('s16-dynamic', ['exit']),
    'aig-gates-w2a2': ('s16-dynamic', ['group0/block0', 'group1/block0']),
    'dsnet-gates-w2a2': ('dynamic', ['width']),
    'dsnet-gates-float': ('dynamic', ['width']),
    'msdnet-exits-float': ('s16-dynamic', ['exit']),
    'aig-sizes-float': ('s12-dynamic', ['group0/block0', 'group1/block0']),
}


@pytest.mark.slow
@pytest.mark.parametrize('cell', CELLS)
def test_choices_are_those_of_the_network(cell, tmp_path):
    # The one channel that so small a DS-Net pools says the same of all images.
    narrow = cell.startswith('dsnet')
    source = undecided(cell, sign=-1 if cell.endswith('float') else 1)
    name, told = CELLS[cell]
    thresholds = halfway(source)
    expected = evaluated(source, name, thresholds)
    whole = trace.of_points(source, [name], thresholds)
    point = whole.points[name]
    assert [choice.name for choice in point.choices] == told
    for choice, numbers in zip(point.choices, expected.T[-len(told) :]):
        assert set(numbers) <= set(choice.numbers)
    assert narrow or len(np.unique(expected[:, -len(told) :], axis=0)) > 1
    images = MIXED[:, : point.side, : point.side]
    found = np.concatenate(interpreter.answers(whole, name, images), axis=1)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * expected.std())
    (run,) = tf_graph.serving(tf_graph.graph_of(whole, [name], telling=True), 1)
    logits_found, *numbers = run(images)
    found = np.concatenate([logits_found, np.stack(numbers, 1)], axis=1)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * expected.std())
    path = tmp_path / 'a.onnx'
    onnx_file.save(whole, path, {}, packed=True)
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    rows = [np.concatenate(session.run(None, {'images': image[None]}), 1) for image in images]
    np.testing.assert_allclose(np.concatenate(rows), expected, rtol=0, atol=1e-4 * expected.std())
    if not thresholds:
        return
    for given, exit in ((-1e9, 0), (1e9, 1)):
        feed = {'images': images[:1], 'thresholds': np.full(2, given, np.float32)}
        assert session.run(['executed'], feed)[0].tolist() == [[exit]]


@pytest.mark.slow
@pytest.mark.parametrize('cell', [cell for cell in CELLS if cell.endswith('w2a2')])
def test_choices_of_whole_numbers(cell, tmp_path):
    """Layers in integers behind and in front of choices: the snapped network's own answers."""
    source = snapping.snapped(undecided(cell)).source
    name, _ = CELLS[cell]
    whole = trace.of_points(source, [name], halfway(source))
    made = integer_program.integer(whole)
    kinds = [type(operation) for operation in made.points[name].operations]
    assert program.IntegerConvolution in kinds
    images = MIXED[:, : whole.points[name].side, : whole.points[name].side]
    expected = np.concatenate(interpreter.answers(whole, name, images), axis=1)
    found = np.concatenate(interpreter.answers(made, name, images), axis=1)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * expected.std())
    path = tmp_path / 'a.onnx'
    onnx_file.save(made, path, {}, packed=True)
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    rows = [np.concatenate(session.run(None, {'images': image[None]}), 1) for image in images]
    np.testing.assert_allclose(np.concatenate(rows), expected, rtol=0, atol=1e-4 * expected.std())


@pytest.mark.slow
def test_sizes_share_a_file_and_points_do_not(tmp_path):
    source = undecided('aig-sizes-w2a2')
    whole = trace.of_points(source, ['s16-dynamic', 's12-dynamic'])
    path = tmp_path / 'a.onnx'
    onnx_file.save(whole, path, {}, packed=True)
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    for number, (name, point) in enumerate(whole.points.items()):
        images = MIXED[:4, : point.side, : point.side]
        expected = np.concatenate(interpreter.answers(whole, name, images), axis=1)
        for image, row in zip(images, expected):
            found = session.run(None, {'images': image[None], 'point': np.array([number])})
            np.testing.assert_allclose(np.concatenate(found, 1)[0], row, rtol=0, atol=1e-3)
    mixed = trace.of_points(source, ['s16', 's16-dynamic'])
    with pytest.raises(UsageError, match='s16-dynamic a file of its own'):
        onnx_file.save(mixed, path, {}, packed=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    'cell, points, name',
    [
        ('msdnet-exits-w2a2', ['s16-x1', 's16-x0'], 's16-dynamic'),
        ('dsnet-gates-w2a2', ['w06', 'w00'], 'dynamic'),
    ],
)
def test_kernels_are_stored_once(cell, points, name, tmp_path):
    """A file with all points, and one that chooses, have the kernels of one point and no more."""
    source = made(cell)
    sizes = []
    for names in (points[:1], points, [name]):
        path = tmp_path / 'a.onnx'
        onnx_file.save(trace.of_points(source, names, [0.0]), path, {}, packed=True)
        graph = onnx.load(path).graph
        sizes.append(kernels(graph))
    # OpenVINO reads a branch once for each such value: three are no kernels.
    # OpenVINO reads a branch once for each value from outside: no kernel is one alone.
    makers = {out: node.op_type for node in graph.node for out in node.output}
    kinds = {makers[name] for name in from_outside(graph)}
    assert 'Gather' not in kinds and 'Concat' in kinds
    one, every, choosing = sizes
    # So small a network is little more than its classifiers.
    assert 0 < one <= every < 2.1 * one
    # A gate has a kernel of its own.
    assert every <= choosing < 1.05 * every


def kernels(graph):
    """Bytes of the matrices of a graph, which lie outside of its branches."""
    assert not any(branch.initializer for node in graph.node for branch in branches(node))
    return sum(len(one.raw_data) for one in graph.initializer if len(one.dims) > 1)


def from_outside(graph):
    """Names of what branches read from outside of all, and what is not stored."""
    found = set()
    own = {one.name for one in graph.initializer}
    for node in graph.node:
        for branch in branches(node):
            found.update(name for inner in branch.node for name in inner.input)
            own.update(name for inner in branch.node for name in inner.output)
    return found - own


def branches(node):
    found = []
    for attribute in node.attribute:
        if attribute.HasField('g'):
            found.append(attribute.g)
            for inner in attribute.g.node:
                found.extend(branches(inner))
    return found
