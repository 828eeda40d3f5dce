"""The protocol of importers: how published checkpoints of a family of networks are read."""

import abc
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from engine.config.config import Config
from engine.errors import UsageError
from engine.families.family import Family
from engine.importers.names import convert, from_pytorch

# Tensors by the names that the published code gives them.
Tensors = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Published:
    """The tensors of a published file, and what the user says about it.

    Attributes:
        path: of the file, for messages.
        tensors: by published name.
        stored_arch: architecture as the file spells it; empty if it does not say it.
        sizes: input sizes by position, if the user gave them.
        arch: architecture, if the user gave it.
        stage: stage of the training, if the user gave it.
        told: fields of ``Config`` that the spelling of the names tells.
    """

    path: str
    tensors: Tensors
    stored_arch: str = ''
    sizes: tuple[int, ...] = ()
    arch: str | None = None
    stage: str | None = None
    told: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def one_size(self, usual: int) -> tuple[int, ...]:
        """The input size of a network that has one: the one that was given, or the usual one.

        Raises:
            UsageError: several were given.
        """
        if len(self.sizes) > 1:
            raise UsageError(f'{self.path}: has one input size, got --sizes {self.sizes_text}')
        return self.sizes or (usual,)

    @property
    def sizes_text(self) -> str:
        """The sizes that were given, as a command line spells them."""
        return ' '.join(map(str, self.sizes))


def converted(name: str, value: np.ndarray, ours: str, shape: Sequence[int]) -> np.ndarray:
    """A published tensor in our layout.

    Args:
        name: of the tensor.
        value: the tensor.
        ours: our name of it.
        shape: our shape of it.

    Raises:
        ValueError: it does not fit; the message has both names.
    """
    try:
        return convert(value, ours, shape)
    except ValueError as error:
        raise ValueError(f'{name}: {error}') from error


class Importer(abc.ABC):
    """How published checkpoints of one family become runs of ours.

    Args:
        family: whose checkpoints are read.

    Attributes:
        holds: what a file of the family holds, for the message about a file of none.
        readers: functions path -> tensors for files that are no PyTorch checkpoints, by suffix.
        stages: whether a stage of the training can be chosen.
        tensorflow: whether the family has published TensorFlow checkpoints, see
            ``Family.reader_path``.
    """

    holds: ClassVar[str] = ''
    readers: ClassVar[Mapping[str, Callable[[str], dict[str, np.ndarray]]]] = {}
    stages: ClassVar[bool] = False
    tensorflow: ClassVar[bool] = False

    def __init__(self, family: Family):
        self.family = family

    @abc.abstractmethod
    def recognizes(self, tensors: Tensors) -> bool:
        """Whether these are tensors of this family."""

    @abc.abstractmethod
    def fields(self, published: Published) -> dict[str, Any]:
        """Fields of ``Config`` that the tensors tell, without the name of the network.

        Raises:
            UsageError: they are no complete network, or what was asked for does not fit them.
        """

    def name(self, published: str, config: Config) -> str | None:
        """Our name of a published tensor; None for what no network uses.

        Raises:
            ValueError: it is no part of such a network.
        """
        return from_pytorch(published, arch=config.arch, kind=config.net, sizes=config.sizes)

    def converted(
        self,
        tensors: Tensors,
        names: Mapping[str, str],
        shapes: Mapping[str, Sequence[int]],
        config: Config,
    ) -> dict[str, np.ndarray]:
        """Arrays in our layout by our name.

        Args:
            tensors: by published name.
            names: our name by published name, of those to convert.
            shapes: of our variables by name; what is not among them is left out.
            config: of the network.

        Raises:
            ValueError: a tensor does not fit its variable, or two are the same variable.
        """
        values: dict[str, np.ndarray] = {}
        for name, ours in names.items():
            if ours not in shapes:
                continue
            if ours in values:
                raise ValueError(f'{name} and another tensor are both {ours}')
            values[ours] = converted(name, tensors[name], ours, shapes[ours])
        return values

    def completed(
        self, path: str, config: Config, values: dict[str, np.ndarray]
    ) -> tuple[Config, dict[str, np.ndarray]]:
        """Configuration and arrays with what only the converted arrays tell.

        Args:
            path: of the file, for messages.
            config: of the network whose variables were converted.
            values: arrays by our name.

        Raises:
            UsageError: the arrays are of no trained network.
        """
        return config, values

    def tensorflow_fields(self, names: Sequence[str]) -> dict[str, Any]:
        """Fields of ``Config`` that variables tell, by our names.

        Raises:
            ValueError: they are of no such network.
        """
        return {}
