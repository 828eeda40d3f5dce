"""The protocol of quantizers: what they are given, and what they answer."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

from quant.backend import tf

FLOAT_BITS = 32

# Bits of any other quantizer are 1 to this.
MOST_BITS = 8

# Bits of a packed code of three levels: five of them to a byte.
PACKED_TERNARY = 1.6

# Roles of layers that no normalisation follows, in every network: what they give is used as it is.
_WITHOUT_NORM = ('gate', 'head')

# Standard deviation of initial weights: a number, or what makes the tensor for computed weights.
InitStd = float | Callable[[], Any]


@dataclasses.dataclass(frozen=True)
class Weights:
    """The weights that a quantizer is to quantize, seen from their layer.

    Attributes:
        tower: ``quant.scope.Quantization`` that makes variables and collects statistics.
        init_std: standard deviation of the initial weights.
        first: makes the tensor of the weights as they are at the first step: initial or loaded.
        collect: whether statistics for ``refit`` are wanted.
    """

    tower: Any
    init_std: InitStd
    first: Callable[[], Any]
    collect: bool


@dataclasses.dataclass(frozen=True)
class Activations:
    """The activations that a quantizer is to quantize, seen from their layer.

    Attributes:
        tower: ``quant.scope.Quantization`` that makes variables and collects statistics.
        relu: whether to rectify before.
        lower: without ``relu``, the smallest value that can occur; -inf if there is no bound.
        collect: whether statistics for ``refit`` are wanted.
        axis: of the channels.
        channels: number of them in the widest network, of which a narrow one has the first; None:
            those of what is quantized.
        given: what is quantized in the type in which the network computes; None: in float32.
    """

    tower: Any
    relu: bool
    lower: float
    collect: bool
    axis: int = -1
    channels: int | None = None
    given: Any = None

    @property
    def signed(self) -> bool:
        """Whether values of both signs can occur, without a bound."""
        return not self.relu and self.lower == -math.inf

    @property
    def offset(self) -> float:
        """Smallest value that can occur, 0 where values are signed: what levels count from."""
        if self.relu or self.signed:
            return 0.0
        return self.lower

    def rectified(self, x: Any) -> Any:
        """Values behind the ReLU before the quantizer, where there is one."""
        if self.relu:
            return tf.nn.relu(x)
        return x

    def as_given(self, x: Any) -> Any:
        """Float32 values in the type in which the network computes, unless they are shifted."""
        if self.given is None or self.offset:
            return x
        return self.given

    def shifted(self, x: Any) -> Any:
        """Values relative to the offset."""
        return x - self.offset if self.offset else x

    def shifted_back(self, y: Any) -> Any:
        """The inverse of ``shifted``."""
        return y + self.offset if self.offset else y


class Codebook(NamedTuple):
    """A quantizer as a step function, which is all that is shipped of it.

    Attributes:
        levels: [L, C] ascending, the values that come out; C is 1 where all channels share them.
        thresholds: [L - 1, C]; a value above k of them gets level k.
        step: [C] distance of neighbouring levels where it is the same for all, else None.
        offset: [C] the lowest level where there is a step, else None.
    """

    levels: Any
    thresholds: Any
    step: Any = None
    offset: Any = None


class Quantizer:
    """Base of all quantizers: frozen dataclasses of their options, with methods that build graphs.

    A method is one file with a subclass, and one line in the table of ``quant.specs``. ``weight``
    and ``activation`` create their variables through the tower, in the current variable scope, and
    report the codebook to it; what they do not override has the answers of a quantizer that learns
    by gradient alone.

    Attributes:
        bits: of a stored value.
        private: whether activations have a state of their own at every operating point.
        lr_factor: of what it learns by gradient, times the learning rate.
        decay_factor: of that, times the weight decay of kernels.
        partner: name of the quantizer of the other half, as published, of one that serves weights
            or activations alone; empty where none is.
        variants: specs of this quantizer that might be better than its defaults, which
            ``scripts.study quantizers`` measures beside these.
        recipe: how the method is trained as published, a ``quant.recipe.Recipe``; None where no
            source says it.
        snaps: whether levels are learned freely, of which whole numbers can be made, as of
            ``State.snapped``.
    """

    partner: ClassVar[str] = ''
    variants: ClassVar[tuple[str, ...]] = ()
    recipe: ClassVar[Any] = None
    snaps: ClassVar[bool] = False

    bits: int
    private: bool = False
    lr_factor: float = 1.0
    decay_factor: float = 0.0

    @property
    def ternary(self) -> bool:
        """Whether weights have three levels."""
        return False

    @property
    def is_nested(self) -> bool:
        """Whether the code of a weight is the start of its code at more bits.

        Then one code is stored for all precisions of a network.
        """
        return False

    @property
    def packed_bits(self) -> float:
        """Bits that the code of a stored weight takes."""
        if self.ternary:
            return PACKED_TERNARY
        return self.bits

    def refuses(self, role: str, *, weights: bool) -> str:
        """Why this quantizer cannot serve layers of a role; empty if it can.

        Here for every role, where a subclass has no ``weight`` or no ``activation``.

        Args:
            role: one of ``quant.ROLES``.
            weights: whether it is asked for the weights of the layer, or for its input.
        """
        kind = type(self)
        if weights and kind.weight is Quantizer.weight:
            return 'it quantizes activations alone'
        if not weights and kind.activation is Quantizer.activation:
            return 'it quantizes weights alone'
        return ''

    def stored_values(self, channels: int) -> int:
        """Number of float32 values that are stored beside a weight with ``channels`` outputs."""
        del channels
        return 0

    def weight(self, w: Any, weights: Weights) -> Any:
        """Fake-quantized weights.

        Args:
            w: float32, output channels last.
            weights: what is known about them.

        Raises:
            NotImplementedError: it quantizes no weights.
        """
        raise NotImplementedError(type(self).__name__)

    def activation(self, x: Any, activations: Activations) -> Any:
        """Fake-quantized activations.

        Args:
            x: float32 of any shape.
            activations: what is known about them.

        Raises:
            NotImplementedError: it quantizes no activations.
        """
        raise NotImplementedError(type(self).__name__)

    def trained(self, tower: Any, name: str, size: int, initializer: Any, **state: Any) -> Any:
        """A variable [size] that is learned by gradient, at the rate and decay of the quantizer.

        Args:
            tower: that makes it, in the current variable scope.
            name: below that.
            size: number of values.
            initializer: as of ``tf.get_variable``.
            **state: further fields of ``quant.state.State``.
        """
        return tower.variable(
            name,
            [size],
            initializer=initializer,
            trainable=True,
            lr_factor=self.lr_factor,
            decay_factor=self.decay_factor,
            **state,
        )

    def collects(self, *, strongest: bool) -> bool:
        """Whether it wants statistics of activations of an operating point.

        Args:
            strongest: whether it is the first operating point of the network.
        """
        return True

    def refit(self, variables: Sequence[Any], statistics: Sequence[Any]) -> list[Any]:
        """Next values of variables that are not learned by gradient, of all layers together.

        Args:
            variables: as given to the tower's ``collect``.
            statistics: of each, over all operating points, towers and workers.

        Raises:
            NotImplementedError: it learns all of its variables by gradient.
        """
        raise NotImplementedError(type(self).__name__)


def check_bits(quantizer: Quantizer, *, or_float: bool = False) -> None:
    """Checks the option ``bits``.

    Args:
        quantizer: whose option it is.
        or_float: whether it can be 32, too.

    Raises:
        ValueError: it is no whole number from 1 to 8.
    """
    bits = quantizer.bits
    if or_float and bits == FLOAT_BITS:
        return
    if isinstance(bits, bool) or not isinstance(bits, int) or not 1 <= bits <= MOST_BITS:
        known = f'a whole number from 1 to {MOST_BITS}'
        if or_float:
            known += f', or {FLOAT_BITS}'
        raise ValueError(f'bits={bits!r} must be {known}')


def check_bools(quantizer: Quantizer, *options: str) -> None:
    """Checks options that are True or False.

    Raises:
        ValueError: one is neither.
    """
    for option in options:
        value = getattr(quantizer, option)
        if not isinstance(value, bool):
            raise ValueError(f'{option}={value!r} must be True or False')


def check_choice(quantizer: Quantizer, option: str, choices: Sequence[str]) -> None:
    """Checks an option that is one of a few words.

    Args:
        quantizer: whose option it is.
        option: its name.
        choices: the words.

    Raises:
        ValueError: it is none of them.
    """
    value = getattr(quantizer, option)
    if value not in choices:
        raise ValueError(f'{option}={value!r} must be one of {", ".join(map(repr, choices))}')


def check_factors(quantizer: Quantizer, *options: str) -> None:
    """Checks options that are factors.

    Raises:
        ValueError: one is no finite number of at least 0.
    """
    for option in options:
        value = getattr(quantizer, option)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(f'{option}={value!r} must be a number')
        if not 0 <= value < math.inf:
            raise ValueError(f'{option}={value!r} must be at least 0 and finite')


def lacks_norm(role: str) -> str:
    """Why weights that come out at a scale of their own cannot serve a role; empty if they can."""
    if role in _WITHOUT_NORM:
        return 'no normalisation follows to undo the scale at which its weights come out'
    return ''
