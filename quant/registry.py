"""Quantizers by name, and the string specs that select them: ``lq(bits=2)``, ``lq(bits=4, private=True)``, ``float``.
"""

import ast
import functools
import importlib
from collections.abc import Callable
from typing import Any, Protocol

FLOAT = 'float'

# Name in a spec -> class. Imported when first used, so that specs can be handled without TensorFlow.
_QUANTIZERS = {'lq': 'quant.lq.LQ'}


class Quantizer(Protocol):
    """What a layer needs of a quantizer: a frozen value with two pure graph-building methods.

    Both create their variables in the current variable scope and report training statistics to ``observe`` when one is
    given. A quantizer that learns by gradient ignores ``observe``.
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

    def weight(self, w: Any, *, fan_out: int, observe: Callable[..., None] | None) -> Any:
        """Fake-quantized weights; ``w`` is float32 with the output channels last."""

    def activation(self, x: Any, *, relu: bool, lower: float, observe: Callable[..., None] | None) -> Any:
        """Fake-quantized activations; ``relu`` rectifies first, ``lower`` is the smallest value ``x`` can take."""

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
    except (SyntaxError, ValueError) as error:
        raise ValueError(f'quantizer spec {spec!r}: expected {FLOAT!r} or a form such as "lq(bits=2)"') from error
    if name not in _QUANTIZERS:
        raise ValueError(f'quantizer spec {spec!r}: {name!r} is unknown; there are {", ".join([FLOAT, *names()])}')
    module, _, cls = _QUANTIZERS[name].rpartition('.')
    try:
        return getattr(importlib.import_module(module), cls)(**options)
    except (TypeError, ValueError) as error:
        raise ValueError(f'quantizer spec {spec!r}: {error}') from error
