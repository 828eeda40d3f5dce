"""MSDNet in training: one step and four steps of both optimisers.

Of one step, batch statistics, gradients and moving averages are compared.

Four steps at a rate of .1 amplify the rounding of float32 to 7e-3 of a loss and a tenth of a logit:
a unit within rounding of zero is on or off. So they are computed in float64, as the published ones:
our layers and updates on a batch normalisation of that precision.
"""

from typing import Any
from unittest import mock

import numpy as np

from nets.layers.blocks import Blocks
from nets.outputs import Outputs
from quant import Policy
from quant.backend import tf
from tests.parity import msd, pytorch
from tests.parity.fixtures import Check, Fixture, Result, compare, draw

# Of the standard deviation of logits, with batch statistics of 8 images; of the value; of the norm
# of a gradient.
LOGITS, VALUE, GRADIENT = 1e-4, 1e-5, 1e-3
# Part of the median norm below which a gradient is judged on that scale: some vanish but for
# rounding.
FLOOR = 0.1
# After four steps in float64, stored as float32: of the std of logits and of the largest value of
# anything else.
STEPPED = 1e-5


class Double(Blocks):
    """Layers in float64, within a variable scope of that type and ``batch_norm``."""

    def global_pool(self, x: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(x, axis=[1, 2])


def batch_norm(
    x: tf.Tensor,
    gamma: tf.Tensor,
    beta: tf.Tensor,
    *,
    epsilon: float,
    is_training: bool,
    **stored: Any,
) -> list[tf.Tensor]:
    """What ``tf.nn.fused_batch_norm`` computes, which has no float64."""
    mean, variance = (
        tf.nn.moments(x, [0, 1, 2]) if is_training else (stored['mean'], stored['variance'])
    )
    count = tf.cast(tf.size(x) // x.shape[3], x.dtype)
    y = (x - mean) * tf.rsqrt(variance + epsilon) * gamma + beta
    return [y, tf.identity(mean), variance * count / (count - 1)]


class Training:
    """A training tower of the network of a fixture, and its loss.

    Attributes:
        x, labels: placeholders.
        points: operating points, first exit first.
        logits, entropies: by point.
    """

    def __init__(self, fixture: Fixture, blocks: type[Blocks] = Blocks, dtype: Any = tf.float32):
        self.images = draw(fixture.data['inputs'][0]).transpose(0, 2, 3, 1)
        self.size = self.images.shape[1]
        self.net = msd.network(fixture.data['model'], self.size)
        self.x, self.labels = (
            tf.placeholder(dtype, self.images.shape),
            tf.placeholder(tf.int32, [None]),
        )
        self.points = [point for _, point in msd.exits(self.net)]
        self.blocks = blocks
        outputs = self.build(training=True)
        parts = self.net.loss(outputs, self.labels)
        self.logits = [outputs.logits[point] for point in self.points]
        self.entropies = [parts[f'loss/{point}'] for point in self.points]
        self.total = tf.add_n(list(parts.values()))
        self.updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS)

    def build(self, *, training: bool) -> Outputs:
        blocks = self.blocks(Policy(), self.net.points, training=training, padding=self.net.padding)
        return self.net.outputs({self.size: self.x}, blocks)


def step(fixture: Fixture) -> Result:
    """Forward at inference, then a training pass: logits, loss, norms of the gradients, and moving
    averages after it.
    """
    result = msd.forward(fixture)
    with tf.Graph().as_default(), pytorch.session() as session:
        training = Training(fixture)
        variables = {variable.op.name: variable for variable in tf.trainable_variables()}
        names = {name: msd.our_name(name, training.size) for name in fixture.data['grad_names']}
        norms = [
            tf.norm(gradient) if gradient is not None else tf.zeros([])
            for gradient in tf.gradients(
                training.total, [variables[name] for name in names.values()]
            )
        ]
        pytorch.restore(session, msd.values(fixture, training.size))
        logits, entropies, norms, _ = session.run(
            [training.logits, training.entropies, norms, training.updates],
            {training.x: training.images, training.labels: fixture.data['labels']},
        )
        after = session.run({variable.op.name: variable for variable in tf.global_variables()})
    stored = fixture.arrays
    result.problems += [
        f'no gradient published of {name}' for name in set(variables) - set(names.values())
    ]
    result.checks += [
        _logits(f'train_logits_{k}', value, stored, LOGITS) for k, value in enumerate(logits, 1)
    ]
    result.checks += [
        compare('train_ce', np.array(entropies), stored['train_ce'], VALUE),
        compare('loss_sum', sum(entropies), fixture.data['loss_sum'], VALUE),
    ]
    floor = FLOOR * float(np.median(stored['grad_l2']))
    result.checks += [
        compare(
            f'gradient of {name}', norm, published, GRADIENT, scale=max(float(published), floor)
        )
        for name, norm, published in zip(names, norms, stored['grad_l2'])
    ]
    result.checks += _tensors('after', after, stored, training.size, VALUE)
    result.remark += f'; a training pass, {len(names)} gradients'
    return result


def steps(fixture: Fixture) -> Result:
    """Four steps of SGD with plain and with Nesterov momentum.

    The decay of everything is a term of the loss.
    """
    result = Result(fixture.name, "each tensor's scale")
    for kind in ('plain', 'nesterov'):
        result.checks += _steps(fixture, kind)
    result.remark = f'{fixture.data["training"]["steps"]} steps of both optimisers'
    return result


def _steps(fixture: Fixture, kind: str) -> list[Check]:
    inputs = {spec['name']: spec for spec in fixture.data['inputs']}
    with (
        tf.Graph().as_default(),
        pytorch.session() as session,
        tf.variable_scope('', dtype=tf.float64),
        mock.patch.object(tf.nn, 'fused_batch_norm', batch_norm),
    ):
        training = Training(fixture, Double, tf.float64)
        rate, entropies = tf.placeholder(tf.float64, []), []
        update = _update(training, fixture.data['training'], rate, kind)
        outputs = training.build(training=False)
        pytorch.restore(session, msd.values(fixture, training.size))
        for i, value in enumerate(fixture.data['training']['lr']):
            feed = {
                training.x: draw(inputs[f'x{i}']).transpose(0, 2, 3, 1),
                training.labels: _labels(inputs[f'y{i}']),
            }
            entropies.append(session.run([training.entropies, update], {**feed, rate: value})[0])
        logits = session.run(
            [outputs.logits[point] for point in training.points], {training.x: training.images}
        )
        after = session.run({variable.op.name: variable for variable in tf.global_variables()})
    stored = fixture.arrays
    checks = [
        _logits(f'{kind}_eval_logits_{k}', value, stored, STEPPED)
        for k, value in enumerate(logits, 1)
    ]
    return [
        *checks,
        compare(f'{kind}_ce', np.array(entropies), stored[f'{kind}_ce'], STEPPED),
        *_tensors(kind, after, stored, training.size, STEPPED),
    ]


def _update(
    training: Training, recipe: dict[str, Any], rate: tf.Tensor, kind: str
) -> list[tf.Operation]:
    decay = tf.add_n([tf.nn.l2_loss(variable) for variable in tf.trainable_variables()])
    optimizer = tf.train.MomentumOptimizer(
        rate, recipe['momentum'], use_nesterov=kind == 'nesterov'
    )
    minimize = optimizer.minimize(
        training.total + recipe['weight_decay'] * decay, gate_gradients=optimizer.GATE_GRAPH
    )
    return [minimize, *training.updates]


def _labels(spec: dict[str, Any]) -> np.ndarray:
    return np.random.RandomState(spec['seed']).randint(0, 10, spec['shape'][0])


def _logits(key: str, ours: np.ndarray, stored: Any, limit: float) -> Check:
    return compare(key, ours, stored[key], limit, scale=float(stored[key].std()))


def _tensors(
    kind: str, after: dict[str, np.ndarray], stored: Any, size: int, limit: float
) -> list[Check]:
    """Variables after the training, stored as ``kind|NAME``."""
    return [
        compare(key, after[msd.our_name(key.partition('|')[2], size)], value, limit)
        for key, value in stored.items()
        if key.startswith(f'{kind}|')
    ]
