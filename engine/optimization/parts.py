"""Parts of a network that learn at rates of their own: frozen ones, factors, layer-wise decay."""

import dataclasses
from collections.abc import Iterable, Mapping

from nets.cost import LayerRecord
from quant.options import option
from quant.spelling import unknown

STEM, HEAD, BACKBONE = 'stem', 'head', 'backbone'


@dataclasses.dataclass(frozen=True)
class PartOptions:
    """Learning rates of parts of the network."""

    freeze: str = option(
        '',
        'parts whose weights do not learn, such as stem,group0 or backbone; statistics of '
        'normalisation and of quantizers still follow the images',
        metavar='PARTS',
    )
    lr_factor: str = option(
        '',
        'factors on the learning rate of parts, such as head=10 or backbone=0.1,stem=0.01; of '
        'several the last one counts',
        metavar='PART=X,...',
    )
    layer_decay: float = option(
        1.0,
        'factor on the learning rate from each part to the one below it, the head first',
        above=0,
        high=1,
    )

    @property
    def used(self) -> bool:
        """Whether any part learns otherwise than the rest."""
        return bool(self.freeze or self.lr_factor or self.layer_decay != 1)

    @property
    def frozen(self) -> tuple[str, ...]:
        """Names of the parts that do not learn."""
        return tuple(name.strip() for name in self.freeze.split(',') if name.strip())

    @property
    def factors(self) -> list[tuple[str, float]]:
        """Names of parts and their factors, in the order in which they were given.

        Raises:
            ValueError: the text is no such list.
        """
        found = []
        for pair in filter(None, self.lr_factor.split(',')):
            name, _, text = pair.partition('=')
            try:
                factor = float(text)
            except ValueError:
                factor = -1.0
            if not 0 < factor < float('inf'):
                raise ValueError(
                    f'lr_factor {self.lr_factor}: {pair!r} is no part and number above 0, such as '
                    'head=10'
                )
            found.append((name.strip(), factor))
        return found


class Parts:
    """The parts of a network by the scopes of its variables.

    Args:
        layers: of the network, those of its operating points one after the other.
    """

    def __init__(self, layers: Iterable[LayerRecord]):
        roles: dict[str, set[str]] = {}
        for layer in layers:
            roles.setdefault(_top(layer.name), set()).add(layer.role)
        self._roles = roles
        body = [top for top, found in roles.items() if HEAD not in found]
        # How many parts lie above each, the head included.
        self._depth = {top: len(body) - i for i, top in enumerate(body)}

    @property
    def names(self) -> list[str]:
        """All names, from the image on."""
        found = dict.fromkeys(self._roles)
        for top in self._roles:
            found.update(dict.fromkeys(self.of(top)))
        return list(found)

    def of(self, name: str, *, beside: bool = False) -> tuple[str, ...]:
        """Names of the parts that a variable is in.

        Args:
            name: of the variable.
            beside: whether it is no part of a plain network, as the gates of its blocks.
        """
        top = _top(name)
        roles = self._roles.get(top)
        if roles is None:
            return (top,)
        found = [top]
        if HEAD in roles:
            found.append(HEAD)
        elif not beside:
            found.append(BACKBONE)
        if roles == {STEM}:
            found.append(STEM)
        return tuple(dict.fromkeys(found))

    def check(self, options: PartOptions) -> None:
        """Checks that all parts that are named are there.

        Raises:
            ValueError: one is not, or nothing is left to learn.
        """
        given = {'freeze': options.frozen, 'lr_factor': [name for name, _ in options.factors]}
        for flag, names in given.items():
            for name in names:
                if name not in self.names:
                    text = unknown(name, self.names)
                    raise ValueError(f'{flag} {getattr(options, flag)}: no part {name!r}: {text}')
        if all(self.factor(top, options) == 0 for top in self._roles):
            raise ValueError(f'freeze {options.freeze}: nothing is left that could learn')

    def factor(self, name: str, options: PartOptions, *, beside: bool = False) -> float:
        """Factor on the learning rate of a variable; 0 where it does not learn.

        Args:
            name: of the variable.
            options: of the run.
            beside: see ``of``.
        """
        found = self.of(name, beside=beside)
        if not set(options.frozen).isdisjoint(found):
            return 0.0
        factor = 1.0
        for part, given in options.factors:
            if part in found:
                factor = given
        return factor * options.layer_decay ** self._depth.get(found[0], 0)


def _top(name: str) -> str:
    return name.partition('/')[0]


def layers_of(points: Mapping[str, Iterable[LayerRecord]]) -> list[LayerRecord]:
    """The layers of all operating points, one after the other."""
    return [layer for layers in points.values() for layer in layers]
