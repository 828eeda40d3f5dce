"""Exported files in ONNX Runtime."""

import ctypes
import sys
from collections.abc import Mapping, Sequence

import numpy as np
import onnxruntime

from engine.deployment import cutting
from engine.deployment.choosing import Choosing, Execute
from engine.deployment.cutting import Part
from engine.deployment.names import POINT, THRESHOLDS
from engine.deployment.runtimes import Run


class OnnxRuntimeFile:
    """A file in a session, which all operating points share; of a file that chooses, its parts.

    Args:
        content: bytes of the file: a path may have any name.
        threads: of one operation; 0 takes all cores.
    """

    version: str = onnxruntime.__version__

    def __init__(self, content: bytes, threads: int):
        self._options = onnxruntime.SessionOptions()
        self._options.intra_op_num_threads = threads
        # What is wrong is an error, which has a message.
        self._options.log_severity_level = 4
        self._execute: Execute
        cut = cutting.cut_file(content)
        if cut is None or cut.repeats():
            session = self._session(content)
            self._execute = _executing(session)
            names = [one.name for one in session.get_inputs()]
        else:
            self._execute = Choosing(cut, self._prepare)
            names = cut.images
        self._several = POINT in names
        self._images = [name for name in names if name not in (POINT, THRESHOLDS)]

    def _session(self, content: bytes) -> onnxruntime.InferenceSession:
        session = onnxruntime.InferenceSession(
            content, self._options, providers=['CPUExecutionProvider']
        )
        _give_back()
        # Every part has them.
        self.texts = session.get_modelmeta().custom_metadata_map
        return session

    def _prepare(self, part: Part) -> Execute:
        """A part of a file that chooses, see ``Choosing``."""
        return _executing(self._session(part.file()))

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
            found = self._execute(given | feed)
            return np.concatenate(list(found.values()), axis=1)

        return run


def _executing(session: onnxruntime.InferenceSession) -> Execute:
    """A function of the inputs of a session among others by name, of which some have defaults."""
    required = [one.name for one in session.get_inputs()]
    optional = [one.name for one in session.get_overridable_initializers()]
    inputs = {*required, *optional}
    outputs = [one.name for one in session.get_outputs()]

    def execute(given: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        feed = {name: value for name, value in given.items() if name in inputs}
        return dict(zip(outputs, session.run(outputs, feed)))

    return execute


def _give_back() -> None:
    """Returns to the system what was freed: to prepare a file takes more than to keep it.

    The allocator of glibc would keep it: half of what a small network has.
    """
    if sys.platform == 'linux':
        trim = getattr(ctypes.CDLL(None), 'malloc_trim', None)
        if trim is not None:
            trim(0)
