"""Our networks in the default graph, with their variables filled from a fixture."""

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

import nets
from engine.data.preprocess import views
from engine.data.preprocessing import Preprocessing
from engine.importers.rsnet import from_published
from nets.layers.blocks import Blocks
from nets.outputs import Outputs
from nets.rsnet import RSNet
from quant import Policy, low_bit
from quant.backend import tf
from tests.parity.fixtures import Fixture, fill

# What training adds beside the model and what starts from its own initial value.
FRESH = ('/Momentum', '/basis/biased', '/basis/local_step')

tf.get_logger().setLevel(logging.ERROR)


@dataclasses.dataclass(frozen=True)
class Tower:
    """One tower of a published configuration.

    Attributes:
        net: The network.
        blocks: Its layer builder, with kernels and quantizers.
        images: uint8 placeholder.
        outputs: What the network computes.
        logits: The same logits by their published key, ``logits_096`` or ``logits_ensemble``.
    """

    net: RSNet
    blocks: Blocks
    images: tf.Tensor
    outputs: Outputs
    logits: dict[str, tf.Tensor]


def activation_bits(model: Mapping[str, Any]) -> int:
    """Bits of the activations.

    The published code keeps them float in mode ``resnet`` whatever ``qa`` says.
    """
    return 32 if model['mode'] == 'resnet' else model['qa']


def policy(model: Mapping[str, Any]) -> Policy:
    """Quantizers of a published configuration."""
    both = model['qw'], activation_bits(model)
    weight, activation = ('float' if bits >= 32 else f'lq(bits={bits})' for bits in both)
    return low_bit(weight, activation)


def build(
    model: Mapping[str, Any], classes: int, images: tuple[int, ...], *, training: bool
) -> Tower:
    """Builds the network of a published configuration.

    Args:
        model: ``model`` of a fixture.
        classes: number of classes.
        images: shape of the uint8 batch.
        training: batch statistics, and statistics for the quantizers.
    """
    net = nets.create(
        'rsnet',
        arch=f'resnet{model["depth"]}',
        mode=model['mode'],
        sizes=model['sizes'],
        classes=classes,
        kd=model['kd'],
    )
    blocks = Blocks(policy(model), net.points, training=training, padding=net.padding)
    batch = tf.placeholder(tf.uint8, images)
    preprocessing = Preprocessing(
        'area_crop', images[1], tuple(model['sizes']), 'nearest', 'normalized_bgr'
    )
    inputs = views([batch], preprocessing, 'NHWC')
    outputs = net.outputs(inputs, blocks)
    logits = {f'logits_{point.size:03d}': value for point, value in outputs.logits.items()}
    logits.update({f'logits_{name}': value for name, value in outputs.extras.items()})
    return Tower(net, blocks, batch, outputs, logits)


def published_values(fixture: Fixture) -> dict[str, np.ndarray]:
    """Filled tensors of a fixture by our name.

    Raises:
        ValueError: a tensor is no part of the model, or two have one name.
    """
    values: dict[str, np.ndarray] = {}
    for tensor in fixture.tensors():
        name = from_published(tensor['name'])
        if name is None or name in values:
            raise ValueError(
                f'tensor {tensor["name"]} maps to {name}'
                + (', as another one does' if name else '')
            )
        values[name] = fill(tensor)
    return values


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """What differs between two sets of variables, given by name and shape."""
    missing, surplus = sorted(set(ours) - set(theirs)), sorted(set(theirs) - set(ours))
    unequal = [
        f'{name} ({list(ours[name])}, published {list(theirs[name])})'
        for name in sorted(set(ours) & set(theirs))
        if list(ours[name]) != list(theirs[name])
    ]
    kinds = {'the fixture lacks': missing, 'we lack': surplus, 'other shapes': unequal}
    return [f'{kind}: {_some(names)}' for kind, names in kinds.items() if names]


def _some(names: list[str]) -> str:
    return ', '.join(names[:8]) + (f' and {len(names) - 8} more' if len(names) > 8 else '')


def restore(session: tf.Session, values: Mapping[str, np.ndarray]) -> None:
    """Gives every variable of the graph its value, in one run.

    What training adds gets its initial value.

    Raises:
        ValueError: a variable of the model has no value, a value no variable, or a shape differs.
    """
    variables = {variable.op.name: variable for variable in tf.global_variables()}
    model = {
        name: variable.shape.as_list()
        for name, variable in variables.items()
        if not name.endswith(FRESH)
    }
    wrong = differences(model, {name: value.shape for name, value in values.items()})
    if wrong:
        raise ValueError('; '.join(wrong))
    feed = {variables[name].initializer.inputs[1]: value for name, value in values.items()}
    session.run([variable.initializer for variable in variables.values()], feed)


def classes(fixture: Fixture, values: Mapping[str, np.ndarray]) -> int:
    """Number of classes, read from the classifier where the fixture does not say it."""
    return fixture.data['model'].get('num_classes') or values['linear/b'].size
