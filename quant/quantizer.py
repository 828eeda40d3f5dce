"""Quantizers by name, and the specs that select them, such as ``lq(bits=4, private=True)``."""

import ast
import dataclasses
import functools
import importlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

FLOAT = 'float'

# Standard deviation of initial weights: a number, or what makes the tensor for computed weights.
Scale = float | Callable[[], Any]

# Name in a spec -> class, imported when first used. One line per quantizer.
_QUANTIZERS = {'lq': 'quant.lq.levels.LQ'}


class Quantizer(Protocol):
    """What a layer needs of a quantizer: a frozen value with two graph-building methods.

    Both create their variables in the current variable scope. With ``observe`` they report training
    statistics to the tower; a quantizer that learns by gradient has none to report.
    """

    @property
    def bits(self) -> int:
        """Bits of a stored value."""

    @property
    def private(self) -> bool:
        """Whether activations keep their state per operating point."""

    @property
    def update(self) -> str:
        """Which operating points' activations are observed: ``all`` or ``strongest``."""

    def weight(self, w: Any, *, scale: Scale, tower: Any, observe: bool) -> Any:
        """Fake-quantized weights; ``scale`` is the initial deviation of ``w``, channels last."""

    def activation(self, x: Any, *, relu: bool, lower: float, tower: Any, observe: bool) -> Any:
        """Fake-quantized activations; ``lower`` is the smallest value that ``x`` can take."""

    def basis_size(self, channels: int) -> int:
        """Number of float32 values stored beside a weight of ``channels`` output channels."""


def names() -> list[str]:
    """Names that a spec can use."""
    return sorted(_QUANTIZERS)


def split(spec: str) -> tuple[str, dict[str, Any]]:
    """Name and options of a spec.

    Args:
        spec: a name, or a name with literal keyword arguments, such as ``lq(bits=2)``.

    Raises:
        ValueError: the spec is not of that form.

    >>> split('lq(bits=4, private=True)')
    ('lq', {'bits': 4, 'private': True})
    """
    try:
        call = ast.parse(spec, mode='eval').body
        if isinstance(call, ast.Name):
            return call.id, {}
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
            raise ValueError('not a name with keyword arguments')
        options = {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
        if len(options) < len(call.keywords):
            raise ValueError('an option is repeated')
    except (SyntaxError, ValueError) as error:
        raise ValueError(
            f'quantizer spec {spec!r}: expected {FLOAT!r} or a form such as "lq(bits=2)"'
        ) from error
    return call.func.id, options


def with_options(spec: str, options: Mapping[str, Any]) -> str:
    """A spec with these options in place of its own.

    >>> with_options('lq(decay=0.5)', {'bits': 2})
    'lq(bits=2, decay=0.5)'
    """
    name, own = split(spec)
    merged = {**own, **options}
    ordered = sorted(merged, key=lambda option: option != 'bits')
    return f'{name}({", ".join(f"{option}={merged[option]!r}" for option in ordered)})'


def bits_in(spec: str) -> int | None:
    """Bits that a spec names: 32 for ``float``, None where it does not say.

    Raises:
        ValueError: the spec is not of the form of one.
    """
    if spec == FLOAT:
        return 32
    if not spec:
        return None
    bits = split(spec)[1].get('bits')
    return bits if isinstance(bits, int) else None


def options(name: str) -> list[str]:
    """Names of the options of a quantizer.

    Raises:
        ValueError: there is no quantizer of this name.
    """
    return [field.name for field in dataclasses.fields(_class(name))]


def _class(name: str) -> Any:
    if name not in _QUANTIZERS:
        raise ValueError(f'{name!r} is unknown; there are {", ".join([FLOAT, *names()])}')
    module, _, cls = _QUANTIZERS[name].rpartition('.')
    return getattr(importlib.import_module(module), cls)


@functools.cache
def parse(spec: str) -> Quantizer | None:
    """The quantizer that a spec names, or None for ``float``.

    Args:
        spec: ``float``, a name, or a name with literal keyword arguments, such as ``lq(bits=2)``.

    Raises:
        ValueError: the spec is not of that form, or names no registered quantizer or option.
    """
    if spec == FLOAT:
        return None
    name, values = split(spec)
    try:
        cls = _class(name)
        foreign = sorted(set(values) - set(options(name)))
        if foreign:
            known = ', '.join(options(name))
            raise ValueError(f'{name} has no option {foreign[0]!r}; it has {known}')
        return cls(**values)
    except ValueError as error:
        raise ValueError(f'quantizer spec {spec!r}: {error}') from error
