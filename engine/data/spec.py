"""The specification of a data set, and the images and classes that opening it gives."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from engine.data.sources import Source, Subset
from engine.quantities import counted


@dataclasses.dataclass(frozen=True)
class DatasetSpec:
    """A data set that `--data` can name: how it is opened, how its images are prepared.

    What it says about preprocessing is the default of a run, which records it: see
        ``engine.data.preprocessing``.

    Attributes:
        name: start of what `--data` names, and what a run records as its ``dataset``.
        open: makes the data set of (folder, edge of the views in pixels); the folder is empty for
            embedded sets.
        help: how it is given to `--data`, for messages.
        image_size: edge of the views that it is meant for, pixels.
        augmentation: see ``augment.named``.
        resize: one of ``preprocessing.RESIZES``; empty leaves it to the network.
        inputs: channel order, mean and deviation as `--inputs` takes them; empty leaves them to the
            network.
        sizes: input sizes that networks are trained at, pixels, largest first; empty leaves them to
            the network.
        training: values of further options that suit it: learning rate, architecture and so on.
        needs_folder: whether `--data` takes NAME:FOLDER, not NAME alone.
        claims: whether a plain folder holds this data set; None never looks.
        in_memory: whether images are decoded already, so that one loading thread is enough.
        small: whether images are of the kind of CIFAR, for which networks have settings of their
            own.
    """

    name: str
    open: Callable[[str, int], 'Dataset']
    help: str
    image_size: int = 224
    augmentation: str = 'area_crop'
    resize: str = ''
    inputs: str = ''
    sizes: tuple[int, ...] = ()
    training: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    needs_folder: bool = False
    claims: Callable[[Path], bool] | None = None
    in_memory: bool = False
    small: bool = False

    @property
    def largest(self) -> int:
        """Largest input size that networks are trained at, pixels."""
        return max(self.sizes, default=self.image_size)

    def options(self) -> dict[str, Any]:
        """Values of options that the data set decides where no flag does."""
        found = {'augmentation': self.augmentation, **self.training}
        own = {'resize': self.resize, 'inputs': self.inputs, 'sizes': self.sizes}
        for name, value in own.items():
            if value:
                found[name] = value
        return found


class Edges(NamedTuple):
    """Shortest edges of images, pixels: the smallest, the median, the largest; 0: not known."""

    least: int = 0
    median: int = 0
    most: int = 0


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Training and validation images of the same classes.

    Attributes:
        name: of the folder or of the data set, for messages.
        spec: which data set it is.
        classes: names, in the order of the class index.
        train: training images.
        val: validation images.
        holdout: training images that are not trained on, or None.
        layout: how they lie in a folder or file; empty for a data set with a name.
        edges: of some of the images of a folder or file.
        note: what else is there to say about how they were found.
    """

    name: str
    spec: DatasetSpec
    classes: tuple[str, ...]
    train: Source
    val: Source
    holdout: Subset | None = None
    layout: str = ''
    edges: Edges = Edges()
    note: str = ''

    def line(self) -> str:
        """Layout, numbers and sizes of the images, in words; empty for a data set with a name."""
        if not self.layout:
            return ''
        text = (
            f'data {self.name}: {self.layout}, {counted(len(self.classes), "class")}, '
            f'{len(self.train)} training and {len(self.val)} validation images'
        )
        if self.edges.median:
            least, median, most = self.edges
            text += f', shortest edges of {least} to {most} pixels (median {median})'
        return f'{text}; {self.note}' if self.note else text
