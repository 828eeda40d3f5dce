"""Batch normalisation of slimmable layers: every width has statistics of its own.

Reference: Dynamic Slimmable Network, CVPR 2021, https://arxiv.org/abs/2103.13258; arithmetic as the
published code.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from nets.layers.blocks import Blocks
from nets.layers.norm import BN_EPSILON, BN_MOMENTUM, Averages, Normalised
from nets.layers.width import Routing, Width
from nets.points import Point
from quant.backend import tf
from quant.state import Kind, declare


def norm(b: Blocks, name: str, x: tf.Tensor, width: Width) -> tf.Tensor:
    """Batch normalisation: affine parameters shared by all widths, statistics private to each.

    A step moves the averages once per pass, in the order in which the passes were built. Image by
    image the stored statistics are mixed by the gate (inference mode only).

    *Variable names*: ``gamma``, ``beta`` [C]; ``mean/EMA``, ``variance/EMA`` [choices, C], below
    ``s<size>``, ``s<size>-b<bits>`` where a network has several sizes or precisions.

    Args:
        b: the tower's layer builder.
        name: variable scope of the layer.
        x: images with the active channels of ``width``.
        width: of ``x``.
    """
    point = str(dataclasses.replace(b.point, width=None))
    ones = tf.ones_initializer()
    zeros = tf.zeros_initializer()
    with tf.variable_scope(name):
        gamma = width.first(_affine('gamma', width, ones))
        beta = width.first(_affine('beta', width, zeros))
        tables = [_table('mean', point, width, zeros), _table('variance', point, width, ones)]
        if isinstance(width.index, Routing):
            return _routed_norm(b, x, width, tables, gamma, beta)
        rows = [width.row(table) for table in tables]
        y, *batch = b.normalise(x, gamma, beta, *rows)
        if b.training:
            owner = f'{b.quantization.current}/{point}'.rstrip('/')
            _keep_statistics(b, owner, width, tables, batch, x)
            _move_averages(b, width, tables, batch)
    return y


def _affine(name: str, width: Width, start: Any) -> tf.Tensor:
    """[C] an affine parameter that all widths share."""
    return tf.convert_to_tensor(tf.get_variable(name, [width.full], initializer=start))


def _table(part: str, point: str, width: Width, start: Any) -> tf.Variable:
    """[choices, C] moving averages of all widths.

    Args:
        part: ``mean`` or ``variance``.
        point: spelling of size and precision where a network has several, else empty.
        width: of the layer.
        start: initializer.
    """
    shape = [len(width.choices), width.full]
    name = f'{point}/{part}/EMA'.lstrip('/')
    table = tf.get_variable(name, shape, initializer=start, trainable=False)
    declare(table, Kind.MOVING, point=point)
    return table


def _routed_norm(
    b: Blocks,
    x: tf.Tensor,
    width: Width,
    tables: list[tf.Variable],
    gamma: tf.Tensor,
    beta: tf.Tensor,
) -> tf.Tensor:
    """Normalisation by stored statistics that the gate mixes image by image.

    Args:
        b: the tower's layer builder.
        x: images.
        width: of ``x``, chosen by the gate.
        tables: means and variances [choices, C].
        gamma: [C].
        beta: [C].
    """
    means, variances = tables
    mean = b.per_channel(width.row(means), x)
    variance = b.per_channel(width.row(variances), x)
    scale = b.per_channel(gamma[None], x)
    shift = b.per_channel(beta[None], x)
    centred = tf.cast(x, mean.dtype) - mean
    y = centred * tf.rsqrt(variance + BN_EPSILON) * scale + shift
    return width.masked(b, tf.cast(y, x.dtype))


def _keep_statistics(
    b: Blocks,
    scope: str,
    width: Width,
    tables: list[tf.Variable],
    batch: list[tf.Tensor],
    x: tf.Tensor,
) -> None:
    """Keeps the batch statistics of a width that is known.

    Args:
        b: the tower's layer builder.
        scope: of the normalisation, with size and precision where there are several.
        width: of ``x``.
        tables: moving averages of mean and variance [choices, C].
        batch: mean and variance [active channels].
        x: images.
    """
    if not isinstance(width.index, int):
        return
    mean, variance = batch
    name = f'{scope}/{Point(width=width.index)}'
    b.normalised[name] = Normalised(mean, variance, x, width.active)
    means, variances = tables
    b.averages[name] = Averages(means.op.name, variances.op.name, width.index)


def _move_averages(
    b: Blocks, width: Width, tables: list[tf.Variable], batch: list[tf.Tensor]
) -> None:
    """Moves the averages of the main tower toward the values of this batch.

    Args:
        b: the tower's layer builder.
        width: whose row of the tables moves.
        tables: means and variances [choices, C].
        batch: mean and variance [active channels].
    """
    if not b.main:
        return
    for table, value in zip(tables, batch):
        before = [b.updates[table.name]] if table.name in b.updates else []
        with tf.control_dependencies(before):
            step = (width.row(table) - value) * (1 - BN_MOMENTUM**width.passes)
            padded = tf.pad(step, [[0, width.full - width.active]])
            update = tf.raw_ops.ResourceScatterSub(
                resource=table.handle, indices=width.index, updates=padded
            )
        b.updates[table.name] = update
        tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, update)
