"""Training images of a run that calibration and quantization after training look at."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from engine.config.config import Config
from engine.console import Progress
from engine.data.datasets import is_gone, located
from engine.data.identity import Identity
from engine.data.spec import Dataset
from engine.errors import UsageError
from engine.runs import data_record, holdout
from engine.runs.checkpoint import Checkpoint


def training_data(
    path: str,
    source: Checkpoint,
    config: Config,
    *,
    data: str | None,
    batch_size: int | None,
) -> tuple[Config, Dataset]:
    """The configuration by which training images of a run are taken, and its data.

    Args:
        path: of the run, for messages.
        source: its checkpoint.
        config: what is going to take the images.
        data: what ``--data`` says; by default that of the run.
        batch_size: by default that of the run.

    Raises:
        UsageError: there are no such data, or a number is out of range.
    """
    if data is not None:
        config = config.replacing(data=located(data))
    if batch_size is not None:
        config = config.replacing(batch_size=batch_size)
    if not config.data:
        raise UsageError(f'{path}: was imported without a data set; give --data')
    if is_gone(data or config.data):
        raise UsageError(
            f'--data {data or config.data}: is not there; give --data and where it is now'
        )
    config.check()
    dataset = holdout.open_data(config, Path(source.prefix).parent)
    _check_images(config, dataset, source)
    _check_number('--batch-size', config.batch_size, dataset)
    return config, dataset


def number_of(images: int | None, usual: int, dataset: Dataset) -> int:
    """How many training images to take.

    Args:
        images: what ``--images`` says, if it is given.
        usual: without it, of data that have so many.
        dataset: the data.

    Raises:
        UsageError: there are fewer than asked for, or a variance needs more.
    """
    if images is None:
        images = min(usual, len(dataset.train))
    _check_number('--images', images, dataset)
    return images


def _check_images(config: Config, dataset: Dataset, source: Checkpoint) -> None:
    """Checks that training images are those of the run; those of another place may be others.

    Raises:
        UsageError: they lie where the run's data were, and are others.
    """
    there = data_record.read(Path(source.prefix).parent)
    if there is None or source.config is None:
        return
    fault = there.fault_of_train(Identity(dataset))
    if not fault:
        return
    start = f'--data {config.data}: is not what {source.prefix} was trained on: {fault}'
    if located(source.config.data) == located(config.data):
        raise UsageError(f'{start}; give the place of its data')
    print(f'{start}: statistics will be of others', flush=True)


def _check_number(flag: str, value: int, dataset: Dataset) -> None:
    """Checks that there are as many training images as are asked for, and enough for a variance.

    Args:
        flag: that asks.
        value: number of images that it asks for.
        dataset: the data.

    Raises:
        UsageError: there are fewer.
    """
    available = len(dataset.train)
    if not 2 <= value <= available:
        raise UsageError(f'{flag} {value}: must lie between 2 and the {available} training images')


def training_batches(
    config: Config, dataset: Dataset, images: int, threads: int
) -> Iterable[Sequence[np.ndarray]]:
    """Augmented training batches, with a progress bar.

    Args:
        config: of the network that takes them.
        dataset: data set.
        images: how many images in all.
        threads: decoding threads.
    """
    # Loads TensorFlow: data and numbers are checked before.
    from engine.graph.loaders import train_flow

    with Progress('calibrating', images, 'images') as progress:
        for batch in train_flow(config, dataset, start_step=0, threads=threads):
            part = [array[: images - progress.n] for array in batch]
            yield part
            progress.update(len(part[-1]))
            if progress.n >= images:
                return
