"""RS-Nets float and SAN.

Losses and their gradients on given logits, and the courses of the learning rate.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

import nets
from engine.config.config import Config
from nets import losses
from nets.outputs import Outputs
from nets.rsnet import RSNet
from nets.san import SAN
from quant.backend import tf
from tests.parity.fixtures import Check, Fixture, Result, compare

# Of the value, and of the largest entry of a gradient.
VALUE, GRADIENT = 1e-5, 1e-4
RATE = 1e-6
_SCHEDULES = {'cos': 'cosine', 'linear': 'linear', 'schedule': 'milestones'}
WARMUP_EPOCHS = 5


def cases(fixture: Fixture) -> Result:
    """Every case, and every row of the learning-rate table whose published value is meant so."""
    result = Result(fixture.name, "each tensor's maximum")
    for name, case in fixture.data['cases'].items():
        stored = {
            key.removeprefix(f'{name}/'): value
            for key, value in fixture.arrays.items()
            if key.startswith(f'{name}/')
        }
        if 'kd_raw' in stored:
            stored['distillation'] = stored.pop('kd_raw') * stored.pop('kd_factor')
        ours = _run(case, stored)
        result.problems += [
            f'not compared: {name}/{key}' for key in sorted(set(stored) - set(ours))
        ]
        result.checks += [
            _check(f'{name}/{key}', ours[key], value)
            for key, value in stored.items()
            if key in ours
        ]
    rates = _rates(fixture.data.get('lr_schedule', {}))
    result.checks += rates
    result.remark = (
        f'{len(fixture.data["cases"])} cases, {len(rates)} learning rates; '
        'rows "step" are not compared: '
        'published by a fault as constant'
    )
    return result


def _check(what: str, ours: np.ndarray, theirs: np.ndarray) -> Check:
    """A divergence is a difference of cross entropies of several units.

    Where it is 0, it is so to their rounding.
    """
    return compare(
        what, ours, theirs, GRADIENT if 'grad' in what else VALUE, scale=_scale(what, theirs)
    )


def _scale(what: str, theirs: np.ndarray) -> float:
    return max(float(np.abs(theirs).max()), 0.0 if 'grad' in what else 1.0)


def _network(case: Mapping[str, Any], points: int) -> RSNet | SAN:
    """A network with the loss of the case; nothing of it is built."""
    options = {'arch': 'resnet18', 'mode': 'pytorch', 'sizes': range(32, 32 + points), 'classes': 1}
    if case['alpha'] is None:
        return nets.create('san', kd=case['kd'], **options)
    return nets.create(
        'rsnet', kd=True, kd_type=case['kdtype'] if case['kd'] else 'none', **options
    )


def _drawn(case: Mapping[str, Any], shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Logits [points, N, classes] and labels by the rule of the fixture."""
    count, batch, classes = shape
    labels = np.random.RandomState(case['seed'] + 100).randint(0, classes, batch)
    logits = np.stack(
        [
            (
                3.0 * np.random.RandomState(case['seed'] + j).standard_normal((batch, classes))
            ).astype('float32')
            for j in range(count)
        ]
    )
    logits[:, np.arange(batch), labels] += np.float32(4)
    return logits, labels


def _run(case: Mapping[str, Any], stored: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Ours by published key; ``distillation`` is the published sum times its factor."""
    values, labels = _drawn(case, stored['grad_logits'].shape)
    net = _network(case, len(values))
    with tf.Graph().as_default(), tf.Session() as session:
        logits = [tf.constant(value) for value in values]
        extras = {} if case['alpha'] is None else {'ensemble': losses.ensemble(logits)}
        parts = net.loss(Outputs(dict(zip(net.points, logits)), extras), tf.constant(labels))
        total = tf.add_n(list(parts.values()))
        fetches = {
            'total': total,
            'ce': [parts[f'loss/{point}'] for point in net.points],
            'grad_logits': tf.gradients(total, logits),
            **_divergences(logits, extras),
        }
        fetches |= _of_alpha(parts, total) if extras else {}
        fetches |= (
            {'distillation': parts['loss/distillation']} if 'loss/distillation' in parts else {}
        )
        session.run([v.initializer for v in tf.global_variables()], _fed(case['alpha']))
        ours = {key: np.asarray(value) for key, value in session.run(fetches).items()}
    return {**ours, 'labels': labels}


def _fed(alpha: list[float] | None) -> dict[Any, list[float]]:
    return {v.initializer.inputs[1]: alpha for v in tf.global_variables()}


def _of_alpha(parts: Mapping[str, tf.Tensor], total: tf.Tensor) -> dict[str, tf.Tensor]:
    (alpha,) = tf.global_variables()
    return {
        'alpha': alpha,
        'alpha_softmax': tf.nn.softmax(alpha),
        'ce_ensemble': parts['loss/ensemble'],
        'grad_alpha': tf.gradients(total, alpha)[0],
    }


def _divergences(logits: list[tf.Tensor], extras: Mapping[str, tf.Tensor]) -> dict[str, Any]:
    """Single terms of the distillation, whether or not the case uses them."""
    zero = tf.constant(0.0)
    terms: dict[str, Any] = {
        'kl_topdown': [
            [
                losses.divergence(teacher, student) if k < j else zero
                for k, teacher in enumerate(logits)
            ]
            for j, student in enumerate(logits)
        ]
    }
    if extras:
        terms['kl_ensemble'] = [
            losses.divergence(extras['ensemble'], student) for student in logits
        ]
    return terms


def _rates(table: Mapping[str, Any]) -> list[Check]:
    """Rows of the learning-rate table; its setting and milestones stand in its texts."""
    if not table:
        return []
    lr, epochs, steps, gamma = map(float, re.findall(r'\d*\.?\d+', table['setting']))
    checks = []
    for code, title in (('rs', 'RS-Nets'), ('san', 'SAN')):
        milestones = re.search(rf'{title} default ([\d ]*\d)', table['note'])
        options = {
            'lr': lr,
            'epochs': int(epochs),
            'steps_per_epoch': int(steps),
            'gamma': gamma,
            'milestones': tuple(map(int, milestones[1].split())) if milestones else (),
        }
        checks += [
            _rate(f'{code} {row}', row, options)
            for row in table.get(code, [])
            if row[0] in _SCHEDULES
        ]
    return checks


def _rate(what: str, row: list[Any], options: dict[str, Any]) -> Check:
    decay, warm, epoch, step, theirs = row
    config = Config.from_values(
        schedule=_SCHEDULES[decay], warmup=WARMUP_EPOCHS if warm else 0, **options
    )
    return compare(what, config.course.rate()(epoch * config.steps_per_epoch + step), theirs, RATE)
