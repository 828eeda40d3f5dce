"""ConvNet-AIG: a network with gates that decide which blocks an image needs.

A ResNet whose residual bodies are skipped image by image, with one operating point per input size.

Reference: Convolutional Networks with Adaptive Inference Graphs, ECCV 2018,
https://arxiv.org/abs/1711.11503.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from nets import losses
from nets.backbones.resnet import ResNet
from nets.layers.blocks import Blocks
from nets.layers.choices import choice, executed
from nets.layers.gating import (
    Body,
    gate_logits,
    gathered,
    gumbel,
    masked,
    skipping,
    skipping_identity,
    straight_through,
)
from nets.network import Network
from nets.outputs import Outputs
from nets.points import DYNAMIC, Point
from quant.backend import tf
from quant.options import check, option
from quant.state import declaring

RATE_LOSSES = ('batch', 'class')


@dataclasses.dataclass(frozen=True)
class AIGOptions:
    """Options of ConvNet-AIG. Defaults are those of the published code where it has them.

    Attributes:
        faithful_gates: by default blocks with target 1 have no gate and are always executed, as the
            paper says.
        rate_loss: ``batch``: squared difference of each block's rate in the batch from its target,
            as published; ``class``: the same within each class of the batch, as the paper
            describes.
        temperature: of the softmax that the gates' gradient comes from, at the start of training; 1
            throughout in the published code.
        last_temperature: at the end of training; exponential in between.
        gate_noise: by default gates take the larger logit at inference.
        train_skip: batch statistics then are those of the images that went through, and closed
            gates learn from the target rates only; the published code computes everything, its
            statistics see all images, and so does the gradient of a gate.
    """

    targets: tuple[float, ...] = option(
        (0.7,),
        'target execution rates of the blocks in their order, or one for all of them',
        low=0,
        high=1,
        count=1,
        metavar='RATE',
    )
    faithful_gates: bool = option(
        False, 'sample the gates of blocks with target 1 too, as the published code'
    )
    rate_loss: str = option(
        'batch', 'target rates hold over the batch (published) or per class', choices=RATE_LOSSES
    )
    rate_factor: float = option(1.0, 'weight of the target-rate loss', low=0)
    temperature: float = option(1.0, "of the gates' softmax", above=0)
    last_temperature: float = option(1.0, 'the same at the end of training', above=0)
    gate_noise: bool = option(
        False, 'with --eval: sample the gates, as the published code does', evaluation=True
    )
    train_skip: bool = option(False, 'skip closed bodies in training too')
    gate_lr: float = option(1.0, 'factor on the learning rate of gates', above=0)
    open_blocks: tuple[int, ...] = option(
        (), 'blocks whose gate was removed, always executed', low=0, flag=False
    )
    closed_blocks: tuple[int, ...] = option(
        (), 'blocks that were removed with their gate', low=0, flag=False
    )


class _Gating(NamedTuple):
    """The gates of a network in the making, at one input size.

    Attributes:
        gates: values [N] of the blocks so far.
        logits: [N, 2] of those that have a gate.
        pools: global pools of feature maps, by name of the map, that are known.
        decisions, noise, execution: as of ``AIG.outputs``.
    """

    gates: list[tf.Tensor]
    logits: list[tf.Tensor]
    pools: dict[str, tf.Tensor]
    decisions: tf.Tensor | None
    noise: tf.Tensor | None
    execution: str | None


class AIG(Network):
    """A gated ResNet.

    Args:
        arch: architecture of the ResNet.
        mode: ``pytorch``.
        sizes: input sizes in pixels; gates are shared by all, normalisation is private.
        classes: number of classes.
        width: factor on all channel counts.
        options: of this kind of network; None for the defaults.

    Raises:
        ValueError: the architecture is unknown, an option is out of its range, or the number of
            target rates is wrong.
    """

    Options = AIGOptions

    def __init__(
        self,
        *,
        arch: str,
        mode: str,
        sizes: Sequence[int],
        classes: int,
        width: float = 1.0,
        options: AIGOptions | None = None,
    ):
        options = options or AIGOptions()
        check(options)
        if mode != 'pytorch':
            raise ValueError(f'mode {mode!r} is unknown to aig; there is pytorch')
        self.backbone = ResNet(arch=arch, mode=mode, classes=classes, width=width)
        super().__init__(sizes, self.backbone.padding)
        self.blocks: list[str] = []
        for g, count in enumerate(self.backbone.form.blocks):
            self.blocks.extend(f'group{g}/block{i}' for i in range(count))
        self.targets = _targets(options.targets, len(self.blocks), arch)
        self.forced = [rate == 1 and not options.faithful_gates for rate in self.targets]
        if all(self.forced):
            raise ValueError('all targets are 1: no block has a gate; use --net rsnet')
        self.removed = set(options.closed_blocks)
        for index in (*options.open_blocks, *options.closed_blocks):
            if index >= len(self.blocks):
                raise ValueError(f'block {index} is none of the {len(self.blocks)} of {arch}')
        for index in options.open_blocks:
            self.forced[index] = True
        self.options = options
        self.classes = classes
        self.accumulator_names = ('images', *(f'executed_{point}' for point in self.points))

    @property
    def static_options(self) -> Mapping[str, Any]:
        return {'execution': 'all'}

    def outputs(
        self,
        views: Mapping[int, tf.Tensor],
        blocks: Blocks,
        *,
        decisions: tf.Tensor | None = None,
        noise: tf.Tensor | None = None,
        execution: str | None = None,
    ) -> Outputs:
        """Logits of every operating point, and the gates that led to them.

        Extras are ``gates/<point>`` [blocks, N] and ``gate_logits/<point>`` [gated blocks, N, 2],
        before noise.

        Args:
            views: float32 images by size, in the data format of ``blocks``.
            blocks: the tower's layer builder.
            decisions: [blocks, N] given gate values in place of the computed ones.
            noise: [blocks, N, 2], added to the gates' logits in place of drawn Gumbel noise.
            execution: ``skip`` computes a body for the images whose gate is open, ``mask`` for all,
                times the gate, ``all`` for all without a gate; None masks in training (unless
                ``train_skip``) and skips at inference.
        """
        if self.options.train_skip:
            # Bodies see another number of images in every step, and each would be compiled anew.
            blocks.quantization.compiles = False
        logits, extras = {}, {}
        for size, point in zip(self.sizes, self.points):
            gates: list[tf.Tensor] = []
            raw: list[tf.Tensor] = []
            gating = _Gating(gates, raw, {}, decisions, noise, execution)
            execute = functools.partial(self._execute, gating)
            with blocks.at(point):
                logits[point] = self.backbone.logits(views[size], blocks, execute=execute)
            extras[f'gates/{point}'] = tf.stack(gates)
            if raw:
                extras[f'gate_logits/{point}'] = tf.stack(raw)
        return Outputs(logits, extras)

    @property
    def choosing(self) -> Mapping[str, int]:
        return {f'{point}-{DYNAMIC}': size for size, point in zip(self.sizes, self.points)}

    def chosen(
        self,
        size: int,
        views: Mapping[int, tf.Tensor],
        blocks: Blocks,
        thresholds: Sequence[float] = (),
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """As of ``Network.chosen``: 1 for every block with a gate that was executed.

        Args:
            size: of the images that are used.
            views: float32 images by size.
            blocks: the layer builder, for inference.
            thresholds: by exit; of use to networks with exits alone.
        """
        gating = _Gating([], [], {}, None, None, None)
        execute = functools.partial(self._execute, gating)
        with blocks.at(Point(size=size)):
            logits = self.backbone.logits(views[size], blocks, execute=execute)
        gates = {}
        for index, gate in enumerate(gating.gates):
            if not self.forced[index] and index not in self.removed:
                gates[self.blocks[index]] = gate
        return logits, gates

    def settled(self, executed: Mapping[str, bool]) -> Mapping[str, Any]:
        """As of ``Network.settled``: blocks without a gate, or without a body."""
        options = self.options
        opened, closed = set(options.open_blocks), set(options.closed_blocks)
        for block, always in executed.items():
            kind = opened if always else closed
            kind.add(self.blocks.index(block))
        return {'open_blocks': tuple(sorted(opened)), 'closed_blocks': tuple(sorted(closed))}

    def loss(self, outputs: Outputs, labels: losses.Labels) -> dict[str, tf.Tensor]:
        """Named scalar terms: cross entropy and target-rate loss of every size."""
        parts = self.cross_entropies(outputs, labels)
        by_class = self.options.rate_loss == 'class'
        rate_loss = self.class_rate_loss if by_class else self.batch_rate_loss
        for point in outputs.logits:
            value = rate_loss(outputs.extras[f'gates/{point}'], losses.hard(labels))
            parts[f'loss/rates/{point}'] = self.options.rate_factor * value
        return parts

    def batch_rate_loss(self, gates: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Mean over the blocks of (target - rate in the batch)^2; 0 for blocks of target 1."""
        return self._rate_loss(tf.reduce_mean(gates, axis=1))

    def class_rate_loss(self, gates: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """The same for the images of each class, mean over the images of the batch."""
        same = tf.cast(tf.equal(labels[:, None], labels[None]), tf.float32)  # [N, N]
        rates = tf.matmul(gates, same) / tf.reduce_sum(same, axis=0)  # [blocks, N]
        return self._rate_loss(tf.transpose(rates))

    def accumulators(self, outputs: Outputs, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        """Sums over the batch that evaluation adds up.

        ``executed_<point>`` [classes, blocks] and ``images`` [classes].
        """
        one_hot = tf.one_hot(labels, self.classes)  # [N, classes]
        sums = {'images': tf.reduce_sum(one_hot, axis=0)}
        for point in outputs.logits:
            gates = outputs.extras[f'gates/{point}']  # [blocks, N]
            executed = tf.matmul(one_hot, gates, transpose_a=True, transpose_b=True)
            sums[f'executed_{point}'] = executed
        return sums

    def _rate_loss(self, rates: tf.Tensor) -> tf.Tensor:
        """Mean of (target - rate)^2 over ``rates`` [..., blocks]; 0 for blocks of target 1."""
        counted = tf.constant([float(rate < 1) for rate in self.targets])
        difference = tf.constant(self.targets) - rates
        return tf.reduce_mean(counted * tf.square(difference))

    def _execute(
        self,
        gating: _Gating,
        b: Blocks,
        x: tf.Tensor,
        q: tf.Tensor,
        body: Body,
        shortcut: tf.Tensor,
    ) -> tf.Tensor:
        """Output of one block.

        Args:
            gating: notes the gate, and the pool of the output where that takes less than pooling.
            b: the tower's layer builder.
            x: input of the block.
            q: the same as its convolutions take it.
            body: the layers that are executed or not.
            shortcut: ``x`` in the shape of the output.
        """
        index = len(gating.gates)
        if index in self.removed:
            gating.gates.append(tf.zeros([tf.shape(x)[0]]))
            return _skipped(x, shortcut)
        if self.forced[index] or gating.execution == 'all':
            gating.gates.append(tf.ones([tf.shape(x)[0]]))
            return tf.nn.relu(shortcut + body(q))
        pooled = gating.pools[x.name] if x.name in gating.pools else b.global_pool(x)
        gate = self._decide(gating, b, pooled, index)
        if b.quantization.opaque:
            ways = [(_skipped(x, shortcut), executed(0))]
            ways.append((tf.nn.relu(shortcut + body(q)), executed(1)))
            y, gating.gates[-1] = choice(tf.argmax(gating.logits[-1], axis=1), ways)
            return y
        with b.gated(self.blocks[index]):
            if self._masks(gating, b):
                return masked(gate, q, body, shortcut)
            if b.training:
                return gathered(gate, q, body, shortcut)
            if shortcut is not x:
                return skipping(gate, q, body, shortcut)
            y, pooled = skipping_identity(gate, q, body, x, pooled, b.global_pool)
            gating.pools[y.name] = pooled
            return y

    def _masks(self, gating: _Gating, b: Blocks) -> bool:
        """Whether bodies are computed for all images, and their results multiplied by the gates."""
        if gating.execution is None:
            return b.training and not self.options.train_skip
        return gating.execution == 'mask'

    def _decide(self, gating: _Gating, b: Blocks, pooled: tf.Tensor, index: int) -> tf.Tensor:
        """The gate of one block, float32 [N]; a given decision takes the place of its value.

        Args:
            gating: notes the gate and its logits.
            b: the tower's layer builder.
            pooled: [N, C], the input of the block.
            index: of the block.
        """
        with declaring(lr_factor=self.options.gate_lr):
            logits = gate_logits(b, pooled)
        gating.logits.append(logits)
        # A given decision comes no earlier than a computed one.
        with tf.control_dependencies([logits]):
            if gating.decisions is not None:
                gate = tf.identity(gating.decisions[index])
            elif gating.noise is not None:
                gate = self._gate(b, logits, gating.noise[index])
            else:
                gate = self._gate(b, logits, None)
        gating.gates.append(gate)
        return gate

    def _gate(self, b: Blocks, logits: tf.Tensor, noise: tf.Tensor | None) -> tf.Tensor:
        """[N] gate values from [N, 2] logits, and noise to be added to them."""
        if noise is not None:
            logits += noise
        elif b.training or self.options.gate_noise:
            logits += gumbel(b.uniform(tf.shape(logits)))
        first, last = self.options.temperature, self.options.last_temperature
        if first == last:
            return straight_through(logits, first)
        return straight_through(logits, first * (last / first) ** b.progress)


def _skipped(x: tf.Tensor, shortcut: tf.Tensor) -> tf.Tensor:
    """Output of a block without its body: a block's input ``x`` has been rectified already."""
    if shortcut is x:
        return x
    return tf.nn.relu(shortcut)


def _targets(targets: Sequence[float], blocks: int, arch: str) -> list[float]:
    """Target rate of every block, of one for all or of as many as there are blocks.

    Raises:
        ValueError: there is another number of rates.
    """
    rates = list(targets)
    if len(rates) == 1:
        rates *= blocks
    if len(rates) != blocks:
        raise ValueError(
            f'{len(rates)} target rates for the {blocks} blocks of {arch}; '
            'give one, or one per block'
        )
    return [float(rate) for rate in rates]
