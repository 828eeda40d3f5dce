"""The protocol of a family of networks, with the answers of most families."""

import dataclasses
import importlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, TypeAlias

from engine.data.spec import DatasetSpec
from engine.errors import UsageError
from nets.points import Point
from quant.recipe import Recipe

# engine.config.config.Config, which is made with the help of families and not the other way.
Config: TypeAlias = Any


# What the float network of a preset is called in an experiment.
FLOAT_RUN = 'float'


class LowBits(NamedTuple):
    """A network of fewer bits that ``scripts.study`` fine-tunes.

    Attributes:
        qw: bits of weights.
        qa: bits of activations.
        start: name of the network whose weights it starts from.
    """

    qw: int
    qa: int
    start: str = FLOAT_RUN

    @property
    def name(self) -> str:
        """The bits as recipes spell them."""
        return f'w{self.qw}a{self.qa}'


@dataclasses.dataclass(frozen=True)
class Preset(Recipe):
    """A named recipe: field values of ``Config``.

    Attributes:
        then: name of the preset that goes on from the result, after calibration of all widths;
            empty for none.
        low_bits: what ``scripts.study`` fine-tunes the result to; by ``at_bits`` and
            ``with_teacher`` where they say how.
        scored: ends of the folders that its command leaves and that ``scripts.study`` evaluates
            once more, for what training does not score; empty where there is nothing more.
    """

    then: str = ''
    low_bits: tuple[LowBits, ...] = ()
    scored: tuple[str, ...] = ()


class Family:
    """All that the engine knows of a network beside what it computes.

    Args:
        net: name of the network.

    Attributes:
        presets: recipes by name.
        evaluator_paths: classes of its evaluators, see ``engine.evaluation.evaluators``.
        benchmark: module in ``scripts.bench`` that times its inference; empty for none.
        published_tables: tables of ``published.json`` about it.
        reader_path: function that reads checkpoints without a configuration; empty for none.
        importer_path: class that reads its published checkpoints, see
            ``engine.importers.importer``; empty for none.
    """

    presets: ClassVar[Mapping[str, Preset]] = {}
    evaluator_paths: ClassVar[Sequence[str]] = ()
    benchmark: ClassVar[str] = ''
    published_tables: ClassVar[Sequence[str]] = ()
    reader_path: ClassVar[str] = ''
    importer_path: ClassVar[str] = ''

    def __init__(self, net: str):
        self.net = net

    def defaults(self, arch: str) -> dict[str, Any]:
        """Published settings of an architecture, where they are not the defaults of ``Config``."""
        return {}

    @property
    def importer(self) -> Any:
        """Reader of its published checkpoints, an ``engine.importers.importer.Importer``."""
        return load(self.importer_path)(self)

    def data_defaults(self, spec: DatasetSpec) -> dict[str, Any]:
        """Values that a data set changes in the defaults."""
        return spec.options()

    def at_one_size(self, spec: DatasetSpec, small: Mapping[str, Any]) -> dict[str, Any]:
        """``data_defaults`` of networks that are trained at one size, the largest of a data set.

        Args:
            spec: the data set.
            small: what small images change beside.
        """
        defaults = spec.options()
        if spec.small:
            defaults.update(small)
        if spec.small or spec.sizes:
            defaults['sizes'] = (spec.largest,)
        return defaults

    def folder_start(self, config: Config) -> str:
        """Start of the name of a run folder: what is trained."""
        return f'{config.net}-{config.arch}'

    def folder_parts(self, config: Config) -> list[str]:
        """Parts of the name of a run folder that follow from options of this family."""
        return []

    def check(self, config: Config) -> None:
        """Checks what the fields of ``config`` mean together for this family.

        Raises:
            UsageError: they cannot work together.
        """

    def evaluators(self, config: Config) -> list[Any]:
        """Evaluators that report beside the accuracy of every point."""
        return [load(path)() for path in self.evaluator_paths]

    def evaluated(
        self, config: Config, known: Sequence[Point], widths: Sequence[int] | None
    ) -> Config:
        """``config`` narrowed to the operating points that are evaluated.

        Args:
            config: configuration of the run, at the sizes to evaluate.
            known: operating points with statistics.
            widths: that were asked for; None for all.

        Raises:
            UsageError: the network has no widths.
        """
        if widths:
            raise UsageError(f'-ew {_spelled(widths)}: --net {self.net} has no widths to choose')
        return config

    def calibrated(
        self, config: Config, sizes: Sequence[int] | None, widths: Sequence[int] | None
    ) -> Config:
        """``config`` narrowed to the operating points that are calibrated.

        Args:
            config: configuration of the run.
            sizes: input sizes that were asked for.
            widths: that were asked for; None for all.

        Raises:
            UsageError: nothing was asked for that the network could calibrate.
        """
        if widths or not sizes:
            raise UsageError(
                f'--net {self.net}: is no slimmable network; give --sizes, the input sizes to '
                'calibrate, and no --widths'
            )
        return config.narrowed(sizes)

    def at_point(self, config: Config, point: Point) -> Config:
        """``config`` of a network that has the operating point ``point``, trained or calibrated."""
        if point.size and point.size not in config.sizes:
            side = max(config.image_size, point.size)
            return config.replacing(sizes=(point.size,), image_size=side)
        return config

    def lends_kernels(self, untrained: str | None) -> bool:
        """Whether a size that borrows statistics computes with the kernels of its lender.

        Args:
            untrained: what ``--untrained`` says.
        """
        return True

    def published(self, config: Mapping[str, Any]) -> tuple[str, Sequence[str]]:
        """How ``published.json`` spells a network, and the tables that its numbers stand in.

        Args:
            config: fields of a ``config.json``.
        """
        return str(config.get('arch')), self.published_tables


def load(path: str) -> Any:
    """The object that a dotted path names, imported when it is asked for."""
    module, _, name = path.rpartition('.')
    return getattr(importlib.import_module(module), name)


def _spelled(numbers: Sequence[int]) -> str:
    return ' '.join(map(str, numbers))
