"""Dynamic slimmable network (DS-Net): many widths under one set of weights.

A gate can choose one of the widths for each image.

Reference: Dynamic Slimmable Network, CVPR 2021, https://arxiv.org/abs/2103.13258, and its published
code.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from nets import dsnet_losses, dsnet_passes, losses
from nets.backbones import slimmable as slimnets
from nets.dsnet_passes import Found, Passes
from nets.layers.blocks import Blocks
from nets.layers.routing import SCOPE
from nets.layers.width import Index
from nets.network import Network
from nets.outputs import Outputs
from nets.points import Point
from quant.backend import tf
from quant.options import check, option

STAGES = ('supernet', 'gate')


@dataclasses.dataclass(frozen=True)
class DSNetOptions:
    """Options of a dynamic slimmable network. Defaults are those of the published code and paper.

    Attributes:
        stage: what is trained; the second one has a gate.
        widths: those that are operating points; none stands for all, in stage ``gate`` for the
            routes.
        routes: ascending.
        sized: spell the size of operating points and statistics, as several sizes always are, for a
            single one too.
        ieb: in-place ensemble bootstrapping as in the paper: the smallest width learns from the
            mean prediction of the teacher at the largest width and at the two random ones (in the
            published code at two others, drawn anew). Without it, as in the released
            configurations, from the teacher at the largest width alone.
        inplace_bootstrap: without it, as with that setting of the published code, all widths learn
            from the labels, and from ``--teacher`` where there is one.
        faithful_gates: the published loss of the gate, a softmax of its softmax, and the published
            count of its multiply-adds, see ``nets.layers.routing.routed_madds``.
        gate_noise: by default the gate takes the largest logit at inference.
        target_madds: the penalty is max(0, mean / target - 1) ** 2; with 0 the published
            (mean / 1e9) ** 2.
        ema: of the weights, which teaches the network.
    """

    stage: str = option(
        'supernet',
        'supernet: all widths; gate: the choice of a width per image',
        choices=STAGES,
    )
    widths: tuple[int, ...] = option((), 'widths that are operating points', low=0, flag=False)
    routes: tuple[int, ...] = option(
        (0, 1, 2, 3), 'widths that the gate chooses from', low=0, count=2, metavar='WIDTH'
    )
    sized: bool = option(False, 'operating points spell their size', flag=False)
    ieb: bool = option(True, 'the smallest width learns from an ensemble')
    inplace_bootstrap: bool = option(
        True,
        'widths below the largest learn from the moving average of the network; off: as the '
        'largest, from the labels and from --teacher',
    )
    faithful_gates: bool = option(
        False, 'the published loss of the gate, and its count of its cost'
    )
    gate_noise: bool = option(
        False, 'with --eval: sample the gates, as the published code does', evaluation=True
    )
    complexity: float = option(0.5, 'weight of the penalty on multiply-adds', low=0)
    target_madds: float = option(
        0.0,
        'mean multiply-adds per image, such as 250M, up to which there is no penalty; 0: the '
        'published penalty',
        low=0,
        unit='multiply-adds',
        metavar='N',
    )
    smoothing: float = option(0.1, 'of labels', low=0, below=1)
    dropout: float = option(0.2, 'at the largest width', low=0, below=1)
    ema: float = option(0.997, 'decay of the moving average of the weights', low=0, below=1)


class DSNet(Network):
    """A slimmable network with one operating point per width (and input size).

    Widths 0 to 13 are the published ones. A MobileNetV1 has one more, 14: the largest network,
    which also has wide first stages and is the teacher; as an operating point it is not published.
    Here it has its own statistics in all layers; in the published code it shares those of width 13
    in the last two stages.

    Stage ``supernet`` trains the largest width, two random ones and the smallest on every batch.
    Stage ``gate`` has everything frozen but the gate, which takes the hidden units of a
    squeeze-excite.

    Args:
        arch: architecture of the backbone, see ``nets.backbones.slimmable``.
        mode: ``pytorch``.
        sizes: input sizes in pixels; statistics are private to each, everything else is shared.
        classes: number of classes.
        width: factor on all channel counts.
        options: of this kind of network; None for the defaults.

    Raises:
        ValueError: an option is out of its range, or a width or a route is none of the network's.
    """

    Options = DSNetOptions
    detachable = (SCOPE,)
    # Swish and attention are joined: 8 % of a step at 160 pixels.
    rewritten_above = 96

    def __init__(
        self,
        *,
        arch: str,
        mode: str,
        sizes: Sequence[int],
        classes: int,
        width: float = 1.0,
        options: DSNetOptions | None = None,
    ):
        options = options or DSNetOptions()
        check(options)
        if mode != 'pytorch':
            raise ValueError(f'mode {mode!r} is unknown to dsnet; there is pytorch')
        self.options = options
        self.stage = options.stage
        self.classes = classes
        self.backbone = slimnets.backbone(
            arch=arch, classes=classes, width=width, dropout=options.dropout
        )
        if self.gated and not self.backbone.hidden:
            raise ValueError(
                f'{arch} has no gate, as it has no squeeze-excite; '
                'use stage supernet, or mobilenetv1'
            )
        self.routes = tuple(options.routes)
        self.widths = self._widths(options)
        self._sized = options.sized or len(sizes) > 1
        points: list[Point] = []
        for size in sorted(sizes, reverse=True):
            points.extend(self.point(size, index) for index in self.widths)
        super().__init__(sizes, 'symmetric', points)
        if self.gated:
            self.accumulator_names = tuple(f'{self.key(size)}routes' for size in self.sizes)

    def _widths(self, options: DSNetOptions) -> list[int]:
        """The widths that are operating points, widest first.

        Raises:
            ValueError: the routes are none, or not among the widths.
        """
        _check('widths', options.widths, self.backbone.largest)
        _check('routes', options.routes, slimnets.WIDTHS - 1)
        routes = list(options.routes)
        if len(routes) < 2 or routes != sorted(set(routes)):
            raise ValueError(f'routes {routes} must be two or more widths, narrowest first')
        widths = set(range(self.backbone.largest + 1))
        if options.widths:
            widths = set(options.widths)
        elif self.gated:
            widths = set(routes)
        if self.gated and not set(routes) <= widths:
            raise ValueError(f'routes {routes} must be among the widths {sorted(widths)}')
        return sorted(widths, reverse=True)

    @property
    def gated(self) -> bool:
        """Whether a gate is trained, and nothing else."""
        return self.stage == 'gate'

    @property
    def loaded_points(self) -> tuple[Point, ...]:
        """All of a network with a gate: nothing but the gate is trained."""
        return self.points if self.gated else ()

    @property
    def dynamic_names(self) -> tuple[str, ...]:
        """The logits at the width that a gate chooses, one per size."""
        if not self.gated:
            return ()
        return tuple(f'{self.key(size)}dynamic' for size in self.sizes)

    @property
    def evaluation_options(self) -> Mapping[str, Any]:
        """The widths whose statistics training leaves in order."""
        return {} if self.gated else {'execution': 'ends'}

    @property
    def calibration_options(self) -> Mapping[str, Any]:
        """All widths."""
        return {'execution': 'points'}

    @property
    def dynamic_options(self) -> Mapping[str, Any]:
        """The chosen widths alone."""
        return {'execution': 'group'}

    @property
    def trained_points(self) -> tuple[Point, ...]:
        ends = self.routes if self.gated else (self.backbone.largest, 0)
        return tuple(point for point in self.points if point.width in ends)

    @property
    def head_madds(self) -> int:
        """Multiply-adds of the gate."""
        return self.backbone.hidden * len(self.routes)

    def point(self, size: int, index: int) -> Point:
        """The operating point of a width.

        Its size is spelled where the network has or had several.
        """
        return Point(size=size if self._sized else None, width=index)

    def outputs(
        self,
        views: Mapping[int, tf.Tensor],
        blocks: Blocks,
        *,
        execution: str | None = None,
        drawn: Sequence[Index] | None = None,
        noise: tf.Tensor | None = None,
        decisions: tf.Tensor | None = None,
    ) -> Outputs:
        """Logits of operating points, and extras.

        Extras of a training tower in stage ``supernet``: logits ``random1``, ``random2``, and the
        teacher's, ``teacher/largest`` ...; of a gate: logits ``dynamic`` at the chosen widths,
        ``route`` [N] (position in the routes), ``gate_logits`` [N, routes], ``madds`` [N] and
        ``noisy`` (gate logits with noise). Their names begin with ``s<size>-`` where there are
        several sizes.

        Args:
            views: float32 images by size, in the data format of ``blocks``.
            blocks: the tower's layer builder.
            execution: ``sandwich``: the four widths of a training step; ``points``: all operating
                points, and in stage ``gate`` the chosen widths, computed group by group; ``group``:
                the latter alone; ``ends``: the largest and the smallest width; ``mask``: the
                narrowest route, and the chosen widths by masks. None is ``points`` at inference,
                and in training ``sandwich`` or ``mask`` by stage. Calibration takes ``points`` of a
                training tower.
            drawn: the two random widths, in place of drawn ones.
            noise: [N, routes] to be added to the gate's logits in place of drawn Gumbel noise.
            decisions: [N] positions in the routes, in place of those of the gate.
        """
        if execution is None:
            of_training = 'mask' if self.gated else 'sandwich'
            execution = of_training if blocks.training else 'points'
        logits: dict[Point, tf.Tensor] = {}
        extras: dict[str, tf.Tensor] = {}
        for size in self.sizes:
            passes = Passes(self, views[size], blocks, size, noise=noise, decisions=decisions)
            if execution == 'sandwich':
                found, named = passes.sandwich(drawn or self._draw(blocks))
            else:
                found, named = self._inferred(passes, execution)
            for index, value in found.items():
                logits[self.point(size, index)] = value
            for name, value in named.items():
                extras[self.key(size) + name] = value
        return Outputs(logits, extras)

    def _inferred(self, passes: Passes, execution: str) -> Found:
        """The passes of all executions but ``sandwich``."""
        if execution == 'mask':
            return passes.masked()
        widths = {'points': self.widths, 'ends': [self.backbone.largest, 0], 'group': []}
        return passes.at(widths[execution])

    def _draw(self, b: Blocks) -> list[tf.Tensor]:
        """Two widths between the smallest and the largest."""
        last = min(self.backbone.largest - 1, slimnets.WIDTHS - 1)
        return tf.unstack(1 + tf.cast(b.uniform([2]) * last, tf.int32))

    @property
    def choosing(self) -> Mapping[str, int]:
        return dict(zip(self.dynamic_names, self.sizes))

    def chosen(
        self,
        size: int,
        views: Mapping[int, tf.Tensor],
        blocks: Blocks,
        thresholds: Sequence[float] = (),
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """As of ``Network.chosen``: the width of an image.

        Args:
            size: of the images that are used.
            views: float32 images by size.
            blocks: the layer builder, for inference.
            thresholds: by exit; of use to networks with exits alone.
        """
        passes = Passes(self, views[size], blocks, size, noise=None, decisions=None)
        logits, width = passes.chosen()
        return logits, {'width': width}

    def loss(self, outputs: Outputs, labels: losses.Labels) -> dict[str, tf.Tensor]:
        """Named scalar terms, whose sum is the training loss without weight decay."""
        return dsnet_losses.terms(self, outputs, labels)

    def accumulators(self, outputs: Outputs, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        """Sums over the batch that evaluation adds up.

        ``routes`` [classes, routes], how often each was chosen.
        """
        by_class = tf.one_hot(labels, self.classes)  # [N, classes]
        sums = {}
        for name in self.accumulator_names:
            route = outputs.extras[name.removesuffix('s')]
            chosen = tf.one_hot(route, len(self.routes))  # [N, routes]
            sums[name] = tf.matmul(by_class, chosen, transpose_a=True)
        return sums

    def teacher_pairs(self) -> list[tuple[tf.Variable, tf.Variable]]:
        """Variables of the teacher, each with the one whose moving average it is, of all towers."""
        return dsnet_passes.teacher_pairs()

    def key(self, size: int) -> str:
        """Start of the names that belong to a size."""
        return f's{size}-' if self._sized else ''


def _check(name: str, indices: Sequence[int], last: int) -> None:
    if wrong := [index for index in indices if not 0 <= index <= last]:
        raise ValueError(f'{name} {wrong[0]} is no width; there are 0 to {last}')
