"""Optimizers by name, and their options. TensorFlow is loaded when one is made."""

import dataclasses
import importlib
from collections.abc import Iterable
from typing import Any

from quant.options import option


@dataclasses.dataclass(frozen=True)
class Entry:
    """An optimizer of the registry.

    Attributes:
        rule: module and class of its ``Rule``.
        options: fields of ``OptimizerOptions`` that are its own.
        decoupled: whether weights decay beside the step, as published, instead of through the loss.
    """

    rule: str
    options: tuple[str, ...]
    decoupled: bool = False


_ADAM = ('beta1', 'beta2', 'epsilon')

# One line per optimizer.
_OPTIMIZERS = {
    'momentum': Entry('engine.optimization.momentum.Momentum', ('momentum', 'nesterov')),
    'adam': Entry('engine.optimization.adam.Adam', _ADAM),
    'adamw': Entry('engine.optimization.adam.Adam', _ADAM, decoupled=True),
    'lamb': Entry('engine.optimization.lamb.Lamb', _ADAM, decoupled=True),
}

# Optimizer of what quantizers learn: that of the weights.
SAME = 'same'

DECAYS = ('kernels', 'all')


def names() -> list[str]:
    """Names of all optimizers."""
    return list(_OPTIMIZERS)


def summary(name: str) -> str:
    """One line about an optimizer."""
    entry = _OPTIMIZERS[name]
    module, _, rule = entry.rule.rpartition('.')
    documentation = getattr(importlib.import_module(module), rule).__doc__ or ''
    text = documentation.splitlines()[0].rstrip('.')
    return f'{text}; weights decay beside the step' if entry.decoupled else text


def _of_quantizers() -> list[str]:
    """Optimizers that a part of the variables can have: decay is not their own business."""
    return [SAME, *(name for name, entry in _OPTIMIZERS.items() if not entry.decoupled)]


@dataclasses.dataclass(frozen=True)
class OptimizerOptions:
    """How gradients become a step; the defaults are those of the RS-Nets quantization code."""

    optimizer: str = option('momentum', 'what makes a step of the gradients', choices=names)
    momentum: float = option(0.9, 'of momentum: share of the last step', low=0, below=1)
    nesterov: bool = option(True, 'of momentum: look-ahead form')
    beta1: float = option(0.9, 'of adam, adamw, lamb: decay of the mean gradient', low=0, below=1)
    beta2: float = option(
        0.999, 'of adam, adamw, lamb: decay of the mean squared gradient', low=0, below=1
    )
    epsilon: float = option(1e-8, 'of adam, adamw, lamb: added to its root', above=0)
    quantizer_optimizer: str = option(
        SAME, 'of what quantizers learn: same as --optimizer, or another', choices=_of_quantizers
    )
    quantizer_lr: float = option(
        0.0,
        'learning rate of what quantizers learn, times their factors, in the course of --lr; 0: '
        '--lr',
        low=0,
    )
    wd: float = option(5e-5, 'weight decay', low=0)
    decay: str = option('kernels', 'what decays: kernels, or all trained variables', choices=DECAYS)
    decoupled_decay: bool = option(
        False, 'of momentum, adam: shrink weights beside the step; adamw and lamb always do'
    )

    @property
    def decoupled(self) -> bool:
        """Whether weights decay beside the step instead of through the loss."""
        return self.decoupled_decay or _OPTIMIZERS[self.optimizer].decoupled

    def rule(self) -> Any:
        """The update rule, see ``engine.optimization.rule.Rule``."""
        return self._rule(self.optimizer)

    def quantizer_rule(self) -> Any:
        """That of what quantizers learn; None: the same."""
        if self.quantizer_optimizer in (SAME, self.optimizer):
            return None
        return self._rule(self.quantizer_optimizer)

    def _rule(self, optimizer: str) -> Any:
        module, _, name = _OPTIMIZERS[optimizer].rule.rpartition('.')
        return getattr(importlib.import_module(module), name)(self)


def foreign(optimizers: Iterable[str], given: Iterable[str]) -> list[str]:
    """Fields in ``given`` that belong to other optimizers than these and would be ignored."""
    own: set[str] = set()
    for name in optimizers:
        if name in _OPTIMIZERS:
            own.update(_OPTIMIZERS[name].options)
    every = {field for entry in _OPTIMIZERS.values() for field in entry.options}
    return sorted((every - own) & set(given))
