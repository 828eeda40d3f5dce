"""RS-Nets quantization.

The variable names of a published checkpoint, mapped onto a training graph of ours.
"""

import functools
import json
import re
from collections import Counter
from typing import Any

from engine.importers.rsnet import from_published
from nets.backbones import resnet
from quant.backend import tf
from tests.parity import graphs
from tests.parity.fixtures import Check, Fixture, Result
from tests.parity.rsq_train import build_step

# What a checkpoint holds beside the model and its training state.
_FOREIGN = re.compile(r'EMA/.*|learning_rate|global_step')
_TRAINING = {'wd': 5e-5, 'lr': 0.1, 'momentum': 0.9, 'nesterov': True}


def checkpoint_names(fixture: Fixture) -> Result:
    """Names and shapes of weights, statistics, bases, their shadows and optimiser slots, in both
    directions.
    """
    names = fixture.data['names']
    mapped = {name: from_published(name) for name in names}
    theirs = {ours: names[name] for name, ours in mapped.items() if ours is not None}
    model = fixture.data.get('model') or describe(theirs)
    ours = _training_variables(json.dumps(model), theirs['linear/b'][0])
    result = Result(
        fixture.name,
        'all names',
        problems=_mapping_problems(mapped) + graphs.differences(ours, theirs),
    )
    unmatched = sum(list(shape) != list(theirs.get(name, [-1])) for name, shape in ours.items())
    result.checks = [Check('variables without a published counterpart', unmatched / len(ours), 0.0)]
    result.remark = (
        f'{len(ours)} variables, {len(names) - len(theirs)} names that are no part of the model'
    )
    return result


def describe(shapes: dict[str, list[int]]) -> dict[str, Any]:
    """The configuration that a set of variables, by our names, belongs to."""
    blocks = {
        found[0]: int(found[1])
        for name in shapes
        if (found := re.match(r'group(\d+)/block\d+/', name))
    }
    per_group = Counter(blocks.values())
    counts = tuple(per_group[g] for g in range(len(per_group)))
    preact = any('/bn_last/' in name for name in shapes)
    mode = (
        'resnet'
        if not preact
        else 'preact'
        if any('/convshortcut/' in name for name in shapes)
        else 'preact_typeA'
    )
    sizes = [
        int(found[1]) for name in shapes if (found := re.fullmatch(r'conv0/bn/s(\d+)/gamma', name))
    ]
    return {
        'depth': _depth(counts, bottleneck=any('/conv3/' in name for name in shapes)),
        'mode': mode,
        'sizes': sizes,
        'kd': 'alpha' in shapes,
        'qw': _bits(shapes, r'.*/weight_quant/basis'),
        'qa': _bits(shapes, r'.*/quant\w+/basis'),
    }


def _depth(counts: tuple[int, ...], *, bottleneck: bool) -> int:
    for arch in resnet.ARCHS:
        form = resnet.ResNet(arch=arch, mode='pytorch', classes=1).form
        if form == resnet.Form(counts, bottleneck):
            return int(arch.removeprefix('resnet'))
    raise ValueError(
        f'no depth has {counts} blocks per group{", bottleneck" if bottleneck else ""}'
    )


def _bits(shapes: dict[str, list[int]], pattern: str) -> int:
    return next((shape[0] for name, shape in shapes.items() if re.fullmatch(pattern, name)), 32)


def _mapping_problems(mapped: dict[str, str | None]) -> list[str]:
    """Names that should map and do not, that should not and do, and two names for one variable."""
    problems = []
    for name, ours in mapped.items():
        if bool(_FOREIGN.fullmatch(name)) != (ours is None):
            problems.append(f'{name} maps to {ours}')
    twice = [
        name for name, count in Counter(mapped.values()).items() if name is not None and count > 1
    ]
    return problems + [f'several names map to {name}' for name in twice]


@functools.cache
def _training_variables(described: str, classes: int) -> dict[str, list[int]]:
    """Shapes by name of everything that our training graph would save, of a model in JSON."""
    model = json.loads(described)
    side = max(model['sizes'])
    with tf.Graph().as_default():
        tower = graphs.build(model, classes, (2, side, side, 3), training=True)
        build_step(tower, tf.zeros([2], tf.int32), _TRAINING)
        return {variable.op.name: variable.shape.as_list() for variable in tf.global_variables()}
