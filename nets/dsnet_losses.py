"""Losses of a DS-Net: the terms of its two stages, by the names that training reports.

Reference: Dynamic Slimmable Network, CVPR 2021, https://arxiv.org/abs/2103.13258, and its published
code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from nets import losses
from nets.dsnet_passes import TEACHER
from nets.network import counted_labels
from nets.outputs import Outputs
from nets.points import Point
from quant.backend import tf

if TYPE_CHECKING:
    from nets.dsnet import DSNet


def terms(net: DSNet, outputs: Outputs, labels: losses.Labels) -> dict[str, tf.Tensor]:
    """Named scalar terms, whose sum is the training loss without weight decay.

    Args:
        net: the network.
        outputs: of a training tower.
        labels: of its images.
    """
    of_size = _gate_terms if net.gated else _sandwich_terms
    counted = counted_labels(outputs, _labelled(net, outputs), labels)
    parts = {}
    for size in net.sizes:
        found = of_size(net, outputs, size, labels, counted[Point(size=size)])
        for name, value in found.items():
            parts[f'loss/{net.key(size)}{name}'] = value
    return parts


def _labelled(net: DSNet, outputs: Outputs) -> dict[Point, tf.Tensor]:
    """Logits that learn from the labels, by size: of the largest width, or as gates choose."""
    found = {}
    for size in net.sizes:
        if net.gated:
            logits = outputs.extras[f'{net.key(size)}dynamic']
        else:
            logits = outputs.logits[net.point(size, net.backbone.largest)]
        found[Point(size=size)] = logits
    return found


def _sandwich_terms(
    net: DSNet, outputs: Outputs, size: int, labels: losses.Labels, counted: losses.Labels
) -> dict[str, tf.Tensor]:
    """The largest width learns from the labels, the others from the moving average or as it.

    Another network that teaches does so at every width.

    Args:
        net: the network.
        outputs: of the tower.
        size: of the images.
        labels: of the images.
        counted: the same as they count at this size.
    """
    key = net.key(size)
    passes = {'largest': outputs.logits[net.point(size, net.backbone.largest)]}
    for name in ('random1', 'random2'):
        passes[name] = outputs.extras[f'{key}{name}']
    passes['smallest'] = outputs.logits[net.point(size, 0)]
    targets: dict[str, tf.Tensor] = {}
    if net.options.inplace_bootstrap:
        targets = _bootstrapped(outputs.extras, key)
    found = {}
    weights = losses.weights_of(labels)
    for name, logits in passes.items():
        if name in targets:
            loss = losses.target_cross_entropy(targets[name], logits, weights)
            found[name] = outputs.teaching.added(loss, logits, weights)
        else:
            by_labels = _smoothed(logits, counted, net.options.smoothing)
            found[name] = outputs.teaching.joined(by_labels, logits, weights)
    return found


def _gate_terms(
    net: DSNet, outputs: Outputs, size: int, labels: losses.Labels, counted: losses.Labels
) -> dict[str, tf.Tensor]:
    """An image that the narrowest route gets right should take it, any other the widest one.

    Args:
        net: the network.
        outputs: of the tower.
        size: of the images.
        labels: of the images.
        counted: the same as they count at this size.
    """
    options, extras, key = net.options, outputs.extras, net.key(size)
    narrowest = outputs.logits[net.point(size, net.routes[0])]
    easy = tf.nn.in_top_k(narrowest, losses.hard(labels), 1)  # [N]
    wanted: losses.Labels = tf.where_v2(easy, 0, len(net.routes) - 1)
    weights = losses.weights_of(labels)
    if weights is not None:
        wanted = losses.WeightedLabels(wanted, weights)
    noisy = extras[f'{key}noisy']
    if options.faithful_gates:
        noisy = tf.nn.softmax(noisy)
    dynamic = extras[f'{key}dynamic']
    by_labels = _smoothed(dynamic, counted, options.smoothing)
    mean = tf.reduce_mean(extras[f'{key}madds'])
    excess = mean / 1e9
    if options.target_madds:
        excess = tf.nn.relu(mean / options.target_madds - 1)
    return {
        'gate': _smoothed(noisy, wanted, options.smoothing),
        'dynamic': outputs.teaching.joined(by_labels, dynamic, weights),
        'complexity': options.complexity * tf.square(excess),
    }


def _bootstrapped(extras: Mapping[str, tf.Tensor], key: str) -> dict[str, tf.Tensor]:
    """Answers of the moving average that passes below the largest width learn, [N, classes] each.

    Args:
        extras: of a training tower.
        key: start of the names of the input size.
    """
    largest = tf.nn.softmax(extras[f'{key}{TEACHER}/largest'])
    predictions = []
    for name, value in extras.items():
        if name.startswith(f'{key}{TEACHER}/'):
            predictions.append(tf.nn.softmax(value))
    ensemble = tf.add_n(predictions) / len(predictions)
    return {'random1': largest, 'random2': largest, 'smallest': ensemble}


def _smoothed(logits: tf.Tensor, labels: losses.Labels, smoothing: float) -> tf.Tensor:
    """Batch mean of the cross entropy with smoothed labels.

    The share ``smoothing`` of a label is spread over all classes.
    """
    classes = logits.shape[1]
    target = (1 - smoothing) * losses.one_hot(labels, classes) + smoothing / classes
    return losses.target_cross_entropy(target, logits, losses.weights_of(labels))
