"""RS-Nets float and SAN.

Logits of a network with stored statistics, at its own sizes and at others.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from engine.runs.untrained_sizes import lend
from nets.points import Point, renamed, split_name
from quant.backend import tf
from quant.state import Kind, State
from tests.parity import pytorch
from tests.parity.fixtures import Check, Fixture, Result, compare

# Of the standard deviation, for logits without a stated tolerance and for pooled features.
CONTINUOUS = 1e-4
PIXELS_OF_ONE = 320


def forward(fixture: Fixture) -> Result:
    """Every case: the network's own sizes, and sizes for which SAN was not trained."""
    result, seen = Result(fixture.name, 'the std of each tensor'), set()
    for case, specs in _cases(fixture.data['inputs']).items():
        prefix = '' if case == 'main' else f'{case}_'
        ours = {
            prefix + key: value for key, value in _run(fixture, case, pytorch.inputs(specs)).items()
        }
        compared = [key for key in ours if key in fixture.arrays]
        result.problems += [
            f'not stored: {key}' for key in ours if key not in fixture.arrays and _judged(key)
        ]
        result.checks += [_check(fixture, key, ours[key]) for key in compared]
        seen |= set(compared)
    lacking = sorted(set(fixture.arrays) - seen - {'ideal_encodings'})
    result.problems += [f'not compared: {key}' for key in lacking if _judged(key)]
    skipped = [key for key in lacking if not _judged(key)]
    result.remark = f'{len(seen)} tensors' + (
        f'; not compared: {", ".join(skipped)}' if skipped else ''
    )
    return result


def _judged(key: str) -> bool:
    return 'logits' in key or key == 'ensemble'


def _cases(specs: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Inputs by case; an input can belong to several."""
    cases: dict[str, list[Mapping[str, Any]]] = {}
    for spec in specs:
        for case in spec.get('case', 'main').split('/'):
            cases.setdefault(case, []).append(spec)
    return cases


def _check(fixture: Fixture, key: str, ours: np.ndarray) -> Check:
    """The tolerance of the fixture, where there is one, is meant for logits."""
    theirs, tolerance = fixture.arrays[key], fixture.data.get('tolerance_abs')
    scale = float(theirs.std()) or 1.0
    limit = tolerance / scale if tolerance and _judged(key) else CONTINUOUS
    return compare(key, ours, theirs, limit, scale=scale)


def _run(fixture: Fixture, case: str, images: Mapping[int, np.ndarray]) -> dict[str, np.ndarray]:
    """Ours by published key without the case."""
    sizes, model = list(images), fixture.data['model']
    options = (
        {'kd': True, 'kd_type': 'none'}
        if any(row['name'] == 'alpha' for row in fixture.tensors())
        else {}
    )
    with tf.Graph().as_default(), pytorch.session() as session:
        net = pytorch.network(model, sizes, _encodings(fixture, case, sizes), **options)
        tower = pytorch.build(net, training=False)
        pytorch.restore(session, _values(fixture, case, sizes))
        return session.run(_fetches(tower), tower.feed(images))


def _fetches(tower: pytorch.Tower) -> dict[str, tf.Tensor]:
    fetches = {f'logits_{point.size}': logits for point, logits in tower.outputs.logits.items()}
    fetches |= {
        f'pooled_{spelling[1:]}': features for spelling, features in tower.blocks.pooled.items()
    }
    fetches |= tower.outputs.extras
    alpha = [variable for variable in tf.global_variables() if variable.op.name == 'alpha']
    return fetches | {
        key: value
        for v in alpha
        for key, value in (('alpha', v), ('alpha_softmax', tf.nn.softmax(v)))
    }


def _encodings(fixture: Fixture, case: str, sizes: Sequence[int]) -> Sequence[float] | None:
    """Encodings by position: the trained ones, or with ``ideal`` inference those of the sizes that
    are run.
    """
    if case.startswith('ideal'):
        stored = fixture.arrays.get('ideal_encodings')
        return [size / PIXELS_OF_ONE for size in sizes] if stored is None else stored.tolist()
    return fixture.data['model'].get('encodings')


def _values(fixture: Fixture, case: str, sizes: Sequence[int]) -> dict[str, np.ndarray]:
    """Values by position, as published; those of a size that was not trained come from the function
    that evaluation takes.
    """
    trained = fixture.data['model']['sizes']
    values = pytorch.published_values(fixture, trained)
    if case == 'main':
        return values
    text = fixture.data['outputs'].get(f'{case}_logits_<s>', '')
    share = float((re.search(r'([\d.]+)\*BN\(i-1\)', text) or ['', '0'])[1])
    served = {name: value for name, value in values.items() if not re.search(r'/s\d+/', name)}
    for i, size in enumerate(sizes):
        lenders = trained[i - 1 : i + 1] if share and i else trained[i : i + 1]
        like = round(lenders[-1] + share * (lenders[0] - lenders[-1]))
        lent = lend(values, _declared(values, lenders[0], like), {like: lenders})
        for name, value in lent.items():
            served[name.replace(f'/s{like}/', f'/s{size}/')] = value
    return served


def _declared(values: Mapping[str, np.ndarray], known: int, like: int) -> dict[str, State]:
    """Declarations of what a size has for itself, from the names of one that is known."""
    found = {}
    for name in values:
        point, shared = split_name(name)
        if point.size == known:
            own = Point(size=like)
            found[renamed(name, point, own)] = State(Kind.TRAINED, str(own), shared=shared)
    return found
