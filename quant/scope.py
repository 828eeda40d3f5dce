"""Quantizers of one tower: where a network meets its policy, and where statistics are kept."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from quant.backend import tf
from quant.native import used, using
from quant.policy import Policy
from quant.quantizer import Activations, Codebook, InitStd, Quantizer, Weights
from quant.state import Kind, declare


class Collected(NamedTuple):
    """Sufficient statistics of one tower for one variable.

    Attributes:
        quantizer: that refits the variable.
        variable: of this tower.
        statistics: one row per tensor that the variable codes. A row is a named tuple with
            ``table``, float64, which adds up over rows; ``same``, whether all towers have the same
            one; and ``read``, the variable as this tower reads it.
    """

    quantizer: Quantizer
    variable: tf.Variable
    statistics: list[Any]


class Start(NamedTuple):
    """How a variable of one tower starts from a first batch.

    Attributes:
        variable: of this tower.
        tables: float64, one per tensor that the variable codes; they add up.
        value: makes the start of their sum over operating points, towers and workers.
    """

    variable: tf.Variable
    tables: list[tf.Tensor]
    value: Callable[[tf.Tensor], tf.Tensor]


class Reading(NamedTuple):
    """The values that a quantizer reads.

    Attributes:
        quantizer: that reads it.
        weights: whether these are weights, or activations before their ReLU.
        values: channels last, unless the tower has them elsewhere.
    """

    quantizer: Quantizer
    weights: bool
    values: tf.Tensor


class Quantization:
    """Applies a policy while a tower is built and keeps what its quantizers report.

    Args:
        policy: which layer gets which quantizer.
        training: whether to collect the statistics that ``refit`` and ``starts`` need.
        opaque: whether a quantizer of activations becomes one node, for what reads the graph and
            does not run it: ``IdentityN`` of x, levels [L] and thresholds [L - 1].
        compiles: whether quantizers that can are programs of XLA, see ``compiled``.
        native: whether they are operations of ``quant.native``, which a block can also say for all.

    Attributes:
        bits: those that name the precision that is built, see ``at``; None: there is but one.
        collected: what ``refit`` works from, by variable name.
        starts: what starts from a first batch, by variable name, in the order of the layers.
        codebooks: makes the codebook of each quantizer, by variable scope.
        readings: what each quantizer reads, by variable scope.
        described: the values whose step function a codebook is, by variable scope, where a
            quantizer changes what it is given before.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        training: bool,
        opaque: bool = False,
        compiles: bool = False,
        native: bool = False,
    ):
        self.bits: int | None = None
        self._policy = policy
        self.training = training
        self.opaque = opaque
        self.compiles = compiles
        self.native = native or used()
        self.collected: dict[str, Collected] = {}
        self.starts: dict[str, Start] = {}
        self.codebooks: dict[str, Callable[[], Codebook]] = {}
        self.readings: dict[str, Reading] = {}
        self.described: dict[str, tf.Tensor] = {}
        self._root = tf.get_variable_scope().name
        self._once: dict[str, Any] = {}
        self._shared: dict[Any, Any] = {}
        self._programs: dict[Callable[..., Any], Callable[..., Any]] = {}
        self._point = ''
        self._stem = ''
        self._parent: Any = None

    @property
    def policy(self) -> Policy:
        """Which layer gets which quantizer, at the precision that is built."""
        return self._policy.at(self.bits)

    @contextlib.contextmanager
    def at(self, bits: int | None) -> Iterator[None]:
        """Quantizers asked for inside are those of one precision.

        Args:
            bits: that name it; None: there is but one.
        """
        before, self.bits = self.bits, bits
        try:
            yield
        finally:
            self.bits = before

    def own_bits(self, half: str, scope: str, role: str) -> int | None:
        """Bits that name the precision that is built, None where all quantize alike.

        Args:
            half: ``weight`` or ``activation``.
            scope: of the layer.
            role: of the layer.
        """
        if self.bits is None or self._policy.is_common(half, scope, role):
            return None
        return self.bits

    def inference(self) -> Quantization:
        """Another one of the same policy at this precision, for inference."""
        other = Quantization(self._policy, training=False, native=self.native)
        other.bits = self.bits
        return other

    def relative(self, scope: str) -> str:
        """A variable scope or name without the prefix that a tower with its own variables has."""
        return scope.removeprefix(self._root).lstrip('/')

    @property
    def current(self) -> str:
        """The current variable scope, without that prefix."""
        return self.relative(tf.get_variable_scope().name)

    def once(self, make: Callable[[], Any]) -> Any:
        """The first result of ``make`` in the current variable scope: one read per tower."""
        scope = tf.get_variable_scope().name
        if scope not in self._once:
            self._once[scope] = make()
        return self._once[scope]

    def shared(self, x: tf.Tensor, function: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
        """``function(x)``, computed once per tower for all quantizers that read the tensor."""
        key = function, x.ref()
        if key not in self._shared:
            self._shared[key] = function(x)
        return self._shared[key]

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function of tensors as programs of XLA, one for each shape, that its equals share.

        A few kernels take the place of dozens, which a GPU waits for longer than it computes. No
        gradient goes through.
        """
        if function not in self._programs:
            program = tf.function(function, jit_compile=True, autograph=False)
            self._programs[function] = program
        return self._programs[function]

    def variable(
        self,
        name: str,
        shape: Sequence[int],
        *,
        initializer: Any,
        trainable: bool = False,
        **state: Any,
    ) -> tf.Variable:
        """A variable of a quantizer in the current variable scope.

        Args:
            name: below the scope.
            shape: of the variable.
            initializer: as of ``tf.get_variable``.
            trainable: whether it is learned by gradient.
            **state: ``beside``, ``lr_factor``, ``decay_factor``, ``bits``, ``snapped`` as of
                ``quant.state.State``.
        """
        variable = tf.get_variable(name, shape=shape, initializer=initializer, trainable=trainable)
        declare(variable, Kind.QUANTIZER, point=self._point, fresh=True, **state)
        return variable

    def collect(self, quantizer: Quantizer, variable: tf.Variable, statistics: Any) -> None:
        """Keeps sufficient statistics of the values that ``variable`` codes.

        Args:
            quantizer: that will refit it.
            variable: to refit.
            statistics: one row, see ``Collected``.
        """
        name = self.relative(variable.op.name)
        if name not in self.collected:
            self.collected[name] = Collected(quantizer, variable, [])
        self.collected[name].statistics.append(statistics)

    def start_from(
        self, variable: tf.Variable, table: tf.Tensor, value: Callable[[tf.Tensor], tf.Tensor]
    ) -> None:
        """Lets ``variable`` start from a first batch.

        Args:
            variable: to start.
            table: float64, statistics of one tensor of the batch; they add up.
            value: makes the start of their sum over operating points, towers and workers.
        """
        name = self.relative(variable.op.name)
        if name not in self.starts:
            self.starts[name] = Start(variable, [], value)
        self.starts[name].tables.append(table)

    def report(self, make: Callable[[], Codebook]) -> None:
        """Keeps what makes the codebook of the quantizer of the current variable scope."""
        self.codebooks[self.current] = make

    def describes(self, values: tf.Tensor) -> None:
        """Says that the codebook of the current variable scope is a step function of these."""
        self.described[self.current] = values

    def weight(
        self,
        w: tf.Tensor,
        *,
        scope: str,
        role: str,
        init_std: InitStd,
        first: Callable[[], tf.Tensor] | None = None,
        point: str = '',
    ) -> tf.Tensor:
        """``w`` fake-quantized as the policy says, or ``w`` itself. Call once per weight and tower.

        Args:
            w: float32, output channels last.
            scope: of the layer.
            role: of the layer.
            init_std: standard deviation of the initial ``w``.
            first: makes ``w`` as it is at the first step; by default that is ``w``.
            point: operating point that alone quantizes it so; empty where all do.

        Raises:
            ValueError: the quantizer refuses the role.
        """
        quantizer = self.policy.weight(scope, role)
        if quantizer is None:
            return w
        _refuse(quantizer, role, scope, weights=True)
        weights = Weights(self, init_std, first or (lambda: w), self.training)
        with self._below('weight_quant', point):
            with using(self.native):
                y = quantizer.weight(w, weights)
            self._reads(Reading(quantizer, True, w))
            return y

    def activation(
        self,
        name: str,
        x: tf.Tensor,
        *,
        scope: str,
        role: str,
        relu: bool,
        lower: float,
        point: str,
        shared: str = '',
        strongest: bool,
        axis: int = -1,
        channels: int | None = None,
    ) -> tf.Tensor:
        """``x``, rectified if ``relu``, fake-quantized as the policy says.

        Args:
            name: variable scope of the quantizer, below the current one.
            x: of any shape; levels are chosen and statistics are taken in float32.
            scope: of the quantizer, by which the policy decides.
            role: of the layers that it feeds.
            relu: whether to rectify ``x``.
            lower: smallest value that ``x`` can take when ``relu`` is off.
            point: spelling of the operating point, for private quantizers.
            shared: spelling of what the operating points have in common that share one.
            strongest: whether it is the first operating point of the network.
            axis: of the channels.
            channels: number of them in the widest network, by default those of ``x``.

        Raises:
            ValueError: the quantizer refuses the role, or is to be opaque and has levels of
                each channel.
        """
        quantizer = self.policy.activation(scope, role)
        if quantizer is None:
            return tf.nn.relu(x) if relu else x
        _refuse(quantizer, role, scope, weights=False)
        collect = self.training and quantizer.collects(strongest=strongest)
        activations = Activations(self, relu, lower, collect, axis, channels, given=x)
        owner = point if quantizer.private else shared
        with self._below(name, owner):
            with using(self.native):
                y = quantizer.activation(tf.cast(x, tf.float32), activations)
            self._reads(Reading(quantizer, False, x))
            if self.opaque and self.current in self.codebooks:
                book = self.codebooks[self.current]()
                if book.levels.shape[1] != 1:
                    raise ValueError(f'{scope}: levels of each channel cannot be shipped yet')
                read = self.described.get(self.current, x)
                y, *_ = tf.identity_n([read, book.levels[:, 0], book.thresholds[:, 0]])
            return tf.cast(y, x.dtype)

    def _reads(self, reading: Reading) -> None:
        """Keeps what the quantizer of the current variable scope reads, if it has levels."""
        if self.current in self.codebooks:
            self.readings[self.current] = reading

    @contextlib.contextmanager
    def sibling(self, bits: int) -> Iterator[None]:
        """The variable scope of what is built, at another precision.

        Args:
            bits: that name it.
        """
        other = f'{self._stem}{bits}'
        before, self._point = self._point, other
        with (
            tf.variable_scope(self._parent, auxiliary_name_scope=False),
            tf.variable_scope(other),
        ):
            yield
        self._point = before

    @contextlib.contextmanager
    def _below(self, name: str, point: str) -> Iterator[None]:
        """The variable scope ``name``, or that of an operating point in it."""
        before, self._point = self._point, point
        # The bits end the spelling of a point.
        self._stem = point.removesuffix(str(self.bits))
        with contextlib.ExitStack() as scopes:
            self._parent = scopes.enter_context(tf.variable_scope(name))
            if point:
                scopes.enter_context(tf.variable_scope(point))
            yield
        self._point = before


def _refuse(quantizer: Quantizer, role: str, scope: str, *, weights: bool) -> None:
    reason = quantizer.refuses(role, weights=weights)
    if reason:
        raise ValueError(f'{quantizer} at {scope}: {reason}')
