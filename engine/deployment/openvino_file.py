"""Exported files in OpenVINO."""

import threading
from typing import Any

import numpy as np
import openvino
from openvino import opset8

from engine.deployment.names import IMAGES, POINT
from engine.deployment.runtimes import Run


class OpenVinoFile:
    """A file, of which every operating point is compiled alone when it is first used.

    Where the point and the size of its images are constants, nothing is left to choose while it
    runs: with shapes that may change it takes several times as long.

    Args:
        content: bytes of the file: a path may have any name.
        threads: of one inference; 0 takes all cores.
    """

    version: str = openvino.__version__.partition('-')[0]

    def __init__(self, content: bytes, threads: int):
        self._core = openvino.Core()
        self._model = self._core.read_model(content)
        # By default it computes in bfloat16 where the processor can.
        self._settings: dict[str, Any] = {'INFERENCE_PRECISION_HINT': 'f32'}
        if threads:
            self._settings['INFERENCE_NUM_THREADS'] = threads
        self.texts = _texts(self._model)

    def at(self, number: int, side: int) -> Run:
        """A function that runs an operating point, see ``engine.deployment.runtimes.Loaded``.

        Args:
            number: its place in the file.
            side: edge of its images, pixels.
        """
        model = self._model.clone()
        for parameter in model.get_parameters():
            if parameter.get_friendly_name() == POINT:
                chosen = opset8.constant(np.array([number]))
                for target in parameter.output(0).get_target_inputs():
                    target.replace_source_output(chosen.output(0))
                model.remove_parameter(parameter)
        # What chooses image by image takes one.
        batch, *_ = model.input(IMAGES).get_partial_shape()
        model.reshape({IMAGES: openvino.PartialShape([batch, side, side, 3])})
        compiled = self._core.compile_model(model, 'CPU', self._settings)
        requests = threading.local()

        def run(images: np.ndarray) -> np.ndarray:
            # A request serves one thread at a time.
            if not hasattr(requests, 'own'):
                requests.own = compiled.create_infer_request()
            found = requests.own.infer(images)
            # Its buffers are used again, not those of the copy.
            return np.concatenate([found[output] for output in compiled.outputs], axis=1)

        return run


def _texts(model: openvino.Model) -> dict[str, str]:
    """Texts of a file by name."""
    known = model.get_rt_info()
    if 'framework' not in known.keys():  # noqa: SIM118, it is no dict
        return {}
    return {name: value.astype(str) for name, value in known['framework'].items()}
