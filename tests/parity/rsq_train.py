"""RS-Nets quantization: losses, gradients and state of the first training step."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from engine.importers.rsnet import from_published
from nets import losses
from nets.points import Point
from quant import updates
from quant.backend import tf
from tests.parity import graphs
from tests.parity.fixtures import Check, Fixture, Result, compare, draw
from tests.parity.rsq import STABLE

# Two versions of TensorFlow agree to 1e-6 on the costs of the first step and to 1e-4 on the state
# after it.
SCALAR = 1e-5
STATE = 1e-3

# Relative noise by which the fixtures probed their own stability, and how often it is drawn here
# before giving up.
NOISE = 1.5e-7
TRIES = 24


@dataclasses.dataclass(frozen=True)
class Step:
    """One training step.

    Attributes:
        terms: Scalars by published name: ``cost``, ``wd``, ``xent_096``, ``xent_ensemble``.
        gradients: Of the cost by name of the variable.
        update: Everything that the step writes.
    """

    terms: dict[str, tf.Tensor]
    gradients: dict[str, tf.Tensor]
    update: list[tf.Operation]


def build_step(tower: graphs.Tower, labels: tf.Tensor, training: Mapping[str, Any]) -> Step:
    """Loss, gated gradients, optimiser and quantizer updates, as the fixtures state them."""
    losses_ = tower.net.loss(tower.outputs, labels)
    wd = training['wd'] * tf.add_n([tf.nn.l2_loss(kernel) for kernel in tower.blocks.kernels])
    cost = tf.add_n([*losses_.values(), wd])
    optimizer = tf.train.MomentumOptimizer(
        training.get('lr', 0.1),
        training.get('momentum', 0.9),
        use_nesterov=training.get('nesterov', True),
    )
    pairs = optimizer.compute_gradients(cost, gate_gradients=optimizer.GATE_GRAPH)
    update = [
        optimizer.apply_gradients(pairs),
        *tf.get_collection(tf.GraphKeys.UPDATE_OPS),
        *updates.refit([tower.blocks.quantization]),
    ]
    xents = {
        key.replace('logits', 'xent'): losses.cross_entropy(value, labels)
        for key, value in tower.logits.items()
    }
    return Step(
        {'cost': cost, 'wd': wd, **xents},
        {variable.op.name: grad for grad, variable in pairs},
        update,
    )


def _inputs(fixture: Fixture) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels."""
    drawn = {spec['name']: draw(spec) for spec in fixture.data['inputs']}
    return drawn['input'], drawn['label'].astype('int32')


def distilled(fixture: Fixture) -> Result:
    """Ensemble distillation: every term of the loss and the gradients at the start; no update."""
    values, (images, labels) = graphs.published_values(fixture), _inputs(fixture)
    pairs = re.findall(r'(\w+)->(\w+)', fixture.data['outputs']['distill'])
    with tf.Graph().as_default(), tf.Session() as session:
        tower = graphs.build(
            fixture.data['model'], graphs.classes(fixture, values), images.shape, training=True
        )
        step = build_step(tower, tf.constant(labels), fixture.data['training'])
        fetches = {
            **step.terms,
            **tower.logits,
            'distill': tf.stack([_taught(tower, *pair) for pair in pairs]),
            'galpha': step.gradients['alpha'],
            'g_linear_b': step.gradients['linear/b'],
        }
        remark = settle(session, tower, values, images, fixture)
        ours = session.run(fetches, {tower.images: images})
    checks = [
        compare(
            key,
            ours[key],
            fixture.arrays[key],
            STATE if key.startswith(('g', 'logits')) else SCALAR,
        )
        for key in fixture.arrays
        if key in ours
    ]
    lacking = sorted(set(fixture.arrays) - set(ours))
    problems = [f'not compared: {", ".join(lacking)}'] if lacking else []
    remark = f'cost {ours["cost"]:.7g}, published {fixture.arrays["cost"]:.7g}{remark}'
    return Result(fixture.name, "each tensor's maximum", checks, problems, remark)


def settle(
    session: tf.Session,
    tower: graphs.Tower,
    values: dict[str, np.ndarray],
    images: np.ndarray,
    fixture: Fixture,
) -> str:
    """Sets values, or values within rounding of them at which no activation crosses a threshold.

    With batch statistics one value across a threshold moves the logits of the whole batch, by up to
    their own size, and whether it crosses differs between two builds of TensorFlow. So the values
    put in may differ from the filled ones by the relative noise with which the fixtures probed
    stability, in the normalisations, which every size has for itself. What the step then computes
    must agree sharply. A size that no draw settles keeps its filled values, and fails.

    Returns:
        A remark for the line; empty if the filled values agree.
    """
    stored = {
        point: fixture.arrays.get(key, fixture.arrays.get('logits_0'))
        for point, key in zip(tower.net.points, tower.logits)
    }
    settled, drawn, first = dict(values), dict[Point, int](), dict[Point, float]()
    draws = TRIES if graphs.activation_bits(fixture.data['model']) < 32 else 0
    for draw_number in range(1 + draws):
        trial = _noisy(values, draw_number)
        errors = _logit_errors(session, tower, trial, images, stored)
        first = first or errors
        for point in [
            point for point, error in errors.items() if point not in drawn and error <= STABLE
        ]:
            drawn[point] = draw_number
            settled.update({name: value for name, value in trial.items() if f'/{point}/' in name})
        if len(drawn) == len(stored):
            break
    graphs.restore(session, settled)
    return ''.join(
        _flip_remark(point, error, drawn.get(point))
        for point, error in first.items()
        if error > STABLE
    )


def _logit_errors(
    session: tf.Session,
    tower: graphs.Tower,
    values: dict[str, np.ndarray],
    images: np.ndarray,
    stored: dict[Point, np.ndarray],
) -> dict[Point, float]:
    """Largest absolute difference of the logits of each size."""
    graphs.restore(session, values)
    ours = session.run([tower.outputs.logits[point] for point in stored], {tower.images: images})
    return {point: float(np.abs(mine - stored[point]).max()) for point, mine in zip(stored, ours)}


def _noisy(values: dict[str, np.ndarray], seed: int) -> dict[str, np.ndarray]:
    """The values with relative noise on all normalisations; the values themselves for seed 0."""
    random = np.random.RandomState(seed)
    return {
        name: (value * (1 + NOISE * random.standard_normal(value.shape))).astype('float32')
        if seed and '/bn' in name
        else value
        for name, value in values.items()
    }


def _flip_remark(point: Point, error: float, draw_number: int | None) -> str:
    end = (
        f'judged at noise {NOISE}, draw {draw_number}'
        if draw_number
        else f'and no draw of noise {NOISE} helps'
    )
    return f'; logits of {point} as filled are off by {error:.2g}, {end}'


def _taught(tower: graphs.Tower, teacher: str, student: str) -> tf.Tensor:
    """One distillation term; ``ens`` is the ensemble."""
    name = {'ens': 'ensemble'}.get(teacher, teacher)
    return losses.soft_cross_entropy(
        tower.logits[f'logits_{name}'], tower.logits[f'logits_{student}']
    )


def trajectory(fixture: Fixture) -> Result:
    """One size, several optimiser steps on one batch.

    The first is judged; later ones amplify rounding.
    """
    values, (images, labels) = graphs.published_values(fixture), _inputs(fixture)
    training, stored = fixture.data['training'], fixture.arrays
    with tf.Graph().as_default(), tf.Session() as session:
        tower = graphs.build(
            fixture.data['model'], graphs.classes(fixture, values), images.shape, training=True
        )
        step = build_step(tower, tf.constant(labels), training)
        fetches, feed = [_step_fetches(tower, step), step.update], {tower.images: images}
        remark = settle(session, tower, values, images, fixture)
        start = session.run(fetches, feed)[0]
        variables = {variable.op.name: variable for variable in tf.global_variables()}
        after = session.run(variables)
        later = [session.run(fetches, feed)[0]['cost'] for _ in range(1, training['steps'])]
    checks = _start_checks(start, stored) + [
        _state_check(key, after, value)
        for key, value in stored.items()
        if key.startswith('after0/')
    ]
    costs = ', '.join(
        f'{cost:.3g} (published {stored[f"cost_{t}"]:.3g})' for t, cost in enumerate(later, 1)
    )
    return Result(
        fixture.name,
        "each tensor's maximum",
        checks,
        remark=f'later costs, not judged: {costs}{remark}',
    )


def _step_fetches(tower: graphs.Tower, step: Step) -> dict[str, tf.Tensor]:
    """By published name without its step."""
    (size,) = tower.outputs.logits.values()
    (xent,) = (value for key, value in step.terms.items() if key.startswith('xent_'))
    return {
        'cost': step.terms['cost'],
        'wd': step.terms['wd'],
        'xent': xent,
        'logits': size,
        'gnorm_conv0': tf.norm(step.gradients['conv0/W']),
        'g_linear_b': step.gradients['linear/b'],
    }


def _start_checks(ours: dict[str, np.ndarray], stored: Mapping[str, np.ndarray]) -> list[Check]:
    """What the first step computes from the state that was put in."""
    return [
        compare(
            f'{key}_0',
            value,
            stored[f'{key}_0'],
            SCALAR if key in ('cost', 'wd', 'xent') else STATE,
        )
        for key, value in ours.items()
    ]


def _state_check(key: str, after: dict[str, np.ndarray], theirs: np.ndarray) -> Check:
    """One variable, or the norm of one, after the first step."""
    name = key.removeprefix('after0/')
    norm = re.fullmatch(r'norm_(?:(conv0)|g(\d)b(\d)c(\d))W', name)
    if norm:
        scope = norm[1] or f'group{norm[2]}/block{norm[3]}/conv{norm[4]}'
        return compare(key, np.linalg.norm(after[f'{scope}/W']), theirs, STATE)
    ours = 'linear/b' if name == 'linear_b' else from_published(name)
    return compare(key, after[ours], theirs, STATE)
