"""The data sets that `--data` can name.

A new one is a file with a ``DatasetSpec`` and a line in ``SPECS``. Nothing is ever downloaded.
Images are handed out decoded but otherwise raw: uint8 [h, w, 3] in BGR order.
"""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from engine.data import animals28, checks, cifar, fake, folder
from engine.data.layouts.layout import VAL
from engine.data.sources import Source, Subset
from engine.data.spec import Dataset, DatasetSpec
from engine.data.split import NONE, Split, divided
from engine.errors import UsageError, prefixed
from engine.files import read_names
from quant.spelling import suggestion

# By name, in the order in which a plain folder is offered to them.
SPECS: dict[str, DatasetSpec] = {
    'animals28': animals28.SPEC,
    'fake': fake.SPEC,
    'cifar10': cifar.SPECS['cifar10'],
    'cifar100': cifar.SPECS['cifar100'],
}


class Named(NamedTuple):
    """A data set as `--data` names it.

    Attributes:
        spec: the data set, or ``folder.FOLDER`` for a folder that none of them claims.
        folder: where it lies; empty for an embedded set.
        data: how a run records it: a plain folder of a set that has a name as NAME:FOLDER.
    """

    spec: DatasetSpec
    folder: str
    data: str


def choices() -> str:
    """How all data sets are given to `--data`, for messages."""
    spellings = [spec.help for spec in SPECS.values()]
    return ', '.join([*spellings, folder.HELP])


def named(data: str) -> Named:
    """Find the data set that `--data` names.

    A name wins over a folder of that name: write ./fake for the folder.
    """
    name, _, place = data.partition(':')
    spec = SPECS.get(name)
    if spec is not None and spec.needs_folder == bool(place):
        return Named(spec, place, data)
    for spec in SPECS.values():
        if data and spec.claims is not None and spec.claims(Path(data).expanduser()):
            return Named(spec, data, f'{spec.name}:{data}')
    return Named(folder.FOLDER, data, data)


def located(data: str) -> str:
    """The value of `--data` with its path from the root, so that it holds in every folder."""
    name, _, place = data.partition(':')
    spec = SPECS.get(name)
    if not data or (spec is not None and not spec.needs_folder and not place):
        return data
    if spec is not None and spec.needs_folder and place:
        return f'{name}:{absolute(place)}'
    return absolute(data)


def is_gone(data: str) -> bool:
    """Whether `--data` names a folder or file that is not there."""
    place = named(data).folder
    return bool(place) and not Path(place).expanduser().exists()


def absolute(path: str) -> str:
    """A path from the root, links left as they are; an empty one stays empty."""
    return os.path.abspath(os.path.expanduser(path)) if path else path


def open_dataset(
    data: str, *, size: int | None = None, skip: str = '', split: Split | None = NONE
) -> Dataset:
    """Open what `--data` names.

    Args:
        data: see ``choices``.
        size: edge of the views, pixels; None takes the one the set is meant for.
        skip: file that lists images to leave out, one path relative to the data folder a line;
            lines that start with # are comments.
        split: how images are divided of which none are for validation; None leaves them together.

    Returns:
        The data set. Image files are listed but not opened.

    Raises:
        UsageError: there is no such data set, it is incomplete, or the list names other files.
    """
    if size is not None and size < 1:
        raise UsageError(f'size is {size}, expected at least 1')
    found = named(data)
    if found.spec is folder.FOLDER and not (data and Path(data).expanduser().exists()):
        advice = f'{suggestion(data.partition(":")[0], SPECS)} give {choices()}'.strip()
        raise UsageError(f'--data {data}: no such name and no such folder or file; {advice}')
    dataset = found.spec.open(found.folder, size or found.spec.image_size)
    if split is not None:
        dataset = _divided(dataset, split)
    checks.check(dataset)
    return _without(dataset, Path(skip).expanduser()) if skip else dataset


def _divided(dataset: Dataset, wanted: Split) -> Dataset:
    """A data set with validation images: its own, or a share of the others.

    Raises:
        UsageError: it has none, and no share of the others is asked for.
    """
    if len(dataset.val):
        if wanted.share:
            note = f'it has validation images of its own, which --val-split {wanted.share:g} leaves'
            return dataclasses.replace(dataset, note='; '.join(filter(None, [dataset.note, note])))
        return dataset
    if not wanted.share:
        raise UsageError(
            f'--data {dataset.name}: {dataset.layout}, but no validation images (looked for '
            f'{", ".join(VAL)}); give --val-split 0.1 to set a tenth of every class aside'
        )
    train, val = divided(dataset.train, wanted, dataset.classes)
    return dataclasses.replace(dataset, train=train, val=val)


def _without(dataset: Dataset, path: Path) -> Dataset:
    """`dataset` without the images that a file lists.

    The list may be that with which a pack was made: what this lacks for it is no mistake.

    Raises:
        UsageError: it names other images, or all.
    """
    listed = _read_list(path)
    unknown = set(listed)
    kept = []
    for source in (dataset.train, dataset.val):
        names = [source.name(i) for i in range(len(source))]
        unknown.difference_update(names)
        unknown = set() if source.skipped is None else unknown - source.skipped
        kept.append(_others(source, names, listed, path))
    if unknown:
        raise UsageError(
            f'--skip-list {path}: {min(unknown)} is no image of --data {dataset.name}; give paths '
            f'relative to its folder, such as {dataset.train.name(0)}'
        )
    return dataclasses.replace(dataset, train=kept[0], val=kept[1])


def _read_list(path: Path) -> set[str]:
    """The names in a list, without lines of remarks.

    Raises:
        UsageError: it cannot be read.
    """
    with prefixed('--skip-list '):
        names = read_names(path, 'give the list that scripts.check_data writes')
    lines = [line.strip() for line in names]
    return {line for line in lines if line and not line.startswith('#')}


def _others(source: Source, names: list[str], listed: set[str], path: Path) -> Source:
    """The images of `source` that are not listed.

    Raises:
        UsageError: there are none.
    """
    rest = [i for i, name in enumerate(names) if name not in listed]
    if not rest:
        raise UsageError(
            f'--skip-list {path}: leaves nothing of {len(names)} images such as {names[0]}'
        )
    return source if len(rest) == len(names) else Subset(source, np.array(rest))


def recorded_name(data: str, classes: int | None) -> str:
    """Name of a data set that is not opened, as a run records it: empty for no data.

    Args:
        data: what `--data` names.
        classes: number of classes; a folder of a thousand is taken for ImageNet.
    """
    if not data:
        return ''
    spec = named(data).spec
    if spec is folder.FOLDER and classes == folder.ILSVRC_CLASSES:
        spec = folder.IMAGENET
    return spec.name


def completed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Complete the recorded configuration of an earlier run by `dataset` and `augmentation`.

    Those runs did not record them, and decided both by the name of the data; this is the one place
    where that rule is still known.

    Args:
        values: fields of ``Config`` by name, as they were read.
    """
    if 'dataset' in values and 'augmentation' in values:
        return dict(values)
    data = str(values.get('data', ''))
    augmentation = named(data).spec.augmentation
    if not data and str(values.get('inputs', '')).startswith('cifar'):
        augmentation = 'shift'  # imported without a data set
    dataset = recorded_name(data, values.get('classes'))
    return {'dataset': dataset, 'augmentation': augmentation, **values}
