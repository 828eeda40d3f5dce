"""Turns published checkpoints into run folders of ours.

Which network they hold, under which names, in which layout: the importers of the families say.
"""

import contextlib
import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engine import families
from engine.config.config import Config
from engine.errors import UsageError, prefixed
from engine.graph.inference import InferenceModel
from engine.importers import containers, safetensors_file, spellings, torch_file
from engine.importers.checks import check_lengths, check_numbers
from engine.importers.importer import Importer, Published
from engine.runs import checkpoint, matching
from engine.runs.checkpoint import Checkpoint
from engine.runs.folder import merge_layers, open_run
from engine.runs.literal import literal
from quant import backend
from quant.backend import new_graph, tf


@dataclasses.dataclass(frozen=True)
class Imported:
    """A published checkpoint by our names.

    Attributes:
        config: what it is.
        values: arrays in our layout; of a slimmable network also ``checkpoint.POINTS``, what has
            statistics.
        skipped: published names that no network uses.
    """

    config: Config
    values: dict[str, np.ndarray]
    skipped: list[str]


def read(
    path: str,
    *,
    sizes: Sequence[int] | None,
    arch: str | None,
    allow: Sequence[str],
    stage: str | None = None,
) -> Imported:
    """Reads a published file: of PyTorch, of Torch7 or of TensorFlow.

    Args:
        path: ``*.pth.tar``, ``*.t7``, or a TensorFlow checkpoint (prefix or folder).
        sizes: input sizes by position, for a PyTorch file that has not the usual ones.
        arch: architecture, if the file does not say it.
        allow: regular expressions of published or of our names that may lack a counterpart.
        stage: of a network that is trained in stages; ``gate`` takes its gate too.

    Raises:
        UsageError: it cannot be read, or does not fit a published network on both sides.
    """
    if is_file(path):
        published = _published(path, tuple(sizes or ()), arch, stage)
        importer = _importer(published)
        _check_stage(published.path, stage, importer)
        return _from_tensors(published, importer, allow)
    imported = _from_tensorflow(path)
    _check_stage(path, stage, families.get(imported.config.net).importer)
    return imported


def is_file(path: str) -> bool:
    """Whether a path is a file of PyTorch, Torch7 or safetensors, and no prefix of TensorFlow."""
    return Path(path).is_file() and not Path(f'{path}.index').exists()


def _published(path: str, sizes: tuple[int, ...], arch: str | None, stage: str | None) -> Published:
    """The tensors of a file, and what the user says about it.

    Args:
        path: of the file.
        sizes: input sizes by position, if given.
        arch: architecture, if given.
        stage: of the training, if given.

    Raises:
        UsageError: it cannot be read.
    """
    stored = _stored(path)
    check_lengths(path, stored.tensors)
    respelled = spellings.respelled(stored.tensors)
    if respelled is None:
        return Published(path, stored.tensors, stored.arch or '', sizes, arch, stage)
    told = {'inputs': 'normalized_rgb'}
    sizes = sizes or (224,)
    return Published(path, respelled, spellings.ARCH, sizes, arch, stage, told)


def describe(path: str, arch: str | None, sizes: Sequence[int]) -> Config | None:
    """The network that the tensors of a file are of; None if they are of none that is known.

    TensorFlow is not loaded.

    Args:
        path: of the file.
        arch: architecture, if the user gave it.
        sizes: input sizes by position, for a file that has not the usual ones.

    Raises:
        UsageError: it cannot be read.
    """
    known = _known(_published(path, (), arch, None), sizes)
    return known[1] if known else None


def _known(published: Published, sizes: Sequence[int]) -> tuple[Importer, Config] | None:
    """The importer of a file, and its network; None if it is of none that is known.

    Args:
        published: the file.
        sizes: input sizes by position, if it has not the usual ones.
    """
    for found in (published, dataclasses.replace(published, sizes=tuple(sizes))):
        with contextlib.suppress(UsageError):
            importer = _importer(found)
            fields = _fields(found, importer)
            return importer, Config.from_values(**fields, net=importer.family.net)
    return None


def read_fitting(path: str, arch: str | None, sizes: Sequence[int]) -> Checkpoint:
    """A file as a checkpoint of its network: all that has a place in it.

    What is unknown or of another shape keeps its name, so that it can be told of. Of a network that
    is not known all do, kernels in our layout, and there is no configuration.

    Args:
        path: of the file.
        arch: architecture, if the user gave it.
        sizes: input sizes by position, for a file that has not the usual ones.

    Raises:
        UsageError: it cannot be read, or holds values that no network has.
    """
    published = _published(path, (), arch, None)
    known = _known(published, sizes)
    if known is None:
        return Checkpoint(path, _turned(published.tensors), None)
    importer, config = known
    names = _our_names(published, importer, config, ['.*'])
    variables, _ = InferenceModel(config, data_format='NHWC').inspect()
    shapes = {name: state.shape for name, state in variables.items()}
    fitting = {}
    for name, ours in names.items():
        with contextlib.suppress(ValueError):
            if importer.converted(published.tensors, {name: ours}, shapes, config):
                fitting[name] = ours
    check_numbers(path, fitting, published.tensors)
    values = importer.converted(published.tensors, fitting, shapes, config)
    for name, value in values.items():
        values[name] = value.astype('float32', copy=False)
    with contextlib.suppress(UsageError):
        config, values = importer.completed(path, config, values)
    others = {name: value for name, value in published.tensors.items() if name not in fitting}
    return Checkpoint(path, {**others, **values}, config, config.qw, config.qa, config.classes)


def _turned(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Tensors with inputs before outputs, as our kernels have them."""
    found = {}
    for name, value in tensors.items():
        axes = {2: (1, 0), 4: (2, 3, 1, 0)}.get(value.ndim, tuple(range(value.ndim)))
        found[name] = value.transpose(axes)
    return found


def write(imported: Imported, out: Path, step: int = 0) -> str:
    """Makes a run folder of it, and returns the checkpoint's prefix.

    Args:
        imported: the checkpoint.
        out: the folder.
        step: that the checkpoint is of.

    Raises:
        UsageError: the folder exists.
    """
    if out.exists():
        raise UsageError(f'--out {out}: exists; choose a new folder')
    with new_graph(), backend.session() as session:
        tf.set_random_seed(imported.config.seed)
        layers = InferenceModel(imported.config, data_format='NHWC').build_inference().layers
        session.run(tf.global_variables_initializer())
        checkpoint.Restore(imported.values).init(session)
        run = open_run(imported.config, out, None)
        prefix = str(run.path / f'model-{step}')
        with literal(prefix) as name:
            tf.train.Saver().save(session, name, write_meta_graph=False, write_state=False)
    if checkpoint.POINTS in imported.values:
        points = {checkpoint.POINTS: imported.values[checkpoint.POINTS]}
        checkpoint.write_calibrated(prefix, points)
    merge_layers(run.path, layers)
    return prefix


def _stored(path: str) -> torch_file.TorchCheckpoint:
    """The tensors of a file that is no TensorFlow checkpoint."""
    for importer in families.importers():
        reader = importer.readers.get(Path(path).suffix)
        if reader is not None:
            return torch_file.TorchCheckpoint(None, reader(path))
    if Path(path).suffix == safetensors_file.SUFFIX:
        tensors = safetensors_file.read_safetensors(Path(path))
        return torch_file.TorchCheckpoint(None, containers.unwrapped(tensors))
    return torch_file.read_checkpoint(Path(path))


def _importer(published: Published) -> Importer:
    """The one that recognizes the tensors.

    Raises:
        UsageError: there is none.
    """
    importers = families.importers()
    for importer in importers:
        if importer.recognizes(published.tensors):
            return importer
    known = [importer.holds for importer in importers if importer.holds]
    raise UsageError(f'{published.path}: holds no {", ".join(known)} or plain ResNet')


def _check_stage(path: str, stage: str | None, importer: Importer) -> None:
    if stage and not importer.stages:
        known = [other.holds for other in families.importers() if other.stages]
        raise UsageError(
            f'--stage {stage}: {path} is a {importer.family.net}, only a {" or ".join(known)} has '
            'stages'
        )


def _from_tensors(published: Published, importer: Importer, allow: Sequence[str]) -> Imported:
    path, tensors = published.path, published.tensors
    config = Config.from_values(**_fields(published, importer), net=importer.family.net)
    _check(path, config)
    names = _our_names(published, importer, config, allow)
    variables, _ = InferenceModel(config, data_format='NHWC').inspect()
    shapes = {name: state.shape for name, state in variables.items()}
    _check_both_sides(path, names, shapes, config, allow)
    check_numbers(path, names, tensors)
    try:
        values = importer.converted(tensors, names, shapes, config)
    except ValueError as error:
        raise UsageError(f'{path}: --arch {config.arch}: {error}') from error
    config, values = importer.completed(path, config, values)
    _check(path, config)
    return Imported(config, values, sorted(set(tensors) - set(names)))


def _fields(published: Published, importer: Importer) -> dict[str, Any]:
    """Fields of ``Config`` that the tensors tell.

    Raises:
        UsageError: they are no complete network.
    """
    try:
        return importer.fields(published)
    except UsageError:
        raise
    except (ValueError, LookupError, ArithmeticError, TypeError) as error:
        raise UsageError(
            f'{published.path}: holds no complete {importer.family.net} '
            f'({type(error).__name__}: {str(error)[:200]})'
        ) from error


def _check(path: str, config: Config) -> None:
    with prefixed(f'{path}: '):
        config.check()


def _our_names(
    published: Published, importer: Importer, config: Config, allow: Sequence[str]
) -> dict[str, str]:
    """Our name by published name, without what no network uses.

    Raises:
        UsageError: a name is unknown and not allowed to be.
    """
    names = {}
    for name in published.tensors:
        try:
            ours = importer.name(name, config)
        except ValueError as error:
            if not _allowed(name, allow):
                raise UsageError(f'{published.path}: {error}; --allow REGEX skips it') from error
            continue
        if ours is not None:
            names[name] = ours
    return names


def _check_both_sides(
    path: str,
    names: Mapping[str, str],
    shapes: Mapping[str, Sequence[int]],
    config: Config,
    allow: Sequence[str],
) -> None:
    """Refuses tensors that are no variable of the network, and variables without a tensor.

    Raises:
        UsageError: there are some that ``allow`` does not name.
    """
    strangers = (name for name, ours in names.items() if ours not in shapes)
    surplus = _not_allowed(strangers, allow)
    missing = _not_allowed(set(shapes) - set(names.values()), allow)
    for what, rows in (('has, and a network of this kind has not', surplus), ('lacks', missing)):
        if rows:
            raise UsageError(
                f'{path}: {what}: {rows[0]} (and {len(rows) - 1} more); --arch {config.arch} '
                'may be wrong; --allow REGEX accepts it'
            )


def _not_allowed(names: Iterable[str], allow: Sequence[str]) -> list[str]:
    return sorted(name for name in names if not _allowed(name, allow))


def _allowed(name: str, allow: Sequence[str]) -> bool:
    return any(re.search(pattern, name) for pattern in allow)


def _from_tensorflow(path: str) -> Imported:
    source = checkpoint.read(checkpoint.find(path, None, 'FILE'), flag='FILE')
    if source.config is not None or not source.sizes:
        raise UsageError(f'{path}: is no published checkpoint (variables imagenet/...)')
    try:
        config = _of_tensorflow(source)
    except ValueError as error:
        raise UsageError(f'{path}: {error}') from error
    variables, _ = InferenceModel(config, data_format='NHWC').inspect()
    values = matching.select(source, variables, flag='FILE')
    return Imported(config, values, sorted(set(source.values) - set(values)))


def _of_tensorflow(source: Checkpoint) -> Config:
    """The configuration that the variables of a published TensorFlow checkpoint tell.

    Raises:
        ValueError: they are of no published network.
    """
    (importer,) = (importer for importer in families.importers() if importer.tensorflow)
    return Config.from_values(
        **importer.tensorflow_fields(list(source.values)),
        net=importer.family.net,
        sizes=tuple(source.sizes),
        classes=source.classes,
        qw=source.qw,
        qa=source.qa,
        image_size=max(source.sizes),
    )


def with_config(source: Checkpoint) -> Checkpoint:
    """A TensorFlow checkpoint without a run folder, with the configuration that follows from it.

    None follows from one of no published network.
    """
    try:
        config = _of_tensorflow(source)
    except (UsageError, ValueError):
        return source
    return dataclasses.replace(source, config=config)
