"""SAN: statistics of the normalisations from a few batches, and the logits with them."""

from typing import Any

import numpy as np

from engine.evaluation.calibrate import Batch, image_weighted, stacked
from quant.backend import tf
from tests.parity import pytorch
from tests.parity.fixtures import Check, Fixture, compare

# Of the largest entry of a statistic; of the logits' std.
STATISTIC, LOGITS = 1e-4, 1e-3


def checks(fixture: Fixture) -> list[Check]:
    """The stored statistics, and the logits of the training inputs."""
    model = fixture.data['model']
    values = _calibrated(fixture)
    stored = {
        key.removeprefix('cal/'): value
        for key, value in fixture.arrays.items()
        if key.startswith('cal/')
    }
    names = pytorch.names(list(stored), model, model['sizes'])
    found = [
        compare(f'calibrated {name}', values[names[name]], theirs, STATISTIC)
        for name, theirs in stored.items()
    ]
    feed = pytorch.inputs([spec for spec in fixture.data['inputs'] if 'size' in spec])
    with tf.Graph().as_default(), pytorch.session() as session:
        tower = _tower(model, training=False)
        pytorch.restore(session, values)
        logits = session.run(
            {p.size: value for p, value in tower.outputs.logits.items()}, tower.feed(feed)
        )
    for size, ours in logits.items():
        theirs = fixture.arrays[f'cal_logits_{size}']
        found.append(compare(f'cal_logits_{size}', ours, theirs, LOGITS, scale=float(theirs.std())))
    return found


def _tower(model: dict[str, Any], *, training: bool) -> pytorch.Tower:
    return pytorch.build(
        pytorch.network(model, model['sizes'], model.get('encodings')), training=training
    )


def _batches(fixture: Fixture) -> list[dict[int, np.ndarray]]:
    """By the rule of the fixture: path j of batch i has the seed 4000 + 10 i + j."""
    sizes, shape = fixture.data['model']['sizes'], fixture.data['inputs'][0]['shape']
    return [
        pytorch.inputs(
            [
                {'size': size, 'seed': 4000 + 10 * i + j, 'shape': (count, shape[1], size, size)}
                for j, size in enumerate(sizes)
            ]
        )
        for i, count in enumerate(fixture.data['calibration']['batches'])
    ]


def _calibrated(fixture: Fixture) -> dict[str, np.ndarray]:
    """All variables, with the average of our calibration that does as the published one."""
    model, batches = fixture.data['model'], _batches(fixture)
    with tf.Graph().as_default(), pytorch.session() as session:
        tower = _tower(model, training=True)
        values = pytorch.published_values(fixture, model['sizes'])
        pytorch.restore(session, values)
        seen = [
            Batch(count, session.run(tower.blocks.statistics, tower.feed(batch)))
            for count, batch in zip(fixture.data['calibration']['batches'], batches)
        ]
    for scope in seen[0].statistics:
        mean, variance = image_weighted(stacked(seen, scope))
        values |= {
            f'{scope}/mean/EMA': mean.astype('float32'),
            f'{scope}/variance/EMA': variance.astype('float32'),
        }
    return values
