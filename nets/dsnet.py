"""Dynamic slimmable network (DS-Net).

One network of many widths, and a gate that chooses one image by image.

Reference: Dynamic Slimmable Network, CVPR 2021, https://arxiv.org/abs/2103.13258, and its published
code.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nets import losses
from nets.backbones import slimmable as slimnets
from nets.layers import routing as dsnet_gate
from nets.layers.blocks import Blocks, Outputs
from nets.layers.gating import gumbel
from nets.layers.width import Index, Routing
from nets.network import Network
from nets.points import Point
from quant.backend import tf
from quant.options import check, option

STAGES = ('supernet', 'gate')

# Variable scope of the moving average of the network that teaches it.
TEACHER = 'teacher'


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
    detachable = (dsnet_gate.SCOPE,)

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
        points = [
            self.point(size, index) for size in sorted(sizes, reverse=True) for index in self.widths
        ]
        super().__init__(sizes, 'symmetric', points)
        if self.gated:
            self.accumulator_names = tuple(f'{self.key(size)}routes' for size in self.sizes)

    def _widths(self, options: DSNetOptions) -> list[int]:
        """The widths that are operating points, widest first."""
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

        Whose names begin with ``s<size>-`` where there are several sizes.

        Extras of a training tower in stage ``supernet``: logits ``random1``, ``random2``, and the
            teacher's,
        ``teacher/largest`` ...; of a gate: logits ``dynamic`` at the chosen widths, ``route`` [N]
        (position in the routes), ``gate_logits`` [N, routes], ``madds`` [N], and if masked
        ``noisy`` (gate logits with noise).

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
            execution = (
                {'supernet': 'sandwich', 'gate': 'mask'}[self.stage]
                if blocks.training
                else 'points'
            )
        builders: dict[
            str,
            Callable[[tf.Tensor, Blocks, int], tuple[dict[int, tf.Tensor], dict[str, tf.Tensor]]],
        ] = {
            'sandwich': lambda x, b, size: self._sandwich(x, b, size, drawn or self._draw(b)),
            'points': lambda x, b, size: self._every(x, b, size, noise, decisions, self.widths),
            'ends': lambda x, b, size: self._every(
                x, b, size, noise, decisions, (self.backbone.largest, 0)
            ),
            'group': lambda x, b, size: self._every(x, b, size, noise, decisions, ()),
            'mask': lambda x, b, size: self._masked(x, b, size, noise, decisions),
        }
        logits: dict[Point, tf.Tensor] = {}
        extras: dict[str, tf.Tensor] = {}
        for size in self.sizes:
            found, named = builders[execution](views[size], blocks, size)
            logits |= {self.point(size, index): value for index, value in found.items()}
            extras |= {self.key(size) + name: value for name, value in named.items()}
        return Outputs(logits, extras)

    def loss(self, outputs: Outputs, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        """Named scalar terms, whose sum is the training loss without weight decay."""
        terms = self._gate_terms if self.stage == 'gate' else self._sandwich_terms
        return {
            f'loss/{self.key(size)}{name}': value
            for size in self.sizes
            for name, value in terms(outputs, size, labels).items()
        }

    def accumulators(self, outputs: Outputs, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        """Sums over the batch that evaluation adds up.

        ``routes`` [classes, routes], how often each was chosen.
        """
        by_class = tf.one_hot(labels, self.classes)
        return {
            name: tf.matmul(
                by_class,
                tf.one_hot(outputs.extras[name.removesuffix('s')], len(self.routes)),
                transpose_a=True,
            )
            for name in self.accumulator_names
        }

    def teacher_pairs(self) -> list[tuple[tf.Variable, tf.Variable]]:
        """Variables of the teacher, each with the one whose moving average it is, of all towers."""
        variables = _variables()
        return [
            (variable, variables[_without_teacher(name)])
            for name, variable in variables.items()
            if f'{TEACHER}/' in name and _without_teacher(name) in variables
        ]

    def key(self, size: int) -> str:
        """Start of the names that belong to a size."""
        return f's{size}-' if self._sized else ''

    def _draw(self, b: Blocks) -> list[tf.Tensor]:
        """Two widths between the smallest and the largest."""
        last = min(self.backbone.largest - 1, slimnets.WIDTHS - 1)
        return tf.unstack(1 + tf.cast(b.uniform([2]) * last, tf.int32))

    def _features(
        self,
        x: tf.Tensor,
        b: Blocks,
        size: int,
        serves: Sequence[int],
        *,
        wide: bool = False,
        passes: int = 1,
    ) -> Any:
        with self._at(b, size, self.backbone.largest if wide else 0, serves):
            return self.backbone.features(x, b, wide=wide, passes=passes)

    def _logits(
        self, features: Any, b: Blocks, size: int, index: Index, serves: Sequence[int]
    ) -> tf.Tensor:
        with self._at(b, size, index if isinstance(index, int) else 0, serves):
            return self.backbone.logits(features, b, index)

    def _at(self, b: Blocks, size: int, index: int, serves: Sequence[int]) -> Any:
        # The largest width stands for the strongest point even where it is none: quantizers may
        # look at that alone.
        point = self.point(size, self.widths[0] if index == self.backbone.largest else index)
        return b.at(
            point, serves=[self.point(size, other) for other in serves if other in self.widths]
        )

    def _sandwich(
        self, x: tf.Tensor, b: Blocks, size: int, drawn: Sequence[Index]
    ) -> tuple[dict[int, tf.Tensor], dict[str, tf.Tensor]]:
        """Largest, two random widths and smallest, in this order.

        The last three share what is the same for them.
        """
        largest = self.backbone.largest
        middle = range(1, largest)
        wide = self._features(x, b, size, [largest], wide=True)
        strongest = self._logits(wide, b, size, largest, [largest])
        narrow = self._features(x, b, size, range(largest), passes=3)
        students = {
            f'random{n}': self._logits(narrow, b, size, index, [] if n > 1 else middle)
            for n, index in enumerate(drawn, 1)
        }
        smallest = self._logits(narrow, b, size, 0, [0])
        teacher = {
            f'{TEACHER}/{name}': value for name, value in self._teacher(x, b, size, drawn).items()
        }
        return {largest: strongest, 0: smallest}, students | teacher

    def _teacher(
        self, x: tf.Tensor, blocks: Blocks, size: int, drawn: Sequence[Index]
    ) -> dict[str, tf.Tensor]:
        """Logits of the moving average of the network, in inference mode.

        At the widths that are learned from.
        """
        with tf.variable_scope(TEACHER, custom_getter=_following):
            b, largest = blocks.inference(), self.backbone.largest
            found = {
                'largest': self._logits(
                    self._features(x, b, size, [], wide=True), b, size, largest, []
                )
            }
            if self.options.ieb:
                narrow = self._features(x, b, size, [])
                found |= {
                    f'random{n}': self._logits(narrow, b, size, index, [])
                    for n, index in enumerate(drawn, 1)
                }
        return {name: tf.stop_gradient(value) for name, value in found.items()}

    def _every(
        self,
        x: tf.Tensor,
        b: Blocks,
        size: int,
        noise: tf.Tensor | None,
        decisions: tf.Tensor | None,
        widths: Sequence[int],
    ) -> tuple[dict[int, tf.Tensor], dict[str, tf.Tensor]]:
        """``widths``, and with a gate the chosen ones.

        Of which each is computed for its images alone.
        """
        largest, found = self.backbone.largest, {}
        if largest in widths:
            found[largest] = self._logits(
                self._features(x, b, size, [largest], wide=True), b, size, largest, [largest]
            )
        uniform = [index for index in widths if index != largest]
        gated = self.stage == 'gate'
        if not uniform and not gated:
            return found, {}
        narrow = self._features(x, b, size, uniform or self.routes)
        found |= {index: self._logits(narrow, b, size, index, [index]) for index in uniform}
        if not gated:
            return found, {}
        extras = self._gate(narrow[1], b, size, noise, decisions)
        runs = [
            lambda part, index=index: self._logits(
                (part, None), b, size, index, [] if uniform else [index]
            )
            for index in self.routes
        ]
        extras['dynamic'] = dsnet_gate.grouped(extras['route'], narrow[0], runs, self.classes)
        extras['madds'] = self._madds(extras.pop('gate'), b, size)
        return found, extras

    def _masked(
        self,
        x: tf.Tensor,
        blocks: Blocks,
        size: int,
        noise: tf.Tensor | None,
        decisions: tf.Tensor | None,
    ) -> tuple[dict[int, tf.Tensor], dict[str, tf.Tensor]]:
        """The narrowest route without gradient.

        And the chosen ones with the gradient of the gate.
        """
        with tf.variable_scope(tf.get_variable_scope(), custom_getter=_frozen):
            b = blocks.inference() if blocks.training else blocks
            narrow = self._features(x, b, size, self.routes)
            smallest = tf.stop_gradient(
                self._logits(narrow, b, size, self.routes[0], self.routes[:1])
            )
        extras = self._gate(narrow[1], blocks, size, noise, decisions)
        with tf.variable_scope(tf.get_variable_scope(), custom_getter=_frozen):
            routing = Routing(self.routes, extras['gate'])
            extras['dynamic'] = self._logits(narrow, b, size, routing, self.routes[1:])
        extras['madds'] = self._madds(extras.pop('gate'), b, size)
        return {self.routes[0]: smallest}, extras

    def _gate(
        self,
        hidden: tf.Tensor,
        b: Blocks,
        size: int,
        noise: tf.Tensor | None,
        decisions: tf.Tensor | None,
    ) -> dict[str, tf.Tensor]:
        with self._at(b, size, 0, []):
            logits = dsnet_gate.gate_logits(b, hidden, len(self.routes))
        noisy = logits
        if noise is not None:
            noisy = logits + noise
        elif b.training or self.options.gate_noise:
            noisy = logits + gumbel(b.uniform(tf.shape(logits)))
        gate = dsnet_gate.straight_through(noisy)
        if decisions is not None:
            gate = tf.one_hot(decisions, len(self.routes))
        return {
            'gate': gate,
            'gate_logits': logits,
            'noisy': noisy,
            'route': tf.argmax(gate, axis=1, output_type=tf.int32),
        }

    def _madds(self, gate: tf.Tensor, b: Blocks, size: int) -> tf.Tensor:
        routes = [b.layers[str(self.point(size, index))] for index in self.routes]
        return dsnet_gate.routed_madds(
            gate, routes, self.head_madds, published=self.options.faithful_gates
        )

    def _sandwich_terms(
        self, outputs: Outputs, size: int, labels: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        logits, largest = outputs.logits, self.point(size, self.backbone.largest)
        extras = {
            name.removeprefix(self.key(size)): value
            for name, value in outputs.extras.items()
            if name.startswith(self.key(size))
        }
        teacher = extras[f'{TEACHER}/largest']
        members = [value for name, value in extras.items() if name.startswith(f'{TEACHER}/')]
        target = tf.add_n([tf.nn.softmax(value) for value in members]) / len(members)
        return {
            'largest': _smoothed(logits[largest], labels, self.options.smoothing),
            'random1': losses.soft_cross_entropy(teacher, extras['random1']),
            'random2': losses.soft_cross_entropy(teacher, extras['random2']),
            'smallest': _cross_entropy(logits[self.point(size, 0)], target),
        }

    def _gate_terms(self, outputs: Outputs, size: int, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        """An image that the narrowest route gets right should take it, any other the widest one."""
        extras, key = outputs.extras, self.key(size)
        easy = tf.nn.in_top_k(outputs.logits[self.point(size, self.routes[0])], labels, 1)
        wanted = tf.where_v2(easy, 0, len(self.routes) - 1)
        noisy, mean = extras[f'{key}noisy'], tf.reduce_mean(extras[f'{key}madds'])
        options = self.options
        excess = mean / 1e9
        if options.target_madds:
            excess = tf.nn.relu(mean / options.target_madds - 1)
        if options.faithful_gates:
            noisy = tf.nn.softmax(noisy)
        return {
            'gate': _smoothed(noisy, wanted, options.smoothing),
            'dynamic': _smoothed(extras[f'{key}dynamic'], labels, options.smoothing),
            'complexity': options.complexity * tf.square(excess),
        }


def _check(name: str, indices: Sequence[int], last: int) -> None:
    if wrong := [index for index in indices if not 0 <= index <= last]:
        raise ValueError(f'{name} {wrong[0]} is no width; there are 0 to {last}')


def _cross_entropy(logits: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """Batch mean of the cross entropy with probabilities [N, classes]."""
    return tf.reduce_mean(
        tf.nn.softmax_cross_entropy_with_logits_v2(labels=tf.stop_gradient(target), logits=logits)
    )


def _smoothed(logits: tf.Tensor, labels: tf.Tensor, smoothing: float) -> tf.Tensor:
    """Batch mean of the cross entropy with labels of which the share ``smoothing`` is spread over
    all classes.
    """
    classes = logits.shape[1]
    return _cross_entropy(
        logits, (1 - smoothing) * tf.one_hot(labels, classes) + smoothing / classes
    )


def _without_teacher(name: str) -> str:
    return name.replace(f'{TEACHER}/', '', 1)


def _variables() -> dict[str, tf.Variable]:
    """Of all towers, by name: those of replicated towers but the first are local."""
    return {
        variable.op.name: variable for variable in (*tf.global_variables(), *tf.local_variables())
    }


def _following(
    getter: Callable[..., tf.Variable], name: str, *args: Any, **kwargs: Any
) -> tf.Variable:
    """A variable of the teacher: not trained, and starting where the one that it follows starts."""
    followed = _variables()[_without_teacher(name)]
    kwargs |= {'trainable': False, 'initializer': lambda *_, **__: followed.initial_value}
    return getter(name, *args, **kwargs)


def _frozen(
    getter: Callable[..., tf.Variable], name: str, *args: Any, **kwargs: Any
) -> tf.Variable:
    return getter(name, *args, **(kwargs | {'trainable': False}))
