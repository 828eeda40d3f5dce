"""Files that `bench deploy` compares: a run in all forms, and 8-bit files of others."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from engine.data.datasets import open_dataset
from engine.deployment import (
    forms,
    native_library,
    native_runtimes,
    runtimes,
    snapping,
    verification,
)
from engine.deployment.runtimes import COMPILED, RUNTIMES
from engine.deployment.verification import Comparison
from engine.errors import UsageError
from engine.graph import freeze
from engine.importers import pytorch
from engine.runs import checkpoint
from engine.runs.checkpoint import Checkpoint
from nets.points import Point
from scripts.bench import deploy_rivals
from scripts.bench.train import configuration

# Training images that others look at.
LOOKED_AT = 300


# Images of noise that an untrained network is calibrated with.
NOISE = 8


class File(NamedTuple):
    """A file in a runtime at an operating point.

    Attributes:
        what: form, or who made it.
        runtime: name.
        point: spelling.
        path: of the file.
        number: place of the point in the file.
        side: edge of its images, pixels.
        compared: its answers beside those of evaluation.
    """

    what: str
    runtime: str
    point: str
    path: Path
    number: int
    side: int
    compared: Comparison


def ours(
    source: Checkpoint, points: Sequence[str], images: int, folder: Path, names: Sequence[str]
) -> list[File]:
    """All points of a run in one file for each form that this machine can run.

    Args:
        source: the checkpoint.
        points: spellings.
        images: how many the answers are compared on.
        folder: for the files.
        names: of the forms.
    """
    found = []
    for name in names:
        form = forms.exporter(name)
        for_library = name not in forms.onnx()
        if for_library and not native_runtimes.is_there(COMPILED):
            print(f'{name}: left out, {native_library.REMEDY}')
            continue
        path = folder / (f'{name}.lqn' if for_library else f'{name}.onnx')
        shipped = source
        if form.snapped or for_library:
            # What is shipped is what is evaluated.
            shipped = snapping.snapped(source).source
        form.write(shipped, points, path)
        dataset = verification.opened(shipped, None)
        given = verification.images(shipped, dataset, images)
        for one in verification.compare(_Compared(form), path, shipped, points, given):
            runtime = one.runtime.partition(' ')[0]
            number = list(points).index(one.point)
            side = _side(shipped, one.point)
            found.append(File(name, runtime, one.point, path, number, side, one))
    return found


class _Compared(forms.Exporter):
    """A form in the runtimes alone: the interpreter takes seconds for an image of 224 pixels.

    Args:
        form: that wrote the file.
    """

    def __init__(self, form: forms.Exporter):
        self._form = form
        self.static = form.static

    def runtimes(self, path: Path) -> dict[str, forms.Runtime]:
        known = self._form.runtimes(path)
        wanted = (*RUNTIMES, COMPILED)
        return {name: run for name, run in known.items() if name.split()[0] in wanted}


class _Made(forms.Exporter):
    """An ONNX file of others with one operating point.

    Args:
        runtime: that runs it.
        side: edge of its images, pixels.
    """

    static = True

    def __init__(self, runtime: str, side: int):
        self._runtime, self._side = runtime, side

    def runtimes(self, path: Path) -> dict[str, forms.Runtime]:
        loaded = runtimes.load(self._runtime, path.read_bytes(), str(path), 1)
        run = loaded.at(0, self._side)
        return {self._runtime: lambda views, number: run(*views)}


def of_others(source: Checkpoint, points: Sequence[str], images: int, folder: Path) -> list[File]:
    """Every point of a float run in 8 bits, as others make them.

    Args:
        source: the checkpoint, in float.
        points: spellings.
        images: how many the answers are compared on.
        folder: for the files.

    Raises:
        UsageError: the run knows no training images.
    """
    given = verification.images(source, verification.opened(source, None), images)
    found = []
    for point in points:
        exact = folder / f'parent-{point}.onnx'
        forms.exporter('float').write(source, [point], exact)
        side = _side(source, point)
        looked_at = _training_images(source, side)
        for name, rival in deploy_rivals.RIVALS.items():
            path = folder / f'{rival.package}-{point}.onnx'
            if not deploy_rivals.make(name, exact, looked_at, path):
                print(f'{name}: left out, python -m pip install {rival.package} installs it')
                continue
            made = _Made(rival.runtime, side)
            (one,) = verification.compare(made, path, source, [point], given)
            found.append(File(name, rival.runtime, point, path, 0, side, one))
    return found


def _side(source: Checkpoint, point: str) -> int:
    """Edge of the images that a point takes, pixels."""
    model, _ = freeze.point_model(source, point)
    return model.config.preprocessing.side(model.size_of(Point.parse(point)))


def _training_images(source: Checkpoint, side: int) -> np.ndarray:
    """Training images as a file takes them, uint8 [LOOKED_AT, side, side, 3].

    Raises:
        UsageError: the run knows of none.
    """
    assert source.config is not None
    if not source.config.data:
        raise UsageError(f'--parent {source.prefix}: knows of no training images')
    preprocessing = source.config.preprocessing
    place = preprocessing.view_sizes.index(side)
    dataset = open_dataset(
        source.config.data, size=source.config.image_size, split=source.config.split
    )
    views = []
    for number in np.linspace(0, len(dataset.train) - 1, LOOKED_AT).astype(int).tolist():
        views.append(preprocessing.eval_views(dataset.train.read(number))[place])
    return np.stack(views)


def untrained(flags: Sequence[str], folder: Path) -> str:
    """Makes a run folder of a network with random weights, and returns its checkpoint.

    Normalisation has the statistics of noise: no layer gives the same for all images.

    Args:
        flags: of imagenet_tf.py.
        folder: to make.
    """
    from engine.evaluation import calibrate
    from engine.graph.inference import InferenceModel

    config = configuration(flags)
    model = InferenceModel(config.adjusted(kd=False), data_format='NHWC')
    values = model.starting_values()
    rng = np.random.default_rng(config.seed)
    *inputs, _ = model.inputs()
    batch = []
    for one in inputs:
        shape = (NOISE, *one.shape[1:])
        batch.append(rng.integers(256, size=shape, dtype=np.uint8))
    collected = calibrate.collect(model, values, [[*batch, np.zeros(NOISE)]])
    values |= calibrate.averaged(collected, calibrate.pooled, values)
    return pytorch.write(pytorch.Imported(config, values, []), folder)


def read(run: str) -> Checkpoint:
    """The last checkpoint of a run.

    Raises:
        UsageError: there is none, or it has no configuration.
    """
    source = checkpoint.read(checkpoint.find(run, None, 'RUN'), flag='RUN')
    if source.config is None:
        raise UsageError(f'{run}: no config.json there')
    return source
