"""Messages about unknown words, with a guess at what was meant."""

import difflib
from collections.abc import Iterable
from typing import Any

# How alike a guess must be, of 1, and how many are named.
ALIKE = 0.6
GUESSES = 2


def suggestion(text: str, known: Iterable[Any]) -> str:
    """The end of a message, ``did you mean ...?``, for a misspelled word; empty without a guess.

    Args:
        text: what was given.
        known: what there is.

    >>> suggestion('imagnet', ['imagenet', 'cifar']), suggestion('strange', ['imagenet', 'cifar'])
    ('did you mean imagenet?', '')
    """
    words: dict[str, str] = {}
    for word in map(str, known):
        words.setdefault(word.lower(), word)
    guesses = difflib.get_close_matches(text.lower(), list(words), n=GUESSES, cutoff=ALIKE)
    if not guesses:
        return ''
    return f'did you mean {" or ".join(words[guess] for guess in guesses)}?'


def unknown(text: str, known: Iterable[Any], *, more: str = '') -> str:
    """The end of a message about a word that is none of ``known``.

    Args:
        text: what was given.
        known: what there is.
        more: what there is beside.

    >>> unknown('aigg', ['aig', 'san'])
    'unknown; did you mean aig? There are aig, san'
    >>> unknown('x', ['rgb'], more='or numbers')
    'unknown; there are rgb, or numbers'
    """
    words = list(map(str, known))
    there = f'here are {", ".join(words)}'
    if more:
        there += f', {more}'
    guess = suggestion(text, words)
    if guess:
        return f'unknown; {guess} T{there}'
    return f'unknown; t{there}'
