"""Every registered network x precision x axis at its smallest: it learns, it is stored, frozen and
priced consistently.

A new network fails ``test_every_network_has_a_row`` until it has a row in ``NETS``; nothing else
has to be written but

    python -m tests.test_grid [PRECISION ...]    # tests/golden/PRECISION.json anew: number and
    SHA-256 of the variables of every cell

whose difference shows what a change did to the variables, and so to all checkpoints.
"""

import dataclasses
import hashlib
import itertools
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from tensorpack.tfutils.tower import TowerContext

import nets
from engine.config.config import Config
from engine.graph import freeze
from engine.graph.tower import Model, scored
from engine.runs.checkpoint import Restore
from nets import cost
from nets.points import Point
from quant import QuantizationOptions, Rule, specs
from quant.backend import tf
from quant.policy import LOW_BIT_ROLES
from quant.state import TRAINED, Kind, declared
from tests.conftest import make_shallow

GOLDEN = Path(__file__).parent / 'golden'
IMAGES = np.random.default_rng(0).integers(256, size=(6, 16, 16, 3), dtype=np.uint8)
LABELS = np.arange(6, dtype=np.int32) % 5
AXES = tuple(field.name for field in dataclasses.fields(Point))


class Row(NamedTuple):
    """A network of the grid.

    Attributes:
        options: fields of ``Config`` that make it small.
        axes: what is added for every axis that it has, the one most its own first.
    """

    options: dict[str, Any]
    axes: dict[str, dict[str, Any]]


SIZES = {'sizes': {'sizes': (16, 12)}}
RESNET = {'arch': 'resnet8', 'mode': 'pytorch', 'width': 0.25}
NETS = {
    'aig': Row({**RESNET, 'targets': (0.6,)}, {'gates': {}, **SIZES}),
    'dsnet': Row(
        {'arch': 'mobilenetv1_small', 'mode': 'pytorch', 'width': 0.04, 'routes': (0, 6)},
        {
            'gates': {'stage': 'gate'},
            'widths': {'widths': (0, 6, 14)},
            'sizes': {'sizes': (16, 12), 'widths': (0, 14)},
        },
    ),
    'msdnet': Row(
        {
            'arch': 'msdnet',
            'mode': 'pytorch',
            'nBlocks': 2,
            'base': 1,
            'step': 1,
            'nChannels': 4,
            'growthRate': 2,
            'grFactor': (1, 2),
            'bnFactor': (1, 2),
            'init': 'original',
            'kd_type': 'topdown',
        },
        {'exits': {}, 'sizes': {'sizes': (16, 12), 'bottleneck': False}},
    ),
    'rsnet': Row({**RESNET, 'mode': 'resnet', 'kd': True}, SIZES),
    'san': Row(
        {**RESNET, 'kd': True, 'kd_type': 'topdown', 'encoding': 24.0, 'init': 'scaled'}, SIZES
    ),
}
PRECISIONS: dict[str, dict[str, Any]] = {
    'float': {},
    'w2a32': {'qw': 2},
    'w2a2': {'qw': 2, 'qa': 2},
    'b4b2': {'bits': ('4', '2')},
}
HALVES = {'qw': 'weight', 'qa': 'activation'}


def serves(name, half, options):
    """Whether a quantizer with these options serves weights or activations."""
    try:
        Rule(roles=LOW_BIT_ROLES, **{half: specs.with_options(name, options)})
    except ValueError:
        return False
    return True


def served(name):
    """Fields of ``Config`` that let a quantizer serve what it can, and the default one the rest.

    At 4 bits if it has them: at 2 bits all weights that read a channel of so small a network can be
    zero, and no gradient reaches what makes it.
    """
    values = {'qw': 4, 'qa': 4}
    for bits, half in HALVES.items():
        for options in ({'bits': 4}, {}):
            if serves(name, half, options):
                found = specs.parse(specs.with_options(name, options)).bits
                values |= {bits: found, f'{half}_quantizer': name}
                break
    return values


def at_bits(counts):
    """Fields by name, such as ``lsq2``: each quantizer at each of these bits that it has, the
    default one beside it where it serves but one half.
    """
    found = {}
    for name in specs.names():
        for bits in counts:
            fields = {'qw': bits, 'qa': bits}
            for half in HALVES.values():
                if serves(name, half, {'bits': bits}):
                    fields[f'{half}_quantizer'] = name
            if len(fields) > 2:
                found[f'{name}{bits}'] = fields
    return found


def at_two_precisions():
    """Fields by name, such as ``lsqb4b2``: each quantizer that has the bits of ``b4b2`` there."""
    counts = {int(text) for text in PRECISIONS['b4b2']['bits']}
    found = {}
    for name in specs.names():
        if name == QuantizationOptions.quantizer:
            continue
        halves = {}
        for half in HALVES.values():
            if all(serves(name, half, {'bits': bits}) for bits in counts):
                halves[f'{half}_quantizer'] = name
        if halves:
            found[f'{name}b4b2'] = {**PRECISIONS['b4b2'], **halves}
    return found


# A quantizer beside the default one has a cell for every axis.
for other in specs.names():
    if other != QuantizationOptions.quantizer:
        fields = served(other)
        PRECISIONS[f'{other}{min(fields["qw"], fields["qa"])}'] = fields
# Precisions of the first axis of a network, and of the second, that are tried by default; the rest
# takes minutes.
QUICK = (('float', 'w2a2', 'lsq4'), ('w2a2',))
CELLS = {
    f'{net}-{axis}-{precision}': (net, axis, precision)
    for net, row in NETS.items()
    for axis in row.axes
    for precision in PRECISIONS
}


pytestmark = pytest.mark.usefixtures('shallow')


def config(cell):
    net, axis, precision = CELLS[cell]
    return small(net, axis, PRECISIONS[precision])


def small(net, axis, fields):
    """The configuration of a row with one of its axes and further fields."""
    values = {
        'net': net,
        'sizes': (16,),
        **NETS[net].options,
        **NETS[net].axes[axis],
        **fields,
    }
    if not values.keys().isdisjoint(('qa', 'bits')) and values['mode'] == 'resnet':
        values['mode'] = 'preact'
    values |= {'data': 'animals28', 'dataset': 'animals28', 'classes': 5, 'wd': 0.0}
    values |= {'augmentation': 'shift', 'image_size': 16, 'resize': 'area'}
    found = Config.from_values(**values)
    found.check()
    return found


def numbers(variables):
    """Values under which nothing is hidden by zeros and ones, and rectified units live; kernels
    keep theirs.
    """
    rng = np.random.default_rng(1)
    limits = {
        'gamma': (0.5, 1.5),
        'beta': (-0.3, 0.3),
        'b': (1.0, 1.5),
        'mean/EMA': (-0.3, 0.3),
        'variance/EMA': (0.5, 1.5),
    }
    return {
        name: rng.uniform(*limits[leaf], shape).astype(np.float32)
        for name, shape in variables.items()
        for leaf in limits
        if name.endswith(f'/{leaf}')
    }


def offsets(names):
    """Learned offsets from which the 16 levels, a step of 1 apart, end at 1.

    One gets its gradient from what is clipped, which is nothing before a start from a batch.
    """
    states = declared()
    return {
        name: np.float32([-14])
        for name in names
        if name.endswith('/offset') and states.get(name, TRAINED).kind is Kind.QUANTIZER
    }


def shapes(variables):
    return {v.op.name: tuple(v.shape.as_list()) for v in variables}


def digest(variables):
    lines = '\n'.join(sorted(f'{name} {list(shape)}' for name, shape in variables.items()))
    return [len(variables), hashlib.sha256(lines.encode()).hexdigest()]


def is_slow(net, axis, precision):
    place = list(NETS[net].axes).index(axis)
    return place >= len(QUICK) or precision not in QUICK[place]


def every_cell(*slow):
    """Cells of a test, of which those of these precisions are slow, too."""
    cells = []
    for name, cell in CELLS.items():
        marks = [pytest.mark.slow] if is_slow(*cell) or cell[-1] in slow else []
        cells.append(pytest.param(name, marks=marks))
    return pytest.mark.parametrize('cell', cells)


def test_every_network_has_a_row():
    assert sorted(NETS) == nets.names()


@every_cell('float')
def test_learning(cell, run):
    """The forward pass is finite, and every trained variable has a gradient that is finite and not
    zero everywhere.

    There is no weight decay, which reaches everything. Maps that no exit reads (``unread`` of a
    plan of MSDNet) would have no other gradient; the small one has none of them.

    By default every network learns at low bits, by two quantizers: what float has, these have, too.
    """
    model = Model(config(cell), data_format='NHWC')
    with TowerContext('', is_training=True):
        loss = model.build_graph(tf.constant(IMAGES), tf.constant(LABELS))
    trained = tf.trainable_variables()
    gradients = dict(zip(shapes(trained), tf.gradients(loss, trained)))
    assert gradients and [name for name, gradient in gradients.items() if gradient is None] == []
    values = numbers(shapes(trained)) | offsets(gradients)
    run([])
    for variable in trained:
        if variable.op.name in values:
            variable.load(values[variable.op.name], run.session)
    found, gradients = run([loss, gradients])
    assert np.isfinite(found)
    assert [name for name, gradient in gradients.items() if not np.isfinite(gradient).all()] == []
    assert [name for name, gradient in gradients.items() if not gradient.any()] == []


@every_cell('lsq4')
def test_inference(cell, run):
    """A frozen graph says at every point what the inference tower says; weaker points cost no more
    than stronger ones.

    Variables are those of the golden list.
    """
    model = Model(config(cell), data_format='NHWC')
    blocks = model.blocks(training=False)
    expected = outputs(model, tf.constant(IMAGES), blocks)
    variables = shapes(tf.global_variables())
    assert digest(variables) == json.loads(golden(CELLS[cell][-1]).read_text())[cell]
    check_costs(model.net.points, blocks.layers)
    run([])
    Restore(numbers(variables)).init(run.session)
    expected, values = run([expected, {v.op.name: v for v in tf.global_variables()}])

    def build():
        images = tf.placeholder(tf.uint8, [None, *IMAGES.shape[1:]])
        return [([images], list(outputs(model, images, model.blocks(training=False)).values()))]

    frozen = freeze.freeze(build, values)
    graph, (part,) = frozen.graph_def, frozen.signatures
    assert not [node for node in graph.node if 'Var' in node.op]
    found = run(tf.import_graph_def(graph, {part.feeds[0]: tf.constant(IMAGES)}, part.fetches))
    for name, logits in zip(expected, found):
        np.testing.assert_allclose(logits, expected[name], atol=1e-4, err_msg=name)


def outputs(model, images, blocks):
    return scored(model.net.outputs(model.views([images]), blocks))


def check_costs(points, layers):
    """Costs are positive; of two points that differ on one axis only, the weaker one costs less or,
    in memory, as much.
    """
    measures = (cost.madds, cost.bit_ops, cost.weight_bytes, cost.parameters, cost.activation_bytes)
    found = {
        point: [measure(cost.cumulative(layers, str(point))) for measure in measures]
        for point in points
    }
    assert {*map(str, points)} == set(layers) and min(map(min, found.values())) > 0
    for strong, weak in itertools.combinations(points, 2):
        if sum(getattr(strong, axis) != getattr(weak, axis) for axis in AXES) == 1:
            assert all(a >= b for a, b in zip(found[strong], found[weak])), (strong, weak)
            assert found[strong][:2] > found[weak][:2], (strong, weak)


def golden(precision):
    """File with the variables of the cells of a precision."""
    return GOLDEN / f'{precision}.json'


def main(precisions):
    with pytest.MonkeyPatch.context() as patch:
        make_shallow(patch)
        for precision in precisions or PRECISIONS:
            lines = []
            for cell, key in CELLS.items():
                if key[-1] == precision:
                    variables, _ = Model(config(cell), data_format='NHWC').inspect()
                    row = digest({name: state.shape for name, state in variables.items()})
                    lines.append(f'{json.dumps(cell)}: {json.dumps(row)}')
            golden(precision).write_text('{\n' + ',\n'.join(lines) + '\n}\n')


if __name__ == '__main__':
    main(sys.argv[1:])
