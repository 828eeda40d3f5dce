"""Cascades as one program: a file answers, and stops, as the chain of its points does."""

import dataclasses
import functools

import numpy as np
import onnx
import pytest

from engine import Predictor
from engine.data.preprocessing import Preprocessing
from engine.deployment import (
    cascade_text,
    chaining,
    choices,
    description,
    integer_program,
    interpreter,
    onnx_file,
    program,
    reading,
    snapping,
    texts,
)
from engine.deployment.cascade import Chain
from engine.deployment.file_backend import MOST_READY, FileBackend
from engine.deployment.pool import Constants
from engine.deployment.resizing import without_resize
from engine.deployment.runtimes import RUNTIMES, load
from engine.deployment.tensorflow_backend import TensorFlowBackend
from engine.errors import UsageError
from engine.results import cascades, chains
from engine.results.chains import Combination
from engine.results.exit_thresholds import ALWAYS, NEVER
from tests.engine.deployment.test_choices import MIXED, undecided

pytestmark = pytest.mark.usefixtures('shallow')

POINTS = ('s4', 's6', 's8')
THRESHOLDS = (-0.0005, -0.5, ALWAYS)
TEMPERATURES = (0.5, 1.0, 2.0)
N = 24
IMAGES = np.random.default_rng(1).integers(256, size=(N, 8, 8, 3), dtype=np.uint8)
IMAGES = (IMAGES * np.linspace(0, 1, N)[:, None, None, None]).astype(np.uint8)
RULE = Preprocessing('shift', 8, (8, 6, 4), 'area', 'rgb:0.5,0.4,0.3:0.25,0.2,0.3')


def cascade(points=POINTS, thresholds=THRESHOLDS, combine=chains.LAST, temperatures=TEMPERATURES):
    """A cascade of a record that says nothing of it."""
    shares = tuple(np.full(len(points), 1 / len(points)).tolist())
    none = cascades.Interval(0.0, 0.0)
    judged = cascades.Judged(9, 50.0, 90.0, none, 5.0, none, shares, (None,) * len(points), 0, none)
    return cascades.Cascade(
        points,
        thresholds,
        combine,
        temperatures,
        '5M',
        'MAdds',
        'model-1',
        'an identity',
        's4',
        judged,
        judged,
    )


def by_hand(rule=RULE):
    """Sizes of one head each, which see the first rows of images and their means."""
    constants = Constants()
    rng = np.random.default_rng(0)
    points = {}
    for name, size in zip(POINTS, (4, 6, 8)):
        reader = reading.Reader(constants)
        side = reader.preprocess(rule, size)
        kernel = constants.add(rng.normal(size=(2, 2, 3, 5)), f'kernel{size}', kernel=True)
        head = constants.add(rng.normal(0, 2, size=(5, 4)), 'head', kernel=True)
        conv = program.Convolution('conv', reader.output, kernel, 1, (0, 0, 0, 0), False, 1)
        rest = (
            conv,
            program.Activation('relu', 'conv', 'relu'),
            program.GlobalPool('pool', 'relu'),
            program.ToRows('rows', 'pool'),
            program.Dense('logits', 'rows', head),
        )
        operations = (*reader.operations, *rest)
        points[name] = program.PointProgram('images', side, operations, 'logits')
    return program.Program(points, constants)


def expected(whole, one, *views):
    """Logarithms of probabilities [N, classes] and stages [N], image by image.

    ``views``: those of each stage, or one for all.
    """
    found, stages = [], []
    for image in range(len(views[0])):
        total = None
        for stage, name in enumerate(one.points):
            view = views[min(stage, len(views) - 1)]
            logits = interpreter.run(whole, name, view[image : image + 1])
            said = one.combination.answer(stage, logits, total)
            total = said.total
            if said.confidence[0] >= one.thresholds[stage]:
                break
        found.append(said.scores[0])
        stages.append(stage)
    return np.array(found), np.array(stages)


def scores(rows):
    return chains.log_probabilities(np.asarray(rows)[:, :-1])


def answers(content, runtime, *views, **thresholds):
    run = load(runtime, content, 'a file', 1).at(0, views[0].shape[1], **thresholds)
    found = []
    for image in range(len(views[0])):
        found.append(run(*(view[image : image + 1] for view in views)))
    return np.concatenate(found)


@pytest.mark.parametrize(
    'combine, temperatures, second',
    [(chains.LAST, (1.0, 1.0, 1.0), -0.5), (chains.MEAN, TEMPERATURES, -0.7)],
)
def test_a_program_answers_as_the_chain(combine, temperatures, second):
    """In numpy, and in a file in every runtime; thresholds that are given are those that count."""
    thresholds = (THRESHOLDS[0], second, ALWAYS)
    one = cascade(thresholds=thresholds, combine=combine, temperatures=temperatures)
    whole = by_hand()
    made = chaining.chained(whole, POINTS, one)
    right, stages = expected(whole, one, IMAGES)
    assert set(stages) == {0, 1, 2}
    (told,) = made.points[one.name].choices
    assert (told.name, told.numbers) == ('stage', (0, 1, 2))
    logits, executed = interpreter.answers(made, one.name, IMAGES)
    np.testing.assert_array_equal(executed[:, 0], stages)
    close = {'rtol': 1e-5, 'atol': 1e-5}
    np.testing.assert_allclose(chains.log_probabilities(logits), right, **close)
    content = onnx_file.serialized(made, {}, packed=True)
    again = chaining.chained(by_hand(), POINTS, one)
    assert content == onnx_file.serialized(again, {}, packed=True)
    for runtime in RUNTIMES:
        rows = answers(content, runtime, IMAGES)
        np.testing.assert_array_equal(rows[:, -1], stages)
        np.testing.assert_allclose(scores(rows), right, **close)
    fed = [NEVER, ALWAYS, ALWAYS]
    assert set(answers(content, 'onnxruntime', IMAGES, thresholds=fed)[:, -1]) == {1}


def test_what_stages_share_is_there_once():
    """Normalised images, all of an exit that another one goes on from; sizes are made apart."""
    made = chaining.chained(by_hand(), POINTS, cascade())
    operations = made.points['s4+s6+s8'].operations
    kinds = [type(one) for one in operations]
    assert kinds.count(program.Cast) == kinds.count(program.Flip) == 1
    assert kinds.count(program.Resize) == 2 and kinds.count(program.Convolution) == 3
    graph = onnx.load_from_string(onnx_file.serialized(made, {}, packed=True)).graph
    later = branch(graph)
    # Resizes are two products each, one for lines and one for columns.
    for part, products in ((graph, 2), (later, 2), (branch(later), 0)):
        assert sum(node.op_type == 'MatMul' for node in part.node) == products
    assert [one.name for one in graph.input] == ['images', 'thresholds']
    same = chaining.chained(by_hand(), ['s6', 's6'], TWICE)
    heads = [one for one in same.points['s6+s8'].operations if isinstance(one, program.Dense)]
    assert len(heads) == 1


TWICE = cascade(('s6', 's8'), (-1.0, ALWAYS), temperatures=(1.0, 1.0))


def branch(graph):
    """The branch of the only choice in a graph in which the next stage runs."""
    (node,) = [node for node in graph.node if node.op_type == 'If']
    (found,) = [one.g for one in node.attribute if one.name == 'then_branch']
    return found


@pytest.mark.parametrize('runtime', ['interpreter', *RUNTIMES])
def test_confidence_close_to_one(runtime):
    """In float32 such a probability is 1, and its logarithm 0."""
    constants = Constants()
    head = constants.add(np.float32([[25, 0, 0]]), 'head')
    threshold = constants.add(np.float32([0]), 'threshold')
    operations = (
        program.Cast('cast', 'images'),
        program.GlobalPool('pool', 'cast'),
        program.ToRows('rows', 'pool'),
        program.Dense('logits', 'rows', head),
        choices.Confident('sure', 'logits', 0, threshold),
        choices.Number('n0', 'rows', 0),
        choices.Number('n1', 'rows', 1),
        choices.Choose('out', 'sure', (('logits', 'n1'), ('logits', 'n0')), ('told',)),
    )
    told = choices.chosen(operations, 'exit', 'told')
    point = program.PointProgram('images', 1, operations, 'out', (told,), channels=1)
    image = np.ones([1, 1, 1, 1], np.uint8)
    confidence = -np.log1p(2 * np.exp(-25.0))
    for limit, exit in ((1.01, 0), (0.99, 1), (1e9, 0), (-1, 1)):
        constants[threshold.name] = program.Floats(np.float32([limit * confidence]))
        whole = program.Program({'made': point}, constants)
        if runtime == 'interpreter':
            _, found = interpreter.answers(whole, 'made', image)
        else:
            found = answers(onnx_file.serialized(whole, {}, packed=True), runtime, image)[:, -1:]
        assert found.tolist() == [[exit]]


def test_sizes_that_are_made_while_loading(tmp_path):
    """Each is an input of its own, in numpy, in a file in every runtime, and for a predictor."""
    rule = dataclasses.replace(RULE, resize='antialias')
    whole, one = by_hand(rule), cascade()
    views = [np.stack(views) for views in zip(*map(rule.eval_views, IMAGES))][::-1]
    right, stages = expected(whole, one, *views)
    made = chaining.chained(whole, POINTS, one)
    assert made.points[one.name].views == (('images_6', 6), ('images_8', 8))
    _, executed = interpreter.answers(made, one.name, *views)
    np.testing.assert_array_equal(executed[:, 0], stages)
    file = written(tmp_path / 'net.onnx', made, one, rule)
    for runtime in RUNTIMES:
        rows = answers(file.read_bytes(), runtime, *views)
        np.testing.assert_array_equal(rows[:, -1], stages)
        np.testing.assert_allclose(scores(rows), right, rtol=1e-5, atol=1e-5)
    found = Predictor(file, backend='onnxruntime').predict(list(IMAGES))
    assert found.points == [POINTS[stage] for stage in stages]


def test_a_resize_that_is_left_to_others():
    alike = chaining.chained(by_hand(), ['s6', 's6'], TWICE)
    assert without_resize(alike).points['s6+s8'].side == 6


def written(path, made, one, rule):
    """A file of a cascade with two budgets, as a run would have recorded them."""
    (point,) = made.points.values()
    sides = tuple(side for _, side in point.views)
    found = texts.Texts(
        points=(texts.PointText(one.name, point.side, 8),),
        images=description.images(rule),
        network=texts.NetworkText('rsnet', 'resnet8', 1.0, 4, 'lq', 'lq', 2, 2, 32, 32),
        source=texts.SourceText('run', 'model-1', 'raw', '0', 'animals28'),
        versions=texts.VersionText('0', 'onnx 1', 'packed'),
        choices=(texts.ChoiceText('stage', (0, 1, 2), (1, 3, 6)),),
        cascade=dataclasses.replace(cascade_text.told(one, (1, 3, 6)), sides=sides),
        budgets=(
            texts.BudgetText(one.name, 40.0, 1, (ALWAYS, ALWAYS, ALWAYS)),
            texts.BudgetText(one.name, 50.0, 4, one.thresholds),
        ),
    )
    assert texts.parse(found.spelled(), 'a file') == found
    onnx_file.save(made, path, found.spelled(), packed=True)
    return path


@pytest.fixture(scope='module')
def file(tmp_path_factory):
    made = chaining.chained(by_hand(), POINTS, cascade())
    return written(tmp_path_factory.mktemp('cascade') / 'net.onnx', made, cascade(), RULE)


@pytest.mark.parametrize(
    'runtime', ['onnxruntime', pytest.param('openvino', marks=pytest.mark.slow)]
)
def test_a_predictor_of_a_file(runtime, file, tmp_path):
    """Points and stages by image; thresholds, budgets, deadlines, cascades of the same chain."""
    predictor = Predictor(file, backend=runtime, threads=1)
    images = list(IMAGES[::3])
    right, stages = expected(by_hand(), cascade(), np.stack(images))
    found = predictor.predict(images)
    assert predictor.points == ['s4+s6+s8']
    assert found.points == [POINTS[stage] for stage in stages]
    assert found.stages == [POINTS[: stage + 1] for stage in stages]
    np.testing.assert_array_equal(found.labels, right.argmax(axis=1))
    np.testing.assert_allclose(found.scores, np.exp(right.max(axis=1)), rtol=1e-5)
    answer = predictor(images[-1], RGB=False)
    assert (answer.point, answer.stages) == (found.points[-1], found.stages[-1])
    everywhere = predictor.predict(images, thresholds=(NEVER, ALWAYS, ALWAYS))
    assert everywhere.stages == [POINTS[:2]] * len(images)
    assert predictor.predict(images, budget=2).points == ['s4'] * len(images)
    assert predictor.predict(images, budget=4).points == found.points
    assert predictor.anytime(images, deadline_ms=1e6).points == ['s8'] * len(images)
    other = tmp_path / 'other.json'
    cascades.write(other, cascade(thresholds=(NEVER, NEVER, ALWAYS)))
    assert predictor.predict(images, cascade=other).points == ['s8'] * len(images)
    with pytest.raises(UsageError, match='thresholds: 2 given; .*net.onnx takes 3'):
        predictor.predict(images, thresholds=(0, 0))
    with pytest.raises(UsageError, match='budget 4 and thresholds .*: give one of them'):
        predictor.predict(images, budget=4, thresholds=THRESHOLDS)
    cascades.write(other, dataclasses.replace(cascade(), identity='another'))
    with pytest.raises(UsageError, match='chosen for another checkpoint'):
        predictor.predict(images, cascade=other)
    cascades.write(other, cascade(combine=chains.MEAN))
    with pytest.raises(UsageError, match='carries out s4.s6.s8, by last .* not .*, by mean'):
        predictor.predict(images, cascade=other)


def test_thresholds_of_earlier_calls_do_not_pile_up(file):
    backend = FileBackend(file, 'onnxruntime', 1)
    firsts = [float(-k) for k in range(MOST_READY + 2)]
    for first in firsts:
        # The first ones are asked for again and again.
        for limit in (firsts[0], first):
            backend.leaving_early(None, (limit, NEVER, ALWAYS), float('inf'))
    kept = {thresholds[0] for _, thresholds in backend._exits}
    assert kept == {firsts[0], *firsts[3:]}


CHAINS = {
    'rsnet-sizes-w2a2': ('s12', 's16'),
    'rsnet-sizes-float': ('s12', 's16'),
    'san-sizes-w2a2': ('s12', 's16'),
    'san-sizes-float': ('s12', 's16'),
    'aig-sizes-w2a2': ('s12', 's16'),
    'aig-sizes-float': ('s12', 's16'),
    'msdnet-exits-w2a2': ('s16-x0', 's16-x1'),
    'msdnet-exits-float': ('s16-x0', 's16-x1'),
    'msdnet-sizes-w2a2': ('s12-x1', 's16-x0', 's16-x1'),
    'msdnet-sizes-float': ('s12-x1', 's16-x0', 's16-x1'),
    'dsnet-widths-w2a2': ('w00', 'w14'),
    'dsnet-widths-float': ('w00', 'w14'),
}
FORMS = []
for _cell in CHAINS:
    FORMS += [(_cell, ('packed', 'float'))]
    if _cell.endswith('w2a2'):
        FORMS += [(_cell, ('int8',))]


@pytest.mark.slow
@pytest.mark.parametrize('cell, forms', FORMS)
def test_a_file_answers_as_the_run(cell, forms):
    """Every network in every form: the stages and probabilities of its chain in TensorFlow."""
    points = CHAINS[cell]
    source = undecided(cell)
    if forms == ('int8',):
        source = snapping.snapped(source).source
    temperatures = (1.5, 0.5, 2.0)[: len(points)]
    turns = functools.cache(TensorFlowBackend(source, 1).turns)
    for combine in chains.COMBINES:
        chain = Chain(turns, points, Combination(combine, temperatures))
        views = [MIXED[:, :side, :side] for side in chain.preprocessing.view_sizes]
        thresholds = []
        for said in chain.every(views)[:-1]:
            confidence = np.sort(said.max(axis=1))
            middle = len(confidence) // 2
            # Between two images, which no rounding takes over it.
            thresholds.append(float(confidence[middle - 1 : middle + 1].mean()))
        thresholds.append(ALWAYS)
        right = chain.way(thresholds).answer(views)
        assert len(set(right.points)) > 1
        one = cascade(points, tuple(thresholds), combine, temperatures)
        whole = chaining.of_cascade(source, one)
        for form in forms:
            written = integer_program.integer(whole) if form == 'int8' else whole
            content = onnx_file.serialized(written, {}, packed=form != 'float')
            for runtime in RUNTIMES:
                rows = answers(content, runtime, *views)
                assert [points[int(stage)] for stage in rows[:, -1]] == right.points
                found = np.exp(scores(rows))
                np.testing.assert_allclose(found, right.probabilities, rtol=0, atol=1e-4)
