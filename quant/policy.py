"""Which layer gets which quantizer: ordered rules over (scope, role); the last match wins."""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

from quant import quantizer, specs
from quant.quantizer import FLOAT_BITS
from quant.spelling import unknown

# ``image`` is what the stem reads; the others are roles of layers with weights.
ROLES = ('stem', 'body', 'shortcut', 'depthwise', 'gate', 'head', 'image')

# Roles of the layers that the papers here quantize.
LOW_BIT_ROLES = ('body', 'shortcut', 'depthwise')

# Characters of a regular expression: far more than the names of layers have.
LONGEST = 1000


@dataclasses.dataclass(frozen=True)
class Rule:
    """One row of a policy. A field left None says nothing about its half.

    Attributes:
        scope: regular expression searched in the layer's scope.
        roles: roles that the rule applies to; empty for every role.
        weight: quantizer spec of the layer's weights.
        activation: quantizer spec of the activations made in that scope.

    Raises:
        ValueError: a role or a quantizer is unknown, the quantizer refuses a role, or the scope is
            no regular expression.
    """

    scope: str = ''
    roles: tuple[str, ...] = ()
    weight: str | None = None
    activation: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, 'roles', tuple(self.roles))
        foreign = sorted(set(self.roles) - set(ROLES))
        if foreign:
            raise ValueError(f'role {foreign[0]!r} is {unknown(foreign[0], ROLES)}')
        if len(self.scope) > LONGEST:
            raise ValueError(f'scope {self.scope[:40]}...: longer than {LONGEST} characters')
        try:
            re.compile(self.scope)
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f'scope {self.scope!r} is no regular expression: {error}') from error
        self._check_half(self.weight, weights=True)
        self._check_half(self.activation, weights=False)

    def _check_half(self, spec: str | None, *, weights: bool) -> None:
        """Refuses a quantizer for a role that it cannot serve.

        Raises:
            ValueError: the quantizer refuses the role.
        """
        if spec is None:
            return
        parsed = specs.parse(spec)
        if parsed is None:
            return
        for role in self.roles or ROLES:
            reason = parsed.refuses(role, weights=weights)
            if reason:
                kind = 'weights' if weights else 'activations'
                raise ValueError(f'{spec} for {kind} of role {role}: {reason}')

    def matches(self, scope: str, role: str) -> bool:
        """Whether the rule applies to the layer of this scope and role."""
        if self.roles and role not in self.roles:
            return False
        return re.search(self.scope, scope) is not None


@dataclasses.dataclass(frozen=True)
class Policy:
    """Ordered rules. Plain data: it compares, hashes and goes to JSON.

    Attributes:
        rules: the last one that matches a layer and says something about its half decides.
        by_bits: policies of a network of several precisions, by the bits of their weights; the
            rules then are those of the first one.

    >>> body = Rule(roles=('body',), weight='lq(bits=2)')
    >>> policy = Policy((body, Rule(scope='group3', weight='float')))
    >>> policy.weight('group0/block0/conv1', 'body').bits
    2
    >>> policy.weight('group3/block0/conv1', 'body') is None
    True
    """

    rules: tuple[Rule, ...] = ()
    by_bits: tuple[tuple[int, 'Policy'], ...] = ()

    def at(self, bits: int | None) -> 'Policy':
        """The policy of one precision; None: there is but one."""
        if bits is None:
            return self
        return dict(self.by_bits)[bits]

    def quantizers(self, half: str) -> set[quantizer.Quantizer]:
        """All quantizers that rules name for a half, at any precision; none for float.

        Args:
            half: ``weight`` or ``activation``.

        >>> low_bit('lq(bits=2)', 'float').quantizers('activation')
        set()
        """
        found = set()
        for policy in (self, *dict(self.by_bits).values()):
            for rule in policy.rules:
                named = specs.parse(getattr(rule, half) or specs.FLOAT)
                if named is not None:
                    found.add(named)
        return found

    def is_common(self, half: str, scope: str, role: str) -> bool:
        """Whether all precisions quantize alike somewhere.

        Activations are not alike where the weights that they come from are not.

        Args:
            half: ``weight`` or ``activation``.
            scope: of the layer.
            role: of the layer.
        """
        found = set()
        for _, policy in self.by_bits:
            activation = None
            if half == 'activation':
                activation = policy.activation(scope, role)
            found.add((policy.weight(scope, role), activation))
        return len(found) <= 1

    def weight(self, scope: str, role: str) -> quantizer.Quantizer | None:
        """Quantizer of a layer's weights, None for float."""
        return self._last('weight', scope, role)

    def activation(self, scope: str, role: str) -> quantizer.Quantizer | None:
        """Quantizer of the activations made in ``scope``, None for float."""
        return self._last('activation', scope, role)

    def activation_bits(self, scope: str, role: str) -> int:
        """Bits of the activations made in ``scope``, 32 for float."""
        chosen = self.activation(scope, role)
        return chosen.bits if chosen else FLOAT_BITS

    def _last(self, half: str, scope: str, role: str) -> quantizer.Quantizer | None:
        chosen = specs.FLOAT
        for rule in self.rules:
            spec = getattr(rule, half)
            if spec is not None and rule.matches(scope, role):
                chosen = spec
        return specs.parse(chosen)

    def to_json(self) -> list[dict[str, Any]]:
        """The rules as plain data; those of the first precision."""
        return [dataclasses.asdict(rule) for rule in self.rules]

    @classmethod
    def from_json(cls, rows: Sequence[dict[str, Any]]) -> 'Policy':
        """The inverse of ``to_json``."""
        return cls(tuple(Rule(**row) for row in rows))


def low_bit(weight: str, activation: str) -> Policy:
    """The policy of all papers here: stem, gates and classifier float, everything else as given."""
    return Policy((Rule(roles=LOW_BIT_ROLES, weight=weight, activation=activation),))
