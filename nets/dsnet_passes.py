"""The passes of a DS-Net: which of its widths are computed, and what they share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from nets.layers import routing
from nets.layers.blocks import Blocks
from nets.layers.choices import choice, executed
from nets.layers.gating import gumbel
from nets.layers.width import Index, Routing
from quant.backend import tf

if TYPE_CHECKING:
    from nets.dsnet import DSNet

# Variable scope of the moving average of the network that teaches it.
TEACHER = 'teacher'

# Logits [N, classes] by width, and extras by name.
Found: TypeAlias = 'tuple[dict[int, tf.Tensor], dict[str, tf.Tensor]]'


class Passes:
    """The passes of one tower at one input size.

    Args:
        net: the network.
        x: float32 images, in the data format of ``b``.
        b: the tower's layer builder.
        size: side of the images, pixels.
        noise: [N, routes] to be added to the gate's logits in place of drawn Gumbel noise.
        decisions: [N] positions in the routes, in place of those of the gate.
    """

    def __init__(
        self,
        net: DSNet,
        x: tf.Tensor,
        b: Blocks,
        size: int,
        *,
        noise: tf.Tensor | None,
        decisions: tf.Tensor | None,
    ):
        self._net = net
        self._x = x
        self._b = b
        self._size = size
        self._noise = noise
        self._decisions = decisions
        self._largest = net.backbone.largest

    def sandwich(self, drawn: Sequence[Index]) -> Found:
        """Largest, two random widths and smallest, in this order.

        The last three share what is the same for them.

        Args:
            drawn: the random widths.
        """
        middle = range(1, self._largest)
        wide = self._features(self._b, [self._largest], wide=True)
        strongest = self._logits(wide, self._b, self._largest, [self._largest])
        narrow = self._features(self._b, range(self._largest), passes=3)
        extras = {}
        for n, index in enumerate(drawn, 1):
            serves = middle if n == 1 else []
            extras[f'random{n}'] = self._logits(narrow, self._b, index, serves)
        smallest = self._logits(narrow, self._b, 0, [0])
        extras |= self._teacher(drawn)
        return {self._largest: strongest, 0: smallest}, extras

    def _teacher(self, drawn: Sequence[Index]) -> dict[str, tf.Tensor]:
        """Logits of the moving average, in inference mode, at the widths that are learned from."""
        found = {}
        with tf.variable_scope(TEACHER, custom_getter=_following):
            b = self._b.inference()
            wide = self._features(b, [], wide=True)
            found['largest'] = self._logits(wide, b, self._largest, [])
            if self._net.options.ieb:
                narrow = self._features(b, [])
                for n, index in enumerate(drawn, 1):
                    found[f'random{n}'] = self._logits(narrow, b, index, [])
        return {f'{TEACHER}/{name}': tf.stop_gradient(value) for name, value in found.items()}

    def at(self, widths: Sequence[int]) -> Found:
        """``widths``, and with a gate the chosen ones, each computed for its images alone."""
        found: dict[int, tf.Tensor] = {}
        if self._largest in widths:
            wide = self._features(self._b, [self._largest], wide=True)
            found[self._largest] = self._logits(wide, self._b, self._largest, [self._largest])
        uniform = [index for index in widths if index != self._largest]
        if not uniform and not self._net.gated:
            return found, {}
        narrow = self._features(self._b, uniform or self._net.routes)
        for index in uniform:
            found[index] = self._logits(narrow, self._b, index, [index])
        if not self._net.gated:
            return found, {}
        inputs, hidden = narrow
        extras = self._gate(hidden)
        runs = []
        for index in self._net.routes:
            serves = [] if uniform else [index]
            runs.append(self._route(index, serves))
        extras['dynamic'] = routing.grouped(extras['route'], inputs, runs, self._net.classes)
        extras['madds'] = self._madds(extras.pop('gate'))
        return found, extras

    def chosen(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Logits [N, classes] and width [N] by the gate's choice."""
        if not self._b.quantization.opaque:
            _, extras = self.at([])
            return extras['dynamic'], tf.gather(self._net.routes, extras['route'])
        narrow = self._features(self._b, self._net.routes)
        _, hidden = narrow
        number = tf.argmax(self._gate(hidden)['gate_logits'], axis=1)
        ways = {}
        # The widest first: what reads the graph finds kernels of the others in its kernels.
        for index in reversed(self._net.routes):
            ways[index] = self._logits(narrow, self._b, index, [index]), executed(index)
        return choice(number, [ways[index] for index in self._net.routes])

    def _route(self, index: int, serves: Sequence[int]) -> Callable[[tf.Tensor], tf.Tensor]:
        """The layers behind the gate at one width, as a function of what is in front of them."""
        return lambda part: self._logits((part, None), self._b, index, serves)

    def masked(self) -> Found:
        """The narrowest route without gradient, the chosen ones with the gradient of the gate."""
        routes, b = self._net.routes, self._b
        if b.training:
            b = b.inference()
        with tf.variable_scope(tf.get_variable_scope(), custom_getter=_frozen):
            narrow = self._features(b, routes)
            smallest = tf.stop_gradient(self._logits(narrow, b, routes[0], routes[:1]))
        _, hidden = narrow
        extras = self._gate(hidden)
        gate = extras.pop('gate')
        with tf.variable_scope(tf.get_variable_scope(), custom_getter=_frozen):
            extras['dynamic'] = self._logits(narrow, b, Routing(routes, gate), routes[1:])
        extras['madds'] = self._madds(gate)
        return {routes[0]: smallest}, extras

    def _gate(self, hidden: tf.Tensor) -> dict[str, tf.Tensor]:
        """Gate values [N, routes], logits with and without noise, and the route [N] of an image."""
        count = len(self._net.routes)
        with self._scope(self._b, 0, []):
            logits = routing.gate_logits(self._b, hidden, count)
        noisy = logits
        if self._noise is not None:
            noisy = logits + self._noise
        elif self._b.training or self._net.options.gate_noise:
            noisy = logits + gumbel(self._b.uniform(tf.shape(logits)))
        gate = routing.straight_through(noisy)
        if self._decisions is not None:
            gate = tf.one_hot(self._decisions, count)
        route = tf.argmax(gate, axis=1, output_type=tf.int32)
        return {'gate': gate, 'gate_logits': logits, 'noisy': noisy, 'route': route}

    def _madds(self, gate: tf.Tensor) -> tf.Tensor:
        """[N] multiply-adds of the images at gate values [N, routes]."""
        records = []
        for index in self._net.routes:
            point = self._net.point(self._size, index)
            records.append(self._b.layers[str(self._b.spelled(point))])
        published = self._net.options.faithful_gates
        return routing.routed_madds(gate, records, self._net.head_madds, published=published)

    def _features(
        self, b: Blocks, serves: Sequence[int], *, wide: bool = False, passes: int = 1
    ) -> Any:
        """The layers that widths share.

        Args:
            b: layer builder.
            serves: widths whose operating points take the result.
            wide: for the largest network.
            passes: how many passes of a step take the result.
        """
        index = self._largest if wide else 0
        with self._scope(b, index, serves):
            return self._net.backbone.features(self._x, b, wide=wide, passes=passes)

    def _logits(self, features: Any, b: Blocks, index: Index, serves: Sequence[int]) -> tf.Tensor:
        """[N, classes] of shared layers at a width that may be drawn or chosen.

        Args:
            features: result of ``_features``.
            b: layer builder.
            index: the width.
            serves: widths whose operating points take the result.
        """
        known = index if isinstance(index, int) else 0
        with self._scope(b, known, serves):
            return self._net.backbone.logits(features, b, index)

    def _scope(self, b: Blocks, index: int, serves: Sequence[int]) -> Any:
        """Layers of a width, which serve some operating points."""
        net = self._net
        # The largest width stands for the strongest point even where it is none: quantizers may
        # look at that alone.
        width = net.widths[0] if index == self._largest else index
        points = [net.point(self._size, other) for other in serves if other in net.widths]
        return b.at(net.point(self._size, width), serves=points)


def teacher_pairs() -> list[tuple[tf.Variable, tf.Variable]]:
    """Variables of the teacher, each with the one whose moving average it is, of all towers."""
    pairs, variables = [], _variables()
    for name, average in variables.items():
        followed = _without_teacher(name)
        if followed != name and followed in variables:
            pairs.append((average, variables[followed]))
    return pairs


def _without_teacher(name: str) -> str:
    return name.replace(f'{TEACHER}/', '', 1)


def _variables() -> dict[str, tf.Variable]:
    """Of all towers, by name: those of replicated towers but the first are local."""
    every = (*tf.global_variables(), *tf.local_variables())
    return {variable.op.name: variable for variable in every}


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
    """A variable that is not trained."""
    return getter(name, *args, **(kwargs | {'trainable': False}))
