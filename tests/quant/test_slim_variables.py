"""Variables of our graphs are those of TensorFlow, in all that anybody asks of them."""

import numpy as np
import pytest

from quant.backend import new_graph, session, tf
from quant.slim_variables import zeros

FIELDS = ('variable_name', 'initial_value_name', 'initializer_name', 'snapshot_name', 'trainable')


def made(**more):
    """A layer's variables in a graph: ones, zeros that are not trained, drawn, and a scalar."""
    zeros, ones = tf.zeros_initializer(), tf.ones_initializer()
    drawn = tf.truncated_normal_initializer(seed=3)
    with tf.variable_scope('layer', **more):
        return [
            tf.get_variable('gamma', [3], initializer=ones),
            tf.get_variable('mean', [3], initializer=zeros, trainable=False),
            tf.get_variable('W', [2, 2, 1, 3], initializer=drawn),
            tf.get_variable('count', [], tf.float64, initializer=zeros, trainable=False),
        ]


def described():
    """What variables are called and belong to, and their values, of the current graph."""
    variables = made()
    found = {
        key: tf.get_collection(key) for key in tf.get_default_graph().get_all_collection_keys()
    }
    names = {key: [one.name for one in values] for key, values in found.items() if values}
    protos = []
    for variable in variables:
        proto = variable.to_proto()
        protos.append([getattr(proto, field) for field in FIELDS])
    with session() as running:
        missing = running.run(tf.report_uninitialized_variables())
        running.run(tf.global_variables_initializer())
        values = running.run(variables)
        asked = running.run([tf.is_variable_initialized(variable) for variable in variables])
    return names, protos, sorted(missing), [value.tolist() for value in values], asked


def test_they_are_what_tensorflow_makes():
    with new_graph():
        ours = described()
    with tf.Graph().as_default():
        tf.get_variable_scope().set_use_resource(True)
        assert described() == ours


def test_they_take_an_operation_less_each():
    with new_graph() as graph:
        made()
        ours = len(graph.get_operations())
    with tf.Graph().as_default() as graph:
        tf.get_variable_scope().set_use_resource(True)
        made()
        assert ours == len(graph.get_operations()) - 4


def test_they_are_found_again_and_refuse_another_shape():
    with new_graph():
        first = made()
        assert all(one is other for one, other in zip(first, made(reuse=True)))
        with tf.variable_scope('layer', reuse=True), pytest.raises(ValueError, match='shape'):
            tf.get_variable('gamma', [4])


def test_they_are_saved_restored_fed_and_trained(tmp_path):
    with new_graph(), session() as running:
        gamma, mean, kernel, _ = made()
        loss = tf.reduce_sum(kernel * gamma) + tf.reduce_sum(mean)
        gradients = tf.gradients(loss, [kernel, gamma])
        saver = tf.train.Saver()
        running.run(gamma.initializer, {gamma.initializer.inputs[1]: [1.0, 2.0, 3.0]})
        running.run([one.initializer for one in (mean, kernel, *made(reuse=True)[3:])])
        values = running.run(kernel)
        found = running.run(gradients)
        np.testing.assert_array_equal(found[0], np.broadcast_to([1, 2, 3], values.shape))
        np.testing.assert_allclose(found[1], values.sum((0, 1, 2)), rtol=1e-6)
        path = saver.save(running, str(tmp_path / 'model'))
        running.run(gamma.assign_add([1.0, 1.0, 1.0]))
        gamma.load([7.0, 8.0, 9.0], running)
        assert running.run(gamma.read_value()).tolist() == [7, 8, 9]
        saver.restore(running, path)
        assert running.run(gamma).tolist() == [1, 2, 3]
    with tf.Graph().as_default(), session() as running:
        tf.train.import_meta_graph(f'{path}.meta').restore(running, path)
        (again,) = (one for one in tf.global_variables() if one.op.name == 'layer/gamma')
        assert running.run(again).tolist() == [1, 2, 3]


def test_they_are_made_outside_of_branches():
    with new_graph(), session() as running:
        chosen = tf.placeholder(tf.bool, [])

        def branch() -> tf.Tensor:
            return 2 * tf.get_variable('x', [2], initializer=tf.ones_initializer())

        y = tf.cond(chosen, branch, lambda: tf.zeros([2]))
        running.run(tf.global_variables_initializer())
        assert running.run(y, {chosen: True}).tolist() == [2, 2]
        assert running.run(y, {chosen: False}).tolist() == [0, 0]


def test_others_are_made_as_ever():
    with new_graph() as graph:
        tf.get_variable('step', initializer=3)
        limit = tf.get_variable(
            'limit', [1], initializer=tf.zeros_initializer(), constraint=tf.nn.relu
        )
        assert limit.constraint is not None
        types = [op.type for op in graph.get_operations()]
        assert types.count('VarIsInitializedOp') == 2


def test_what_is_kept_beside_variables_starts_from_one_tensor():
    with new_graph() as graph, session() as running:
        gamma, mean, kernel, count = made()
        kept = []
        before = len(graph.get_operations())
        for variable in (gamma, mean, kernel, count):
            with tf.device('/cpu:0'), graph.colocate_with(variable.op):
                name = f'{variable.op.name}/kept'
                kept.append(
                    tf.get_variable(
                        name, variable.shape, variable.dtype, initializer=zeros(variable)
                    )
                )
        starts = [one.initializer.inputs[1] for one in kept]
        assert starts[0] is starts[1] and len({id(start) for start in starts}) == 3
        assert len(graph.get_operations()) == before + 4 * 3 + 3
        running.run([one.initializer for one in kept])
        for variable, value in zip((gamma, mean, kernel, count), running.run(kept)):
            assert value.shape == variable.shape and not value.any()
            assert value.dtype == variable.dtype.as_numpy_dtype
