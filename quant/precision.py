"""Precisions of one network, as ``--bits`` spells them: bits of weights and of activations."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from quant.quantizer import MOST_BITS


class Precision(NamedTuple):
    """Bits of a network.

    Attributes:
        weights: bits of its weights, which name its operating points.
        activations: bits of its activations.
    """

    weights: int
    activations: int


def spelled(precision: Precision) -> str:
    """A precision as ``--bits`` spells it.

    >>> spelled(Precision(4, 4)), spelled(Precision(2, 4))
    ('4', '2:4')
    """
    weights, activations = precision
    if weights == activations:
        return str(weights)
    return f'{weights}:{activations}'


def parse_all(texts: Sequence[str]) -> tuple[Precision, ...]:
    """The precisions that ``--bits`` names, most bits first.

    Args:
        texts: such as ``4`` or, with other bits of activations, ``2:4``.

    Raises:
        ValueError: one is none, or they are not in order. The message begins with ``bits``.

    >>> parse_all(['4', '2:4'])
    (Precision(weights=4, activations=4), Precision(weights=2, activations=4))
    """
    found = tuple(map(_parse, texts))
    named = [precision.weights for precision in found]
    all_texts = ' '.join(texts)
    if len(found) == 1:
        weights, activations = found[0]
        raise ValueError(
            f'bits {all_texts}: give two precisions or more; a single one is --qw {weights} --qa '
            f'{activations}'
        )
    if len(set(named)) < len(named):
        raise ValueError(
            f'bits {all_texts}: the same bits of weights twice; they name the operating points, '
            'so give each once'
        )
    if named != sorted(named, reverse=True):
        ordered = sorted(found, reverse=True)
        raise ValueError(
            f'bits {all_texts}: give the most bits first, {" ".join(map(spelled, ordered))}'
        )
    inputs = [precision.activations for precision in found]
    if inputs != sorted(inputs, reverse=True):
        raise ValueError(
            f'bits {all_texts}: with fewer bits of weights, activations have more; give them as '
            'many or fewer'
        )
    return found


def between(known: Sequence[Precision], bits: int) -> tuple[Precision, ...]:
    """Precisions with one of these bits of weights, and bits of activations that fit in between.

    Args:
        known: most bits first.
        bits: of weights.

    Raises:
        ValueError: there are no such bits.

    >>> [spelled(one) for one in between([Precision(4, 4), Precision(2, 4)], 3)]
    ['4', '3:4', '2:4']
    """
    if any(one.weights == bits for one in known):
        return tuple(known)
    new = _parse(str(bits))
    least = max((one.activations for one in known if one.weights < bits), default=1)
    most = min((one.activations for one in known if one.weights > bits), default=MOST_BITS)
    new = new._replace(activations=min(max(bits, least), most))
    return tuple(sorted([*known, new], reverse=True))


def _parse(text: str) -> Precision:
    """The precision that one text names.

    Raises:
        ValueError: it names none.
    """
    match = re.fullmatch(r'([0-9]{1,3})(?::([0-9]{1,3}))?', text, re.ASCII)
    if match is None:
        raise ValueError(f'bits {text}: expected bits such as 4, or 2:4 for W2A4')
    weights = int(match[1])
    activations = int(match[2] or match[1])
    for bits in (weights, activations):
        if not 1 <= bits <= MOST_BITS:
            raise ValueError(
                f'bits {text}: must be 1 to {MOST_BITS}; a float network has no precisions to '
                'choose from, train it by itself'
            )
    return Precision(weights, activations)
