"""Quantizers in pairs: what quantizes weights and activations where one method is asked for."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from quant import specs
from quant.policy import LOW_BIT_ROLES, Rule
from quant.policy_options import QuantizationOptions

DEFAULT = QuantizationOptions.quantizer


class Pair(NamedTuple):
    """A method: the specs of both halves, and the bits of both.

    Attributes:
        weight: spec of the quantizer of weights, without bits.
        activation: spec of the quantizer of activations, without bits.
        bits: of weights and of activations.
    """

    weight: str
    activation: str
    bits: int

    @property
    def label(self) -> str:
        """How a table names it, but for its bits."""
        if self.weight == self.activation:
            return self.weight
        return f'{self.weight} + {self.activation}'


def serves(spec: str, bits: int, half: str) -> bool:
    """Whether a quantizer has these bits for what the papers quantize.

    Args:
        spec: of the quantizer, without bits.
        bits: of a quantized value.
        half: ``weight`` or ``activation``.
    """
    try:
        Rule(roles=LOW_BIT_ROLES, **{half: specs.with_options(spec, {'bits': bits})})
    except ValueError:
        return False
    return True


def pair(spec: str, bits: int) -> Pair | None:
    """The pair that stands for a quantizer; None where it has no such bits.

    The half that it does not serve gets its partner, or the default quantizer.

    >>> pair('pact', 2)
    Pair(weight='sawb', activation='pact', bits=2)
    >>> pair('twn', 4) is None
    True
    """
    own = []
    for half in ('weight', 'activation'):
        own.append(serves(spec, bits, half))
    if not any(own):
        return None
    chosen = []
    for half, is_own in zip(('weight', 'activation'), own):
        found = spec if is_own else _other(spec, bits, half)
        if found is None:
            return None
        chosen.append(found)
    weight, activation = chosen
    return Pair(weight, activation, bits)


def _other(spec: str, bits: int, half: str) -> str | None:
    """The spec for the half that a quantizer does not serve; None where nothing has the bits."""
    name, _ = specs.split(spec)
    for other in (specs.kind(name).partner, DEFAULT):
        if other and serves(other, bits, half):
            return other
    return None


def methods(bits: Sequence[int]) -> list[Pair]:
    """All methods at these bits, the default one first.

    Those that have none of these bits, such as binary ones, come at their own, beside the default
    quantizer.
    """
    names = sorted(specs.names(), key=lambda name: name != DEFAULT)
    wanted = {number: list(names) for number in bits}
    for name in names:
        if not any(pair(name, number) for number in bits):
            own = specs.kind(name).bits
            wanted.setdefault(own, [DEFAULT]).append(name)
    return _pairs(wanted.items())


def variants(bits: Sequence[int]) -> list[Pair]:
    """Possible improvements that quantizers name on themselves, at these bits."""
    found: list[str] = []
    for name in specs.names():
        found.extend(specs.kind(name).variants)
    return _pairs((number, found) for number in bits)


def _pairs(wanted: Iterable[tuple[int, Sequence[str]]]) -> list[Pair]:
    """The pairs of specs by their bits, each once."""
    found: dict[Pair, None] = {}
    for number, texts in wanted:
        for spec in texts:
            one = pair(spec, number)
            if one is not None:
                found[one] = None
    return list(found)
