"""RS-Nets quantization: quantizers alone, beside a brute-force float64 oracle.

The published code has two faults and one weakness that ours does not share: the lowest bin of a
basis with a negative entry has the wrong level or code (``quirk``), a singular system kills the
step (``error``), a nearly singular one is solved in float32. There the oracle takes the place of
the stored value.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from quant import Policy, Rule
from quant.backend import tf
from quant.scope import Quantization
from quant.updates import refit
from tests.parity.fixtures import Check, Fixture, Result, compare

DECAY = 0.9
# Of the normal equations; beyond it the published float32 solution is noise.
WORST_CONDITION = 1e4
EXACT, SOLVED = 1e-6, 1e-5


class Ops(NamedTuple):
    """A quantizer in a graph: forward and backward, refit, and its variables by short name."""

    forward: dict[str, tf.Tensor]
    refit: list[tf.Operation]
    variables: dict[str, tf.Variable]


def quantizers(fixture: Fixture) -> Result:
    """Every case: output, gradient, start value, two updates, and one late update."""
    result = Result(fixture.name, "each tensor's maximum")
    judged = 0
    for case in fixture.data['cases']:
        name = case['case']
        stored = {
            key.removeprefix(f'{name}/'): value
            for key, value in fixture.arrays.items()
            if key.startswith(f'{name}/')
        }
        ours = _run(case, stored)
        result.problems += [
            f'{name}/{key} is not finite'
            for key, value in ours.items()
            if not np.isfinite(value).all()
        ]
        result.checks += _checks(case, stored, ours)
        judged += _doubtful(case)
    result.remark = f'{len(fixture.data["cases"])} cases, {judged} of them by the float64 oracle'
    return result


def _values(stored: dict[str, np.ndarray]) -> np.ndarray:
    return stored['x'] if 'x' in stored else stored['w']


def _updates(case: dict[str, Any]) -> bool:
    return 'update_basis=False' not in case['inputs']


def _build(case: dict[str, Any], stored: dict[str, np.ndarray]) -> Ops:
    """The quantizer of one case; it is one of weights if the case has a fan-out."""
    spec = f'lq(bits={case["nbit"]})'
    quantization = Quantization(
        Policy((Rule(weight=spec, activation=spec),)), training=_updates(case)
    )
    x = tf.constant(_values(stored))
    if case['n'] is None:
        y = quantization.activation(
            'q', x, scope='q', role='body', relu=False, lower=0.0, point='s1', strongest=True
        )
    else:
        y = quantization.weight(x, scope='q', role='body', init_std=math.sqrt(2 / case['n']))
    (gx,) = tf.gradients(y, x, tf.constant(stored['gy']))
    ops = refit([quantization])
    return Ops(
        {'y': y, 'gx': gx}, ops, {v.op.name.rpartition('/')[2]: v for v in tf.global_variables()}
    )


def _run(case: dict[str, Any], stored: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Our values by published key.

    The runs from fresh shadows are 1 and 2; ``basis_ema`` is one update after a thousand.
    """
    with tf.Graph().as_default(), tf.Session() as session:
        ops = _build(case, stored)
        session.run(tf.global_variables_initializer())
        ours = {'basis_init': session.run(ops.variables['basis'])}
        _assign(session, ops, {'basis': stored['basis0']})
        ours.update(session.run([ops.forward, ops.refit])[0])
        for n in (1, 2):
            state = session.run(ops.variables)
            ours.update({f'{name}{n}': value for name, value in state.items()})
            session.run(ops.refit)
        if ops.refit:
            late = {
                'basis': stored['basis0'],
                'biased': stored['basis0'],
                'local_step': np.float32(1000),
            }
            _assign(session, ops, late)
            session.run(ops.refit)
            ours['basis_ema'] = session.run(ops.variables['basis'])
    return ours


def _assign(session: tf.Session, ops: Ops, values: dict[str, np.ndarray]) -> None:
    chosen = {name: ops.variables[name].initializer for name in values}
    session.run(list(chosen.values()), {op.inputs[1]: values[name] for name, op in chosen.items()})


def _doubtful(case: dict[str, Any]) -> bool:
    """Whether the published basis is wrong, missing, or rounding noise."""
    condition = float(case.get('f64_reference', {}).get('cond_max', 1))
    return _updates(case) and (
        bool(case.get('error') or case.get('quirk')) or condition > WORST_CONDITION
    )


def _checks(
    case: dict[str, Any], stored: dict[str, np.ndarray], ours: dict[str, np.ndarray]
) -> list[Check]:
    """Ours against the stored values, or against the oracle where those are doubtful."""
    name = case['case']
    expected = {key: value for key, value in stored.items() if key in ours}
    if _doubtful(case):
        expected.update(_oracle_bases(case, stored, ours))
    if case.get('quirk'):
        expected['y'] = oracle(case, _values(stored), stored['basis0'])[0]
    checks = [
        compare(
            f'{name}/{key}', ours[key], value, EXACT if key in ('y', 'gx', 'basis_init') else SOLVED
        )
        for key, value in expected.items()
    ]
    if 'basis_ls_f64' in stored and _updates(case) and not case.get('quirk'):
        checks.append(
            compare(f'{name}/basis_ls_f64', ours['basis1'], stored['basis_ls_f64'], SOLVED)
        )
    return checks


def _oracle_bases(
    case: dict[str, Any], stored: dict[str, np.ndarray], ours: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Two updates from fresh shadows and one after a thousand.

    The second one codes with our own first basis.
    """
    x = _values(stored)
    first, second = (oracle(case, x, basis)[1] for basis in (stored['basis0'], ours['basis1']))
    biased = (1 - DECAY) * first, DECAY * (1 - DECAY) * first + (1 - DECAY) * second
    late = DECAY * stored['basis0'] + (1 - DECAY) * first
    return {
        'biased1': biased[0],
        'basis1': biased[0] / (1 - DECAY),
        'biased2': biased[1],
        'basis2': biased[1] / (1 - DECAY**2),
        'basis_ema': late / (1 - DECAY**1001),
    }


def oracle(case: dict[str, Any], x: np.ndarray, basis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Quantized values and least-squares basis in float64, channel by channel.

    Args:
        case: of the fixture; an activation (no fan-out) has codes 0/1 and one channel, a weight
            -1/+1 and many.
        x: values, channels last.
        basis: [K, C].
    """
    weights = case['n'] is not None
    columns = x.reshape(-1, basis.shape[1]).astype('float64')
    solved = [
        _channel(
            column, row, low=-1 if weights else 0, ridge=1e-4 if weights else 1e-8 * column.size
        )
        for column, row in zip(columns.T, basis.T.astype('float64'))
    ]
    return np.stack([y for y, _ in solved], -1).reshape(x.shape), np.stack(
        [new for _, new in solved], -1
    )


def _channel(
    x: np.ndarray, basis: np.ndarray, *, low: int, ridge: float
) -> tuple[np.ndarray, np.ndarray]:
    """Nearest level of each value (of two the lower), then (B'B + r I) v = B'x + r basis."""
    bits = len(basis)
    # Descending numbers and a stable sort: among equal levels the larger number comes first, as
    # published.
    numbers = reversed(range(2**bits))
    codes = np.array([[1.0 if number >> i & 1 else low for i in range(bits)] for number in numbers])
    codes = codes[np.argsort(codes @ basis, kind='stable')]
    levels = codes @ basis
    index = (x[:, None] > (levels[1:] + levels[:-1]) / 2).sum(1)
    b = codes[index]
    return levels[index], np.linalg.solve(b.T @ b + ridge * np.eye(bits), b.T @ x + ridge * basis)
