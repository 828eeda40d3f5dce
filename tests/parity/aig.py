"""ConvNet-AIG.

Logits and gates with and without noise, losses with their gradients, multiply-adds.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

import nets
from nets import cost
from nets.aig import AIG
from nets.layers.gating import gumbel, straight_through
from nets.outputs import Outputs
from quant import Policy
from quant.backend import tf
from tests.parity import pytorch
from tests.parity.fixtures import Check, Fixture, Result, compare
from tests.parity.madds import Bare, equal

# Of the standard deviation, for logits of the network and of the gates.
CONTINUOUS = 1e-4
# Of the largest value, for losses and their gradients.
LOSSES = 1e-5
# Of a sum of integers times rates, which we add up in another order.
SUMS = 1e-12


def forward(fixture: Fixture) -> Result:
    """With all bodies and without closed ones, by the larger logit and by stored noise."""
    result, seen = Result(fixture.name, 'the std of each tensor'), set()
    spec = fixture.data['noise']
    uniform = np.random.RandomState(spec['seed']).uniform(size=spec['shape']).astype('float32')
    with tf.Graph().as_default(), pytorch.session() as session:
        noise = spec['factor'] * gumbel(tf.constant(uniform))
        fetches = {
            (execution, prefix): _fetches(fixture, execution, given, prefix)
            for execution in ('mask', 'skip')
            for prefix, given in (('', None), ('noisy_', noise))
        }
        (size,) = fixture.data['inputs'][0]['shape'][2:3]
        pytorch.restore(session, pytorch.published_values(fixture, [size]))
        for (execution, _), ours in session.run(fetches).items():
            result.checks += [
                _check(f'{execution} {key}', value, fixture.arrays[key])
                for key, value in ours.items()
            ]
            seen |= set(ours)
    lacking = sorted(set(fixture.arrays) - seen)
    result.problems += [f'not compared: {key}' for key in lacking if not key.startswith('block_')]
    result.remark = f'{len(seen)} tensors, masked and skipping'
    return result


def _fetches(
    fixture: Fixture, execution: str, noise: tf.Tensor | None, prefix: str
) -> dict[str, tf.Tensor]:
    """By published key."""
    (spec,) = fixture.data['inputs']
    size = spec['shape'][2]
    net = pytorch.network(fixture.data['model'], [size], None, faithful_gates=True)
    blocks = pytorch.Watched(Policy(), net.points, training=False, padding=net.padding)
    images = {size: tf.constant(pytorch.inputs([{**spec, 'size': size}])[size])}
    with tf.variable_scope('', reuse=tf.AUTO_REUSE):
        outputs = net.outputs(images, blocks, noise=noise, execution=execution)
    gates = outputs.extras[f'gates/s{size}']
    found = {
        'logits': outputs.logits[net.points[0]],
        'gate_logits': outputs.extras[f'gate_logits/s{size}'],
        'gate_decision': gates,
        **({} if prefix else {'activation_rate': tf.reduce_mean(gates, axis=1)}),
    }
    return {prefix + key: value for key, value in found.items()}


def _check(what: str, ours: np.ndarray, theirs: np.ndarray) -> Check:
    """Decisions and rates must be equal."""
    if what.endswith('logits'):
        return compare(what, ours, theirs, CONTINUOUS, scale=float(theirs.std()))
    return compare(what, ours, theirs, 0.0)


def loss_cases(fixture: Fixture) -> Result:
    """Losses of given logits and gates, their gradients, and that through a sampled gate."""
    result = Result(fixture.name, "each tensor's maximum")
    for case in fixture.data['cases']:
        stored = {key: fixture.arrays[f'{case["name"]}/{key}'] for key in ('values', 'act_grad')}
        ours = _losses(case)
        result.checks += [
            compare(f'{case["name"]}/{key}', ours[key], value, LOSSES)
            for key, value in stored.items()
        ]
    arrays = fixture.arrays
    ours = _gate(*(arrays[f'gate/{key}'] for key in ('logits', 'u', 'c')))
    result.checks += [
        compare(f'gate/{key}', value, arrays[f'gate/{key}'], LOSSES) for key, value in ours.items()
    ]
    result.remark = f'{len(fixture.data["cases"])} cases and a gate'
    return result


def _losses(case: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Losses by published key.

    The published mean activation counts blocks of target 1 as executed: we have no gate there.
    """
    drawn = {
        key: np.random.RandomState(case[key]['seed']) for key in ('activations', 'logits', 'labels')
    }
    gates = drawn['activations'].uniform(size=case['activations']['shape'])
    threshold = re.search(r'< ([\d.]+)', case['activations']['rule'])
    gates = (gates < float(threshold[1]) if threshold else gates).astype('float32')
    logits = (2 * drawn['logits'].standard_normal(case['logits']['shape'])).astype('float32')
    labels = drawn['labels'].randint(0, case['classes'], case['batch']).astype('int32')
    (depth,) = re.findall(r'_r(\d+)_', case['name'])
    net = nets.create(
        'aig',
        arch=f'resnet{depth}',
        mode='pytorch',
        sizes=(32,),
        classes=case['classes'],
        targets=case['target_rates'],
        rate_factor=case['lossfact'],
    )
    with tf.Graph().as_default(), pytorch.session() as session:
        given = tf.constant(gates)
        terms = net.loss(
            Outputs({net.points[0]: tf.constant(logits)}, {'gates/s32': given}), tf.constant(labels)
        )
        total = tf.add_n(list(terms.values()))
        (gradient,) = tf.gradients(total, given)
        parts = session.run([terms['loss/s32'], terms['loss/rates/s32'], total])
        activation = np.where(net.forced, 1, gates.mean(axis=1)).mean()
        return {'values': np.array([*parts, activation]), 'act_grad': session.run(gradient)}


def _gate(logits: np.ndarray, uniform: np.ndarray, upstream: np.ndarray) -> dict[str, np.ndarray]:
    """Value, probabilities and gradient of sampled gates."""
    with tf.Graph().as_default(), pytorch.session() as session:
        given = tf.constant(logits)
        noisy = given + gumbel(tf.constant(uniform))
        gate = straight_through(noisy, 1.0)
        (gradient,) = tf.gradients(gate, given, tf.constant(upstream))
        return session.run(
            {
                'value': tf.stack([1 - gate, gate], axis=1),
                'soft': tf.nn.softmax(noisy),
                'logit_grad': gradient,
            }
        )


def madds(fixture: Fixture) -> Result:
    """Multiply-adds of every block and of every listed schedule of rates, and parameters."""
    result, networks = Result(fixture.name, 'each count'), fixture.data['networks']
    for name, published in networks.items():
        result.checks += _counts(name, published)
    result.remark = f'{len(networks)} networks, {len(result.checks)} counts'
    return result


def _counts(name: str, published: Mapping[str, Any]) -> list[Check]:
    size = published['input'][2]
    net = pytorch.network(
        {
            'constructor': f'{name.replace("resnet", "ResNet")}()',
            'num_classes': _classes(published),
        },
        [size],
        None,
        faithful_gates=True,
    )
    with tf.Graph().as_default():
        blocks = Bare(Policy(), net.points, training=False, padding=net.padding)
        net.outputs({size: tf.placeholder(tf.float32, [1, size, size, 3])}, blocks)
        shared = sum(math.prod(variable.shape.as_list()) for variable in tf.trainable_variables())
    layers = blocks.layers[f's{size}']
    ours = _totals(net, layers) | {'params': shared + 2 * blocks.normalised[f's{size}']}
    ours |= _per_block(net, layers)
    theirs = {key: published[key] for key in ours if key in published}
    theirs |= {
        f'{i} {part}': block[part]
        for i, block in enumerate(published['blocks'])
        for part in ('gated', 'shortcut', 'gate_head')
    }
    checks = [equal(f'{name} {key}', ours[key], count) for key, count in theirs.items()]
    return checks + [
        compare(
            f'{name} at {key}',
            cost.expected_madds(layers, dict(zip(net.blocks, rates))),
            count,
            SUMS,
        )
        for key, rates, count in _schedules(published)
    ]


def _classes(published: Mapping[str, Any]) -> int:
    return published['linear'] // published['blocks'][-1]['out_channels']


def _totals(net: AIG, layers: list[cost.LayerRecord]) -> dict[str, float]:
    by_role = {
        role: cost.madds(layer for layer in layers if layer.role == role)
        for role in ('stem', 'head')
    }
    closed, opened = (
        cost.expected_madds(layers, dict.fromkeys(net.blocks, rate)) for rate in (0.0, 1.0)
    )
    return {
        'stem': by_role['stem'],
        'linear': by_role['head'],
        'always': closed,
        'all_gates_off': closed,
        'all_gates_on': opened,
    }


def _per_block(net: AIG, layers: list[cost.LayerRecord]) -> dict[str, int]:
    """Multiply-adds by number of the block and part of it."""
    counts = {}
    for i, block in enumerate(net.blocks):
        inside = [layer for layer in layers if layer.name.startswith(f'{block}/')]
        counts |= {
            f'{i} gated': cost.madds(layer for layer in inside if layer.gate == block),
            f'{i} shortcut': cost.madds(layer for layer in inside if layer.role == 'shortcut'),
            f'{i} gate_head': cost.madds(layer for layer in inside if layer.role == 'gate'),
        }
    return counts


def _schedules(published: Mapping[str, Any]) -> list[tuple[str, list[float], float]]:
    """(name, rates, expected multiply-adds)."""
    count = len(published['blocks'])
    uniform = [
        (rate, [float(rate)] * count, madds)
        for rate, madds in published['expected_at_uniform_rate'].items()
    ]
    return uniform + [
        (name, row['rates'], row['madds'])
        for name, row in published['expected_at_readme_schedule'].items()
    ]
