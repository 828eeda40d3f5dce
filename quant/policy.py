"""Which layer gets which quantizer: ordered rules over (variable scope, role), of which the last match wins."""

import dataclasses
import re
from typing import Any

from quant import quantizer

ROLES = ('stem', 'body', 'shortcut', 'depthwise', 'gate', 'head')


@dataclasses.dataclass(frozen=True)
class Rule:
    """One row of a policy. A field left None says nothing about its half; an empty ``roles`` matches every role.

    Attributes:
        scope: Regular expression searched in the layer's scope.
        roles: Roles that the rule applies to.
        weight: Quantizer spec of the layer's weights.
        activation: Quantizer spec of the activations made in that scope.
    """

    scope: str = ''
    roles: tuple[str, ...] = ()
    weight: str | None = None
    activation: str | None = None

    def __post_init__(self) -> None:
        unknown = set(self.roles) - set(ROLES)
        if unknown:
            raise ValueError(
                f'role {sorted(unknown)[0]!r} is unknown; there are {", ".join(ROLES)}'
            )
        try:
            re.compile(self.scope)
        except re.error as error:
            raise ValueError(f'scope {self.scope!r} is no regular expression: {error}') from error
        for spec in (self.weight, self.activation):
            if spec is not None:
                quantizer.parse(spec)

    def matches(self, scope: str, role: str) -> bool:
        return (not self.roles or role in self.roles) and re.search(self.scope, scope) is not None


@dataclasses.dataclass(frozen=True)
class Policy:
    """Ordered rules. Plain data: it compares, hashes and goes to JSON.

    >>> policy = Policy((Rule(roles=('body',), weight='lq(bits=2)'), Rule(scope='group3', weight='float')))
    >>> policy.weight('group0/block0/conv1', 'body').bits
    2
    >>> policy.weight('group3/block0/conv1', 'body') is None
    True
    """

    rules: tuple[Rule, ...] = ()

    def _last(self, field: str, scope: str, role: str) -> quantizer.Quantizer | None:
        specs = [getattr(rule, field) for rule in self.rules if rule.matches(scope, role)]
        chosen = [spec for spec in specs if spec is not None]
        return quantizer.parse(chosen[-1]) if chosen else None

    def weight(self, scope: str, role: str) -> quantizer.Quantizer | None:
        """Quantizer of a layer's weights, None for float."""
        return self._last('weight', scope, role)

    def activation(self, scope: str, role: str) -> quantizer.Quantizer | None:
        """Quantizer of the activations made in ``scope``, None for float."""
        return self._last('activation', scope, role)

    def to_json(self) -> list[dict[str, Any]]:
        return [dataclasses.asdict(rule) for rule in self.rules]

    @classmethod
    def from_json(cls, rows: list[dict[str, Any]]) -> 'Policy':
        return cls(tuple(Rule(**{**row, 'roles': tuple(row['roles'])}) for row in rows))


def low_bit(weight: str, activation: str) -> Policy:
    """The policy of all papers here: stem, gates and classifier float, everything else as given."""
    roles = ('body', 'shortcut', 'depthwise')
    return Policy((Rule(roles=roles, weight=weight, activation=activation),))
