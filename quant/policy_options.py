"""Bits and quantizers as the options of a run say them, and the policy that they stand for."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from quant import specs
from quant.options import option
from quant.policy import LOW_BIT_ROLES, Policy, Rule
from quant.precision import Precision, between, parse_all, spelled
from quant.quantizer import FLOAT_BITS, MOST_BITS

# Fields of ``QuantizationOptions`` that say bits.
BITS = ('qw', 'qa', 'stem_bits', 'head_bits')

# Those of the body of a network, with the fields that name the quantizers of one half alone.
_HALVES = {'qw': 'weight_quantizer', 'qa': 'activation_quantizer'}


@dataclasses.dataclass(frozen=True)
class QuantizationOptions:
    """Bits and quantizers of weights and activations of a run, and exceptions from them.

    A spec such as ``lq(bits=2)`` brings its bits along; they become ``qw`` or ``qa``, so that these
    two always say what the body of the network has.

    Raises:
        ValueError: a spec is not of the form of one, or a rule is wrong.
    """

    qw: int = option(FLOAT_BITS, 'bits of weights, 32 is float')
    qa: int = option(FLOAT_BITS, 'bits of activations, 32 is float')
    bits: tuple[str, ...] = option(
        (),
        'precisions of one network, most bits first, in place of --qw and --qa: 4 is W4A4, 2:4 is '
        'W2A4; points are spelled s224-b4, by the bits of their weights',
        metavar='W[:A]',
    )
    used_bits: tuple[int, ...] = option((), 'of these, those that are used', flag=False)
    quantizer: str = option('lq', 'quantizer of weights and activations, see --list quantizers')
    weight_quantizer: str = option(
        '', "quantizer of weights alone, such as 'lsq(per_channel=True)' or 'lq(bits=2)'"
    )
    activation_quantizer: str = option('', 'quantizer of activations alone, see weight_quantizer')
    policy: tuple[Rule, ...] = option(
        (),
        'JSON file with further rules by role and scope: [{"roles": ["head"], "weight": '
        '"lq(bits=4)"}, {"scope": "^group3/", "activation": "float"}]; the last match wins',
        file=True,
    )
    stem_bits: int = option(
        FLOAT_BITS, 'bits of the weights of the stem; the images that it reads stay as they are'
    )
    head_bits: int = option(FLOAT_BITS, 'bits of the weights of the classifier and of its input')
    private_basis: bool = option(
        False, 'quantizers of activations for every input size instead of one for all'
    )
    fixed_qa: bool = option(False, 'only the largest size updates the quantizers of activations')
    snap_epochs: int = option(
        0,
        'last epochs in which levels are the nearest small whole numbers times a scale, as '
        'scripts.export --form int8 needs them',
        low=0,
    )

    def __post_init__(self) -> None:
        rules = []
        for rule in self.policy:
            # In a record they are plain data.
            rules.append(rule if isinstance(rule, Rule) else Rule(**rule))
        object.__setattr__(self, 'policy', tuple(rules))
        self._settle_bits()
        for bits, half in _HALVES.items():
            named = self._named(half)
            if named is not None and getattr(self, bits) == FLOAT_BITS:
                object.__setattr__(self, bits, named)

    def _settle_bits(self) -> None:
        """Makes the bits of a network of several precisions those of the first one.

        Raises:
            ValueError: ``bits`` are no precisions, or others than ``qw`` or ``qa``.
        """
        for name in ('bits', 'used_bits'):
            # In a record they are lists.
            object.__setattr__(self, name, tuple(getattr(self, name)))
        # Says whose spec it is where it is none.
        self._named('weight_quantizer')
        named = specs.precisions_in(self.weight_quantizer)
        if named and not self.bits:
            object.__setattr__(self, 'bits', named)
        if named and named != self.bits and not self.used_bits:
            raise ValueError(
                f'weight_quantizer {self.weight_quantizer}: with --bits {" ".join(self.bits)}; '
                'give the same bits, or leave one out'
            )
        if not self.bits:
            return
        first = self.precisions[0]
        for name, number in (('qw', first.weights), ('qa', first.activations)):
            given = getattr(self, name)
            if given not in (FLOAT_BITS, number):
                raise ValueError(
                    f'{name} {given}: --bits {" ".join(self.bits)} says it; leave one of them out'
                )
            object.__setattr__(self, name, number)

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """Precisions of one network, most bits first; none without ``bits``.

        Raises:
            ValueError: ``bits`` are none.
        """
        return parse_all(self.bits)

    @property
    def point_bits(self) -> tuple[int, ...]:
        """Bits that spell the operating points that are used; none without ``bits``."""
        known = [precision.weights for precision in self.precisions]
        return tuple(bits for bits in known if bits in (self.used_bits or known))

    @property
    def implied(self) -> dict[str, Any]:
        """Options of bits that follow from the others, each with the value of one not given.

        >>> QuantizationOptions(bits=('4', '2')).implied
        {'qw': 32, 'qa': 32}
        >>> QuantizationOptions(qa=2, weight_quantizer='lq(bits=2)').implied
        {'qw': 32}
        """
        absent: dict[str, Any] = {}
        for name, value in (('bits', ()), ('qw', FLOAT_BITS), ('qa', FLOAT_BITS)):
            less = {**absent, name: value}
            if getattr(self, name) != value and dataclasses.replace(self, **less) == self:
                absent = less
        return absent

    def at_bits(self, wanted: Sequence[int]) -> 'QuantizationOptions':
        """The same with these precisions alone in use, which may be new ones.

        Args:
            wanted: bits of their weights.

        Raises:
            ValueError: one is no precision.
        """
        found = self.precisions
        for bits in wanted:
            found = between(found, bits)
        return dataclasses.replace(
            self,
            bits=tuple(map(spelled, found)),
            used_bits=tuple(sorted(wanted, reverse=True)),
            qw=found[0].weights,
            qa=found[0].activations,
        )

    def _named(self, half: str) -> int | None:
        """Bits that the spec of one half names, None where it does not say.

        Raises:
            ValueError: the spec cannot be read.
        """
        spec = getattr(self, half)
        try:
            return specs.bits_in(spec)
        except ValueError as error:
            raise ValueError(f'{half} {spec}: {error}') from error

    def to_policy(self) -> Policy:
        """The rules that the options stand for.

        Raises:
            ValueError: an option has a wrong value, or two contradict each other. The message
                begins with the name of the field.
        """
        self._check()
        if not self.precisions:
            return self._policy(self.qw, self.qa)
        policies = []
        for weights, activations in self.precisions:
            policies.append((weights, self._policy(weights, activations)))
        _, first = policies[0]
        return Policy(first.rules, tuple(policies))

    def _policy(self, weight_bits: int, activation_bits: int) -> Policy:
        """The rules of one precision."""
        rules = [self._rule(LOW_BIT_ROLES, weight_bits, activation_bits)]
        if self.stem_bits != FLOAT_BITS:
            rules.append(self._rule(('stem',), self.stem_bits, None))
        if self.head_bits != FLOAT_BITS:
            rules.append(self._rule(('head',), self.head_bits, self.head_bits))
        return Policy((*rules, *self.policy))

    def _rule(self, roles: tuple[str, ...], weight_bits: int, activation_bits: int | None) -> Rule:
        """The rule of some roles; without bits of activations it says nothing about them."""
        weight = self._spec('weight_quantizer', roles, weight_bits, self._nesting(roles))
        if activation_bits is None:
            return Rule(roles=roles, weight=weight)
        extra: dict[str, Any] = {}
        if self.private_basis:
            extra['private'] = True
        if self.fixed_qa:
            extra['update'] = 'strongest'
        if self._source('activation_quantizer') == 'quantizer' and _nests(self.quantizer):
            # Named for both halves, it is meant for the codes that are stored.
            extra['nested'] = False
        activation = self._spec('activation_quantizer', roles, activation_bits, extra)
        return Rule(roles=roles, weight=weight, activation=activation)

    def _nesting(self, roles: tuple[str, ...]) -> dict[str, Any]:
        """Options of a quantizer of weights whose codes all precisions share.

        Args:
            roles: that it serves; those whose bits are the same at all precisions share nothing.
        """
        source = getattr(self, self._source('weight_quantizer'))
        if not _nests(source) or not self.precisions:
            return {}
        if roles != LOW_BIT_ROLES:
            return {'nested': False}
        return {'precisions': tuple(precision.weights for precision in self.precisions)}

    def _check(self) -> None:
        for name in BITS:
            bits = getattr(self, name)
            if bits != FLOAT_BITS and not 1 <= bits <= MOST_BITS:
                raise ValueError(
                    f'{name} {bits}: bits must be 1 to {MOST_BITS}, or {FLOAT_BITS} for float'
                )
        if self.snap_epochs and self.qw == self.qa == FLOAT_BITS:
            raise ValueError(f'snap_epochs {self.snap_epochs}: needs qw or qa of 8 bits or less')
        if self.fixed_qa and self.private_basis:
            raise ValueError(
                'fixed_qa with private_basis: with one of its own, every size must update it'
            )
        for bits, half in _HALVES.items():
            self._check_half(bits, half)
        self._named('quantizer')
        if self.qa != FLOAT_BITS:
            self._check_flag('private_basis', 'private')
            self._check_flag('fixed_qa', 'update')

    def _check_flag(self, flag: str, needed: str) -> None:
        """Refuses a flag that the quantizer of activations has no option for.

        Raises:
            ValueError: it is given and the quantizer is unknown or has no such option.
        """
        source = self._source('activation_quantizer')
        name, _ = specs.split(getattr(self, source))
        try:
            known = specs.options(name)
        except ValueError as error:
            raise ValueError(f'{source} {name}: {error}') from error
        if getattr(self, flag) and needed not in known:
            raise ValueError(f'{flag}: quantizer {name} has no option {needed!r}')

    def _check_half(self, bits: str, half: str) -> None:
        spec = getattr(self, half)
        number = getattr(self, bits)
        if not spec:
            return
        named = self._named(half)
        if named is None and number == FLOAT_BITS and spec != specs.FLOAT:
            whole = specs.with_options(spec, {'bits': 2})
            try:
                specs.parse(whole)
            except ValueError as error:
                raise ValueError(f'{half} {spec}: {error}') from error
            raise ValueError(f'{half} {spec}: says no bits; give --{bits}, or {whole}')
        if named is not None and named != number:
            raise ValueError(
                f'{half} {spec}: {bits} is {number}; give the same bits, or leave one out'
            )

    def _source(self, half: str) -> str:
        """The option that names the quantizer of one half."""
        if getattr(self, half) in ('', specs.FLOAT):
            return 'quantizer'
        return half

    def _spec(self, half: str, roles: tuple[str, ...], bits: int, extra: dict[str, Any]) -> str:
        """The spec of one half.

        Args:
            half: ``weight_quantizer`` or ``activation_quantizer``.
            roles: that it serves.
            bits: of it; 32 is float, or what a quantizer that is named for this half has there.
            extra: further options.

        Raises:
            ValueError: the quantizer refuses an option or a role.
        """
        if bits == FLOAT_BITS and getattr(self, half) in ('', specs.FLOAT):
            return specs.FLOAT
        source = self._source(half)
        text = getattr(self, source)
        spec = specs.with_options(text, {'bits': bits, **extra})
        try:
            Rule(roles=roles, **{half.removesuffix('_quantizer'): spec})
        except ValueError as error:
            remedy = ''
            if roles != LOW_BIT_ROLES:
                row = {'roles': list(roles), 'weight': f'affine(bits={bits})'}
                remedy = f'; give, without these bits, --policy FILE with {json.dumps([row])}'
            raise ValueError(f'{source} {text}: {error}{remedy}') from error
        return spec


def _nests(spec: str) -> bool:
    """Whether a spec asks for codes of weights that precisions share."""
    if spec == specs.FLOAT:
        return False
    _, options = specs.split(spec)
    return bool(options.get('nested'))
