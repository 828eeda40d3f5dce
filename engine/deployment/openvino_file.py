"""Exported files in OpenVINO."""

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import openvino

from engine import processor
from engine.deployment import cutting
from engine.deployment.choosing import Choosing, Execute
from engine.deployment.cutting import Cut, Part
from engine.deployment.names import IMAGES, POINT, THRESHOLDS
from engine.deployment.openvino_branches import replace, replace_constants, settle
from engine.deployment.runtimes import Run

# Two products of a weight of at most this magnitude and a number of 8 bits fit into 16 bits.
NARROW = 64


class OpenVinoFile:
    """A file, of which every operating point is compiled alone when it is first used.

    Where the point, the size of its images and their number are constants, nothing is left to
    choose while it runs: with shapes that may change it takes several times as long.

    Args:
        content: bytes of the file: a path may have any name.
        threads: of one inference; 0 takes all cores.
    """

    version: str = openvino.__version__.partition('-')[0]

    def __init__(self, content: bytes, threads: int):
        self._core = openvino.Core()
        self._cut = cutting.cut_file(content)
        if self._cut is not None:
            content = self._cut.head.file()
        self._model = self._core.read_model(content)
        # By default it computes in bfloat16 where the processor can.
        self._settings: dict[str, Any] = {'INFERENCE_PRECISION_HINT': 'f32'}
        if threads:
            self._settings['INFERENCE_NUM_THREADS'] = threads
        self.texts = _texts(self._model)
        self._chooses = self._cut is not None or len(self._model.outputs) > 1

    def at(self, number: int, side: int, thresholds: Sequence[float] = ()) -> Run:
        """A function that runs an operating point, see ``engine.deployment.runtimes.Loaded``.

        Args:
            number: its place in the file.
            side: edge of its images, pixels.
            thresholds: by exit, in place of those of the file.
        """
        if self._cut is not None:
            return self._choosing(self._cut, thresholds)
        model = self.model_at(number)
        if thresholds:
            replace_constants(model, THRESHOLDS, np.array(thresholds, np.float32))
        # What chooses image by image takes one.
        most, *_ = model.input(IMAGES).get_partial_shape()
        compiled: dict[bool, Run] = {}

        def run(*views: np.ndarray) -> np.ndarray:
            alone = len(views[0]) == 1
            if alone not in compiled:
                compiled[alone] = self._compiled(model, most, side, alone=alone)
            return compiled[alone](*views)

        return run

    def _choosing(self, cut: Cut, thresholds: Sequence[float]) -> Run:
        """A function that runs a file that chooses.

        Args:
            cut: the file.
            thresholds: as of ``at``.
        """

        def prepare(part: Part) -> Execute:
            model = self._core.read_model(part.file())
            if thresholds:
                replace_constants(model, THRESHOLDS, np.array(thresholds, np.float32))
            infer = self._infer(model)

            def execute(given: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
                found = infer([given[name] for name in part.images])
                return dict(zip(part.outputs, found))

            return execute

        made: list[Execute] = []

        def run(*views: np.ndarray) -> np.ndarray:
            if not made:
                made.append(Choosing(cut, prepare))
            found = made[0](dict(zip(cut.images, views, strict=True)))
            return np.concatenate(list(found.values()), axis=1)

        return run

    def model_at(self, number: int) -> openvino.Model:
        """The model of an operating point, and nothing of others.

        Args:
            number: its place in the file.
        """
        model = self._model.clone()
        for parameter in model.get_parameters():
            if parameter.get_friendly_name() == POINT:
                replace(parameter, np.array([number]))
                model.remove_parameter(parameter)
        settle(model)
        return model

    def _compiled(
        self, model: openvino.Model, most: openvino.Dimension, side: int, *, alone: bool
    ) -> Run:
        """A compiled operating point.

        Args:
            model: of the point.
            most: number of images that it can take.
            side: edge of its images, pixels.
            alone: for a single image, which is then up to twice as fast.
        """
        if alone:
            # Of some narrow networks 2026.4 compiles none for one image: "Layout rank".
            with contextlib.suppress(RuntimeError):
                return self._shaped(model, openvino.Dimension(1), side)
        return self._shaped(model, most, side)

    def _shaped(self, model: openvino.Model, count: openvino.Dimension, side: int) -> Run:
        shaped = model.clone()
        channels = model.input(IMAGES).partial_shape[3]
        shaped.reshape({IMAGES: openvino.PartialShape([count, side, side, channels])})
        infer = self._infer(shaped)

        def run(*views: np.ndarray) -> np.ndarray:
            # The buffers are used again, not those of the copy.
            return np.concatenate(infer(views), axis=1)

        return run

    def _infer(self, model: openvino.Model) -> Callable[[Sequence[np.ndarray]], list[np.ndarray]]:
        """A compiled model, which any thread may call: outputs of inputs, both in their order.

        Raises:
            RuntimeError: OpenVINO compiles it in no way.
        """
        settings = dict(self._settings)
        if not processor.adds_exactly() and _has_wide_weights(model):
            # The integer kernels for such processors give other answers without a word.
            settings['LP_TRANSFORMS_MODE'] = 'NO'
        try:
            compiled = self._core.compile_model(model, 'CPU', settings)
        except RuntimeError:
            if not self._chooses:
                raise
            # A file that chooses takes one image, for which 2026.4 compiles some narrow networks
            # in no other way.
            settings['SNIPPETS_MODE'] = 'DISABLE'
            compiled = self._core.compile_model(model, 'CPU', settings)
        requests = threading.local()

        def infer(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
            # A request serves one thread at a time.
            if not hasattr(requests, 'own'):
                requests.own = compiled.create_infer_request()
            own = requests.own
            # They are read while the request runs.
            arrays = [np.ascontiguousarray(array) for array in inputs]
            for number, array in enumerate(arrays):
                own.set_input_tensor(number, openvino.Tensor(array, shared_memory=True))
            own.infer()
            return [own.get_output_tensor(number).data for number in range(len(compiled.outputs))]

        return infer


def _has_wide_weights(model: openvino.Model) -> bool:
    """Whether it may hold weights of 8 bits whose products, two by two, exceed 16 bits."""
    for node in model.get_ops():
        kind = node.get_type_name()
        if kind == 'If':
            # Its branches have weights of their own.
            return True
        if kind != 'Constant' or node.get_element_type() != openvino.Type.i8:
            continue
        values = node.data.astype(np.int16)  # the magnitude of -128 has 9 bits
        if values.size and np.abs(values).max() > NARROW:
            return True
    return False


def _texts(model: openvino.Model) -> dict[str, str]:
    """Texts of a file by name."""
    known = model.get_rt_info()
    if 'framework' not in known.keys():  # noqa: SIM118, it is no dict
        return {}
    return {name: value.astype(str) for name, value in known['framework'].items()}
