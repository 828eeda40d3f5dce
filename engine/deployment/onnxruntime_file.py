"""Exported files in ONNX Runtime."""

from collections.abc import Sequence

import numpy as np
import onnxruntime

from engine.deployment.names import POINT, THRESHOLDS
from engine.deployment.runtimes import Run


class OnnxRuntimeFile:
    """A file in a session, which all operating points share.

    Args:
        content: bytes of the file: a path may have any name.
        threads: of one operation; 0 takes all cores.
    """

    version: str = onnxruntime.__version__

    def __init__(self, content: bytes, threads: int):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # What is wrong is an error, which has a message.
        options.log_severity_level = 4
        self._session = onnxruntime.InferenceSession(
            content, options, providers=['CPUExecutionProvider']
        )
        self.texts = self._session.get_modelmeta().custom_metadata_map
        names = [one.name for one in self._session.get_inputs()]
        self._several = POINT in names
        self._images = [name for name in names if name not in (POINT, THRESHOLDS)]

    def at(self, number: int, side: int, thresholds: Sequence[float] = ()) -> Run:
        """A function that runs an operating point, see ``engine.deployment.runtimes.Loaded``.

        Args:
            number: its place in the file.
            side: edge of its images, pixels.
            thresholds: by exit, in place of those of the file.
        """
        feed = {}
        if self._several:
            feed[POINT] = np.array([number])
        if thresholds:
            feed[THRESHOLDS] = np.array(thresholds, np.float32)

        def run(*views: np.ndarray) -> np.ndarray:
            given = dict(zip(self._images, views, strict=True))
            return np.concatenate(self._session.run(None, given | feed), axis=1)

        return run
