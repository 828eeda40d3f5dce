"""Quantizers by name, and the string specs that select them: ``lq(bits=2)``, ``lq(bits=4, private=True)``."""

import ast
import functools
import importlib
from collections.abc import Callable
from typing import Any, Protocol

FLOAT = 'float'

# Standard deviation of initial weights: a number, or what makes the tensor for weights that are computed.
Scale = float | Callable[[], Any]

# Name in a spec -> class, imported when first used. One line per quantizer.
_QUANTIZERS = {'lq': 'quant.lq.levels.LQ'}


class Quantizer(Protocol):
    """What a layer needs of a quantizer: a frozen value with two graph-building methods.

    Both create their variables in the current variable scope. With ``observe`` they report training statistics to the
    tower; a quantizer that learns by gradient has none to report.
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
        """Fake-quantized weights; ``w`` is float32 with the output channels last, ``scale`` its initial deviation."""

    def activation(self, x: Any, *, relu: bool, lower: float, tower: Any, observe: bool) -> Any:
        """Fake-quantized activations; ``relu`` rectifies first, ``lower`` is the smallest value ``x`` can take, -inf
        if there is none."""

    def basis_size(self, channels: int) -> int:
        """Number of float32 values stored beside a weight of ``channels`` output channels."""


def names() -> list[str]:
    """Names that a spec can use."""
    return sorted(_QUANTIZERS)


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
    try:
        node: ast.expr = ast.parse(spec, mode='eval').body
        call = node if isinstance(node, ast.Call) else ast.Call(node, [], [])
        if not isinstance(call.func, ast.Name) or call.args:
            raise ValueError('not a name with keyword arguments')
        name, options = call.func.id, {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
        if len(options) < len(call.keywords):
            raise ValueError('an option is repeated')
    except (SyntaxError, ValueError) as error:
        raise ValueError(
            f'quantizer spec {spec!r}: expected {FLOAT!r} or a form such as "lq(bits=2)"'
        ) from error
    if name not in _QUANTIZERS:
        raise ValueError(
            f'quantizer spec {spec!r}: {name!r} is unknown; there are {", ".join([FLOAT, *names()])}'
        )
    module, _, cls = _QUANTIZERS[name].rpartition('.')
    try:
        return getattr(importlib.import_module(module), cls)(**options)
    except (TypeError, ValueError) as error:
        raise ValueError(f'quantizer spec {spec!r}: {error}') from error
