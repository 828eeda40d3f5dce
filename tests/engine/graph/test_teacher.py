"""A teacher in the graph of its learner: it says what it says elsewhere, and leaves no trace."""

import numpy as np
import pytest
from tensorpack.graph_builder.utils import override_to_local_variable
from tensorpack.tfutils.tower import TowerContext

from engine.config.config import Config
from engine.graph.teacher import Teacher, _taken_out, teacher
from engine.graph.tower import Model
from quant.backend import tf
from tests.engine.graph.test_freeze import NETS, evaluated, prepared

pytestmark = pytest.mark.usefixtures('short_slimmable')

COLUMNS = np.array([3, 0, 4])
LEARNER = {
    'arch': 'resnet8',
    'mode': 'resnet',
    'width': 0.25,
    'sizes': (16, 12),
    'classes': 3,
    'resize': 'area',
    'teacher': 'RUN',
    'wd': 0.0,
}
RNG = np.random.default_rng(0)


def learner(**changes) -> Config:
    return Config.from_values(**{**LEARNER, 'image_size': 16, **changes})


def views(config: Config) -> list[np.ndarray]:
    sides = config.preprocessing.view_sizes
    return [RNG.integers(256, size=(5, side, side, 3), dtype=np.uint8) for side in sides]


def said(name: str, config: Config, images) -> np.ndarray:
    """Logits of a row of ``NETS`` in a graph of its learner."""
    _, _, source, point = prepared(name)
    made = teacher(source, point, COLUMNS, learner=config, data_format='NHWC')
    feeds = [tf.placeholder(tf.uint8, array.shape) for array in images]
    logits = made.logits(feeds)
    with tf.variable_scope('tower1'), tf.name_scope('tower1'), override_to_local_variable():
        again = made.logits(feeds)
    assert not tf.global_variables() and not tf.trainable_variables()
    assert tf.get_default_graph().as_graph_def().ByteSize() < 200_000 + 8_000 * len(made.weights)
    with tf.Session() as session:
        session.run(tf.local_variables_initializer())
        found, other = session.run([logits, again], dict(zip(feeds, images)))
    np.testing.assert_array_equal(found, other)
    return found


@pytest.mark.parametrize(
    'name',
    [
        'rsnet',
        *(pytest.param(name, marks=pytest.mark.slow) for name in NETS if name != 'rsnet'),
    ],
)
def test_it_says_what_it_says_elsewhere_of_the_same_views(name):
    config, values, _, point = prepared(name)
    shared = {key: getattr(config, key) for key in ('resize', 'image_size', 'sizes')}
    images = views(learner(**shared))
    expected = evaluated(config, values, images, point)[:, COLUMNS]
    np.testing.assert_allclose(said(name, learner(**shared), images), expected, 1e-4, 1e-4)


def test_names_of_weights_are_not_those_of_the_graph():
    """Where they were, TensorFlow gave others names that there already are."""
    with tf.Graph().as_default() as graph:
        images = tf.placeholder(tf.uint8, [None, 2, 2, 3], 'images')
        flat = tf.reshape(tf.cast(images, tf.float32), [-1, 12])
        wide = tf.matmul(flat, tf.constant(np.ones([12, 40], np.float32), name='Const'))
        for number in (1, 2):
            wide += tf.constant(float(number), name=f'Const_{number}')
        logits = tf.identity(wide, 'logits')
        graph_def = graph.as_graph_def()
    made = Teacher(0, graph_def, _taken_out(graph_def), images.name, logits.name, '')
    assert list(made.weights) == ['Const']
    found = [made.logits([tf.ones([1, 2, 2, 3], tf.uint8)]) for _ in range(3)]
    with tf.Session() as session:
        session.run(tf.local_variables_initializer())
        np.testing.assert_array_equal(session.run(found), np.full([3, 1, 40], 15.0))


@pytest.mark.slow
def test_another_view_is_resized_by_its_own_rule():
    """The teacher has antialiased views of 12 pixels, the learner one of 20."""
    config, values, _, point = prepared('views')
    plain = learner(image_size=20)
    (images,) = views(plain)
    flat = np.repeat(images.mean((1, 2), keepdims=True), 20, 1).repeat(20, 2).astype('uint8')
    small = [np.ascontiguousarray(flat[:, :side, :side]) for side in (16, 12)]
    expected = evaluated(config, values, small, point)[:, COLUMNS]
    np.testing.assert_allclose(said('views', plain, [flat]), expected, 1e-4, 1e-4)


@pytest.mark.slow
def test_in_bfloat16_it_says_nearly_the_same():
    images = views(learner())
    wide = said('rsnet', learner(), images)
    narrow = said('rsnet', learner(teacher_bf16=True), images)
    assert narrow.dtype == np.float32
    assert 0 < np.abs(narrow - wide).max() < 0.05 * np.abs(wide).max()


def softmax(logits):
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


class Says:
    """In place of a teacher: constant answers."""

    answers = RNG.normal(0, 3, (5, 3)).astype('float32')
    asked = 0

    def logits(self, images):
        self.asked += 1
        return tf.constant(self.answers)


def test_the_loss_of_a_tower(run):
    """Every size learns from the labels and from one answer of the teacher."""
    model = Model(learner(teacher_weight=0.5, label_weight=2.0), data_format='NHWC', teacher=Says())
    (images,) = views(model.config)
    labels = np.array([0, 1, 2, 2, 0])
    seen = []
    loss = model.net.loss

    def noted(outputs, labels):
        seen.append(outputs)
        return loss(outputs, labels)

    model.net.loss = noted
    with TowerContext('', is_training=True):
        model.build_graph(tf.constant(images), tf.constant(labels, tf.int32))
    (outputs,) = seen
    terms, logits = run([model.losses[0], list(outputs.logits.values())])
    teaches = softmax(Says.answers)
    for size, own in zip((16, 12), logits):
        shares = softmax(own)
        by_labels = -np.log(shares[np.arange(5), labels]).mean()
        divergence = (teaches * np.log(teaches / shares)).sum(1).mean()
        expected = 2 * by_labels + 0.5 * divergence
        assert terms[f'loss/s{size}'] == pytest.approx(expected, rel=1e-4)
    assert model._teacher.asked == 1
