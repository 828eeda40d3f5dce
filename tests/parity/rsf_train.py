"""RS-Nets float and SAN: one training step of the published code.

Loss, gradients, update and statistics are compared.

Gradients are pinned by their norm and by their product with a direction drawn from the name of the
parameter.

What float32 allows. Everything forward is continuous, and two builds agree to 1e-5. A gradient is
not: a unit within rounding of zero is on or off, and with batches of 8 one such unit in a late
layer moves all gradients of its size before it by up to 4 %, seen between builds as between two
draws of relative noise 3e-7 on our own values. So each size is settled first, as in ``rsq_train``:
with noise on its normalisations that is too small to matter otherwise, until its gradients agree
sharply. Where all sizes settle (SAN of ResNet-18: errors fall from 3e-2 to 1e-5), everything is
judged sharply. A larger size can have several such units at every draw; its normalisations, and the
kernels that all sizes share, are then held to ``FLIPPED`` only, which still tells a wrong gradient.

Gradients that vanish but for rounding (the shift of a linear bottleneck in front of another
normalisation) are judged on the scale of the others.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from nets import losses
from quant.backend import tf
from tests.parity import pytorch, rsf_calibrate
from tests.parity.fixtures import Check, Fixture, Result, compare

# Of the value; of the logits' std, which batch statistics of 8 values amplify; of the norm of the
# statistic.
LOSS, LOGITS, STATISTIC = 1e-5, 1e-3, 1e-4
# Of the norm of a gradient: with the same units on, and with one unit of 4096 or more on in one
# build only.
SHARP, FLIPPED = 1e-3, 5e-2
# Part of the median norm below which a gradient is judged on that scale, and rounding of a value
# that is updated.
FLOOR, ROUNDING = 0.1, 1e-7
NOISE, TRIES = 3e-7, 24
RATE, MOMENTUM, DECAY = 0.1, 0.9, 1e-4


class Stored(NamedTuple):
    """What is published of one parameter, by our name, and the scale of its gradient."""

    norm: float
    dot: float
    update: float
    scale: float


class Step(NamedTuple):
    """What one run computes, and the update."""

    fetches: dict[str, Any]
    update: list[tf.Operation]


def step(fixture: Fixture) -> Result:
    """The step, then the calibration where the fixture has one."""
    sizes = fixture.data['model']['sizes']
    feed = pytorch.inputs([spec for spec in fixture.data['inputs'] if 'size' in spec])
    result, stored = Result(fixture.name, "each tensor's scale"), _stored(fixture)
    with tf.Graph().as_default(), pytorch.session() as session:
        tower = build(fixture, training=True)
        values, dots = (pytorch.published_values(fixture, sizes, prefix) for prefix in ('', 'dot:'))
        ops = _step(tower, tf.constant(fixture.arrays['labels'], tf.int32))
        put, settled = settle(session, tower, ops, values, dots, stored, feed)
        ours, _ = session.run([ops.fetches, ops.update], tower.feed(feed))
        after = session.run({variable.op.name: variable for variable in tf.global_variables()})
    result.problems = _unlike(fixture, ours['gradients'])
    result.checks = [
        *_forward(fixture, ours),
        *_statistics(fixture, after, dots),
        *_gradients(stored, ours['gradients'], dots, settled, sizes),
        *_updates(stored, put, after, settled, sizes),
    ]
    rough = [f'{size} ({error:.1e})' for size, error in settled.items() if error > SHARP]
    result.remark = (
        f'{len(stored)} parameters; gradients judged sharply at {len(sizes) - len(rough)} sizes'
        + (f', to {FLIPPED} at {", ".join(rough)} and in kernels' if rough else '')
    )
    if fixture.data.get('calibration'):
        result.checks += rsf_calibrate.checks(fixture)
        result.remark += '; calibration'
    return result


def build(fixture: Fixture, *, training: bool) -> pytorch.Tower:
    model = fixture.data['model']
    return pytorch.build(
        pytorch.network(model, model['sizes'], model.get('encodings'), kd=True), training=training
    )


def _stored(fixture: Fixture) -> dict[str, Stored]:
    ours = pytorch.names(
        fixture.data['param_names'], fixture.data['model'], fixture.data['model']['sizes']
    )
    rows = zip(
        ours.values(),
        *(fixture.arrays[key].tolist() for key in ('grad_l2', 'grad_dot', 'update_l2')),
    )
    used = {name: numbers for name, *numbers in rows if name is not None}
    floor = FLOOR * float(np.median([norm for norm, *_ in used.values()]))
    return {name: Stored(*numbers, max(numbers[0], floor)) for name, numbers in used.items()}


def _step(tower: pytorch.Tower, labels: tf.Tensor) -> Step:
    """One step of SGD with decay of all parameters.

    The gradients that are fetched are those of the loss alone.
    """
    parts = tower.net.loss(tower.outputs, labels)
    total = tf.add_n(list(parts.values()))
    optimizer = tf.train.MomentumOptimizer(RATE, MOMENTUM)
    pairs = optimizer.compute_gradients(total, gate_gradients=optimizer.GATE_GRAPH)
    decayed = optimizer.apply_gradients(
        [(gradient + DECAY * variable, variable) for gradient, variable in pairs]
    )
    fetches = {
        'total': total,
        'ce': [value for key, value in parts.items() if key != 'loss/distillation'],
        'kl': _divergences(tower),
        'logits': {p.size: v for p, v in tower.outputs.logits.items()},
        'gradients': {variable.op.name: gradient for gradient, variable in pairs},
    }
    return Step(fetches, [decayed, *tf.get_collection(tf.GraphKeys.UPDATE_OPS)])


def _divergences(tower: pytorch.Tower) -> list[tf.Tensor]:
    """In the order of the published calls: of each path from the ensemble, then larger sizes."""
    logits, ensemble = list(tower.outputs.logits.values()), list(tower.outputs.extras.values())
    return [
        losses.divergence(teacher, student)
        for j, student in enumerate(logits)
        for teacher in [*ensemble, *logits[:j]]
    ]


def settle(
    session: tf.Session,
    tower: pytorch.Tower,
    ops: Step,
    values: dict[str, np.ndarray],
    dots: Mapping[str, np.ndarray],
    stored: Mapping[str, Stored],
    feed: Mapping[int, np.ndarray],
) -> tuple[dict[str, np.ndarray], dict[int, float]]:
    """Sets values, and each size's normalisations with the draw of noise at which gradients agree
    best.

    Returns:
        The values that were put in, and the largest error of the gradients by size.
    """
    best, put = dict.fromkeys(tower.net.sizes, np.inf), dict(values)
    for draw in range(TRIES + 1):
        trial = _noisy(values, draw)
        pytorch.restore(session, trial)
        gradients = session.run(ops.fetches['gradients'], tower.feed(feed))
        for size in [size for size, error in best.items() if error > SHARP]:
            own = [name for name in stored if f'/s{size}/' in name]
            error = max(
                abs(float((gradients[n] * dots[n]).sum()) - stored[n].dot) / stored[n].scale
                for n in own
            )
            if error < best[size]:
                best[size] = error
                put.update({name: value for name, value in trial.items() if f'/s{size}/' in name})
        if max(best.values()) <= SHARP:
            break
    pytorch.restore(session, put)
    return put, best


def _noisy(values: Mapping[str, np.ndarray], seed: int) -> dict[str, np.ndarray]:
    """The values with relative noise on all normalisations; the values themselves for seed 0."""
    random = np.random.RandomState(seed)
    return {
        name: (value * (1 + NOISE * random.standard_normal(value.shape))).astype('float32')
        if seed and '/bn/' in name
        else value
        for name, value in values.items()
    }


def _unlike(fixture: Fixture, gradients: Mapping[str, np.ndarray]) -> list[str]:
    """Parameters that have a gradient in one code only."""
    model, without = fixture.data['model'], set(fixture.data['parameters_without_gradient'])
    ours = pytorch.names(fixture.data['param_names'], model, model['sizes'])
    unlike = [name for name, own in ours.items() if (own is None) != (name in without)]
    lost = set(gradients) ^ {own for own in ours.values() if own}
    return [f'gradient in one code only: {name}' for name in (*unlike, *sorted(lost))]


def _forward(fixture: Fixture, ours: Mapping[str, Any]) -> list[Check]:
    """A divergence is a difference of cross entropies and judged on their scale."""
    stored = fixture.arrays
    checks = [
        compare(key, np.asarray(ours[key]), stored[key], LOSS, scale=float(stored[scale].max()))
        for key, scale in (('total', 'total'), ('ce', 'ce'), ('kl', 'ce'))
    ]
    return checks + [
        compare(key, value, stored[key], LOGITS, scale=float(stored[key].std()))
        for key, value in (
            (f'train_logits_{size}', value) for size, value in ours['logits'].items()
        )
    ]


def _statistics(
    fixture: Fixture, after: Mapping[str, np.ndarray], dots: Mapping[str, np.ndarray]
) -> list[Check]:
    model = fixture.data['model']
    names = pytorch.names(fixture.data['stat_names'], model, model['sizes'])
    return [
        compare(
            f'{name} after',
            (after[name] * dots[name]).sum(dtype='float64'),
            theirs,
            STATISTIC,
            scale=float(np.linalg.norm(after[name])),
        )
        for name, theirs in zip(names.values(), fixture.arrays['stat_dot'])
        if name is not None
    ]


def _gradients(
    stored: Mapping[str, Stored],
    ours: Mapping[str, np.ndarray],
    dots: Mapping[str, np.ndarray],
    settled: Mapping[int, float],
    sizes: list[int],
) -> list[Check]:
    checks = []
    for name, row in stored.items():
        gradient, limit = ours[name].astype('float64'), _limit(name, settled, sizes)
        checks += [
            compare(
                f'norm of the gradient of {name}',
                np.linalg.norm(gradient),
                row.norm,
                limit,
                scale=row.scale,
            ),
            compare(
                f'gradient of {name}',
                (gradient * dots[name]).sum(),
                row.dot,
                limit,
                scale=row.scale,
            ),
        ]
    return checks


def _updates(
    stored: Mapping[str, Stored],
    put: Mapping[str, np.ndarray],
    after: Mapping[str, np.ndarray],
    settled: Mapping[int, float],
    sizes: list[int],
) -> list[Check]:
    """The difference of two float32 values carries their rounding beside the gradient's error."""
    checks = []
    for name, row in stored.items():
        limit, size = _limit(name, settled, sizes), float(np.linalg.norm(put[name]))
        moved = np.linalg.norm(after[name].astype('float64') - put[name])
        checks.append(
            compare(
                f'update of {name}',
                moved,
                row.update,
                limit,
                scale=RATE * row.scale + ROUNDING * size / limit,
            )
        )
    return checks


def _limit(name: str, settled: Mapping[int, float], sizes: list[int]) -> float:
    """A normalisation depends on its own size, a kernel on all."""
    own = [size for size in sizes if f'/s{size}/' in name] or sizes
    return SHARP if all(settled[size] <= SHARP for size in own) else FLIPPED
