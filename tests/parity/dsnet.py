"""DS-Net.

Logits of all widths, gate and dynamic logits, losses with their gradients, multiply-adds.

The filled supernet amplifies rounding, through the sigmoids of its squeeze-excites: in float32 the
logits of the widest sub-network vary by 1e-4 of their standard deviation between two ways to
multiply matrices, those of the largest by 5e-3 to 5e-1. So the networks are computed in float64,
and in float32 once more for the sub-networks, at ``ROUNDED``.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import nets
from engine.importers.dsnet import assemble
from nets import cost
from nets.dsnet import DSNet
from nets.layers.blocks import Blocks
from nets.layers.kernels import generate
from nets.layers.norm import BN_EPSILON
from nets.layers.routing import straight_through
from nets.outputs import Outputs
from nets.points import Point
from quant import Policy
from quant.backend import tf
from tests.parity import graphs, pytorch
from tests.parity.fixtures import Check, Fixture, Result, compare, draw, fill, load
from tests.parity.madds import equal, of_dsnet

# Of the standard deviation of a row of logits; the largest network amplifies rounding (see the
# fixture's notes).
CONTINUOUS, LARGEST, ROUNDED = 1e-4, 1e-2, 1e-3
# Of the largest value, for losses of given logits, and for those and gradients of the network.
GIVEN, NETWORK = 1e-5, 1e-4
# Of the count: the published one is added up in float32.
SUMS = 1e-6

SIZE, WIDEST = 224, 14


class Precise(Blocks):
    """Computes float64 inputs in float64, for which TensorFlow has no fused normalisation."""

    def normalise(
        self, x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, mean: tf.Tensor, variance: tf.Tensor
    ) -> tuple[tf.Tensor]:
        return ((x - mean) / tf.sqrt(variance + BN_EPSILON) * gamma + beta,)

    def global_pool(self, x: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(x, axis=[1, 2])


def supernet(fixture: Fixture) -> Result:
    """Every sub-network, and the largest."""
    result, net = Result(fixture.name, 'the std of each row'), _network(stage='supernet')
    theirs = {f'w{i:02d}': row for i, row in enumerate(fixture.arrays['subnet_logits'])}
    theirs[f'w{WIDEST}'] = fixture.arrays['largest_logits']
    for dtype in ('float64', 'float32'):
        logits = _evaluate(
            fixture, net, _images(fixture).astype(dtype), lambda run: run(None)[0].logits
        )
        for point, value in logits.items():
            largest, scale = point.width == WIDEST, float(theirs[str(point)].std())
            limit = ROUNDED if dtype == 'float32' else LARGEST if largest else CONTINUOUS
            if dtype == 'float64' or not largest:
                check = compare(f'{dtype} {point}', value, theirs[str(point)], limit, scale=scale)
                result.checks.append(
                    Check(check.what, check.error, limit, sharp=limit == CONTINUOUS)
                )
    largest, rounded = (
        max(check.error for check in result.checks if check.limit == limit)
        for limit in (LARGEST, ROUNDED)
    )
    result.remark = (
        f'{len(theirs)} widths in float64; the largest {largest:.0e}; in float32 {rounded:.0e}'
    )
    return result


def gate(fixture: Fixture) -> Result:
    """The gate with and without noise: images computed in groups, and masked."""
    arrays, result, seen = fixture.arrays, Result(fixture.name, 'the std of each tensor'), set()
    net = _network(stage='gate', faithful_gates=True)
    drawn = {'': None} | {
        f'{spec["name"]}_': _noise(spec['seed'], spec['shape'], _factor(spec['formula']))
        for spec in fixture.data['noise']
    }
    for execution, dtype in (('points', 'float64'), ('mask', 'float64'), ('points', 'float32')):
        ours = _gate_tensors(fixture, net, execution, drawn, dtype)
        limit = CONTINUOUS if dtype == 'float64' else ROUNDED
        result.checks += [
            _check(f'{execution} {dtype} {key}', value, arrays[key], limit)
            for key, value in ours.items()
        ]
        seen |= set(ours)
    result.problems = [f'not compared: {key}' for key in sorted(set(arrays) - seen)]
    result.remark = f'{len(seen)} tensors, in groups and masked, in float64; in groups in float32'
    return result


def _gate_tensors(
    fixture: Fixture, net: DSNet, execution: str, drawn: Mapping[str, np.ndarray | None], dtype: str
) -> dict[str, np.ndarray]:
    """By published key."""

    def fetches(run: Any) -> dict[str, tf.Tensor]:
        found: dict[str, tf.Tensor] = {}
        for prefix, noise in drawn.items():
            outputs, blocks = run(noise)
            extras = outputs.extras
            found |= {
                f'{prefix}soft_gate': tf.nn.softmax(extras['noisy']),
                f'{prefix}logits': extras['dynamic'],
                f'{prefix}decision': tf.cast(extras['route'], tf.float32),
            }
            if prefix in ('', 'noise2_'):
                found[f'code_madds{"_noise2" if prefix else ""}'] = extras['madds']
        true = [of_dsnet(blocks.layers[str(point)]) + 264.0 for point in reversed(net.points)]
        found |= {
            'gate_logits': extras['gate_logits'],
            'smallest_logits': outputs.logits[net.points[-1]],
            'true_madds_noise2': tf.gather(true, extras['route']),
        }
        if execution == 'points':
            found['choice_logits'] = tf.stack(
                [outputs.logits[point] for point in reversed(net.points)]
            )
        return found

    return _evaluate(fixture, net, _images(fixture).astype(dtype), fetches, execution=execution)


def _check(what: str, ours: np.ndarray, theirs: np.ndarray, limit: float) -> Check:
    """Decisions must be equal; counts as far as float32 adds them up."""
    if what.endswith('decision'):
        return compare(what, ours, theirs, 0.0)
    if 'madds' in what:
        return compare(what, ours, theirs, SUMS)
    check = compare(what, ours, theirs, limit, scale=float(theirs.std()))
    return Check(check.what, check.error, limit, sharp=limit == CONTINUOUS)


def loss_cases(fixture: Fixture) -> Result:
    """Stage I on given logits, stage II on given ones and on the network, with gradients."""
    result, cases = Result(fixture.name, "each tensor's maximum"), fixture.data['cases']
    stage2 = {name: case for name, case in cases.items() if name.startswith('stage2_network')}
    ours = {
        f'{name}/{key}': value
        for name, case in cases.items()
        if name.startswith('stage1')
        for key, value in _stage1(case['ensemble_ib']).items()
    }
    ours |= {
        f'stage2_given/{key}': value for key, value in _stage2_given(cases['stage2_given']).items()
    }
    ours |= {
        f'{name}/{key}': value
        for name, case in stage2.items()
        for key, value in _stage2_network(fixture, case).items()
    }
    for key, value in ours.items():
        theirs, limit = fixture.arrays[key], NETWORK if 'network' in key else GIVEN
        # Losses and multiply-adds stand in one array: each is judged by itself.
        result.checks.append(
            compare(key, value / theirs, np.ones_like(theirs), limit)
            if key.endswith('values')
            else compare(key, value, theirs, limit)
        )
    given = {f'stage2_given/{key}' for key in ('gate_logits', 'gumbel')}
    result.problems = [
        f'not compared: {key}' for key in sorted(set(fixture.arrays) - set(ours) - given)
    ]
    result.remark = f'{len(cases)} cases'
    return result


def _stage1(ensemble: bool) -> dict[str, np.ndarray]:
    random = np.random.RandomState(31)
    students = (2 * random.standard_normal((4, 8, 1000))).astype('float32')
    teachers = (2 * random.standard_normal((3, 8, 1000))).astype('float32')
    labels = random.randint(0, 1000, 8)
    net = _network(stage='supernet', ieb=ensemble)
    with tf.Graph().as_default(), pytorch.session() as session:
        largest, first, second, smallest = given = [tf.constant(value) for value in students]
        extras = {'random1': first, 'random2': second, 'teacher/largest': tf.constant(teachers[0])}
        if ensemble:
            extras |= {
                'teacher/random1': tf.constant(teachers[1]),
                'teacher/random2': tf.constant(teachers[2]),
            }
        outputs = Outputs({Point(width=WIDEST): largest, Point(width=0): smallest}, extras)
        terms = list(net.loss(outputs, tf.constant(labels, tf.int32)).values())
        rows = [tf.gradients(term, value)[0][0] for term, value in zip(terms, given)]
        return session.run({'losses': tf.stack(terms), 'grad_rows': tf.stack(rows)})


def _stage2_given(case: Mapping[str, Any]) -> dict[str, np.ndarray]:
    random = np.random.RandomState(41)
    gate_logits = 2 * random.standard_normal((8, 4))
    noise = -np.log(random.exponential(size=(8, 4)))
    smallest, dynamic = (2 * random.standard_normal((8, 1000)) for _ in range(2))
    labels = random.randint(0, 1000, 8)
    smallest[[0, 2, 4, 6], labels[[0, 2, 4, 6]]] += 12
    net = _network(stage='gate', faithful_gates=True)
    with tf.Graph().as_default(), pytorch.session() as session:
        logits = tf.constant(gate_logits, tf.float32)
        noisy = logits + tf.constant(noise, tf.float32)
        madds = tf.linalg.matvec(
            straight_through(noisy), tf.constant(case['madds_of_choice'], tf.float32)
        )
        outputs = Outputs(
            {Point(width=0): tf.constant(smallest, tf.float32)},
            {'noisy': noisy, 'dynamic': tf.constant(dynamic, tf.float32), 'madds': madds},
        )
        terms = net.loss(outputs, tf.constant(labels, tf.int32))
        (gradient,) = tf.gradients(terms['loss/gate'] + terms['loss/complexity'], logits)
        return session.run(
            {
                'soft_gate': tf.nn.softmax(noisy),
                'gate_logit_grad': gradient,
                'values': _values(terms, madds),
            }
        )


def _stage2_network(fixture: Fixture, case: Mapping[str, Any]) -> dict[str, np.ndarray]:
    filled = load(fixture.path.parent / 'dsnet_mbv1_gate.json')
    noise = _noise(case['noise_seed'], (4, 4), case['noise_factor'])
    net = _network(stage='gate', faithful_gates=True)

    def fetches(run: Any) -> dict[str, tf.Tensor]:
        outputs, _ = run(noise)
        terms = net.loss(outputs, tf.constant(case['labels'], tf.int32))
        (weights,) = tf.trainable_variables()
        (gradient,) = tf.gradients(tf.add_n(list(terms.values())), weights)
        return {
            'soft_gate': tf.nn.softmax(outputs.extras['noisy']),
            'madds': outputs.extras['madds'],
            'gate_weight_grad': tf.transpose(gradient),
            'values': _values(terms, outputs.extras['madds']),
        }

    return _evaluate(filled, net, _images(filled), fetches, training=True)


def _values(terms: Mapping[str, tf.Tensor], madds: tf.Tensor) -> tf.Tensor:
    """Gate loss, mean multiply-adds, their loss without its factor, that of widths, total."""
    sgs, target, weighted = (terms[f'loss/{name}'] for name in ('gate', 'dynamic', 'complexity'))
    return tf.stack([sgs, tf.reduce_mean(madds), weighted / 0.5, target, sgs + target + weighted])


def madds(fixture: Fixture) -> Result:
    """Multiply-adds of every sub-network by kind of layer, and its parameters."""
    result, net = Result(fixture.name, 'each count'), _network(stage='supernet')
    with tf.Graph().as_default():
        blocks = Blocks(Policy(), net.points, training=False, padding=net.padding)
        net.outputs({SIZE: tf.placeholder(tf.float32, [1, SIZE, SIZE, 3])}, blocks)
    for row in fixture.data['rows']:
        index = WIDEST if row['subnet'] == 'largest' else row['subnet']
        ours = _counts(blocks.layers[str(Point(width=index))])
        result.checks += [
            equal(f'{row["subnet"]} {key}', value, row[key]) for key, value in ours.items()
        ]
    ours = [cost.madds([layer]) for layer in blocks.layers['w00']]
    theirs = [count for name, count in fixture.data['subnet0_per_layer'] if 'pool' not in name]
    result.checks += [compare('layers of sub-network 0', np.array(ours), np.array(theirs), 0.0)]
    result.remark = f'{len(fixture.data["rows"])} sub-networks'
    return result


def _counts(layers: Sequence[cost.LayerRecord]) -> dict[str, int]:
    def part(*roles: str) -> int:
        return cost.madds(layer for layer in layers if layer.role in roles)

    normalised = sum(
        2 * layer.kernel[3] for layer in layers if layer.role in ('stem', 'body', 'depthwise')
    )
    return {
        'madds': of_dsnet(layers),
        'madds_conv': part('stem', 'body'),
        'madds_dw': part('depthwise'),
        'madds_se': part('gate'),
        'madds_linear': part('head'),
        'madds_pool': of_dsnet(layers) - cost.madds(layers),
        'params_active': sum(layer.weights + layer.bias for layer in layers) + normalised,
    }


def _network(**options: Any) -> DSNet:
    return nets.create(
        'dsnet', arch='mobilenetv1', mode='pytorch', sizes=(SIZE,), classes=1000, **options
    )


def _evaluate(
    fixture: Fixture,
    net: DSNet,
    images: np.ndarray,
    fetches: Any,
    *,
    training: bool = False,
    execution: str | None = None,
) -> dict[Any, np.ndarray]:
    """Values of ``fetches`` in a network filled from a fixture.

    They are a function of a function noise -> outputs, blocks.
    """
    with tf.Graph().as_default(), pytorch.session() as session:

        def run(noise: np.ndarray | None) -> tuple[Outputs, Blocks]:
            build = Precise if images.dtype == 'float64' else Blocks
            blocks = build(Policy(), net.points, training=training, padding=net.padding)
            given = None if noise is None else tf.constant(noise, images.dtype)
            with tf.variable_scope('', dtype=images.dtype, reuse=tf.AUTO_REUSE):
                return net.outputs(
                    {SIZE: tf.constant(images)}, blocks, noise=given, execution=execution
                ), blocks

        tensors = fetches(run)
        shapes = {variable.op.name: variable.shape.as_list() for variable in tf.global_variables()}
        graphs.restore(
            session, assemble({row['name']: fill(row) for row in fixture.tensors()}, shapes)
        )
        session.run(generate())
        return session.run(tensors)


def _images(fixture: Fixture) -> np.ndarray:
    """[N, 224, 224, 3]."""
    return np.concatenate([draw(spec) for spec in fixture.data['inputs']]).transpose(0, 2, 3, 1)


def _noise(seed: int, shape: Sequence[int], factor: float) -> np.ndarray:
    return (-factor * np.log(np.random.RandomState(seed).exponential(size=shape))).astype('float32')


def _factor(formula: str) -> float:
    """12 in ``g = -12*log(...)``."""
    found = re.search(r'= -(\d+)\*log', formula)
    return float(found[1]) if found else 1.0
