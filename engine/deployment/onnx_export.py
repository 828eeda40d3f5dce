"""Export as an ONNX file, and the runtimes that are installed for it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from engine.deployment import interpreter, trace
from engine.deployment.description import describe
from engine.deployment.forms import Exporter, Runtime
from engine.deployment.program import Program
from engine.errors import UsageError
from engine.runs.checkpoint import Checkpoint

try:
    from engine.deployment import onnx_file, onnx_graph
except ImportError as error:
    raise UsageError(
        f"--form packed and float: {error}; python -m pip install '.[export]' installs what they "
        'need'
    ) from error

# Images of a batch that the interpreter runs: it takes a hundred times as long as a runtime.
INTERPRETED = 4


class Packed(Exporter):
    """One file for one or several operating points, low-bit kernels as packed codes.

    Attributes:
        form: name in the registry.
        packed: whether kernels are stored as codes.
    """

    static = True
    form = 'packed'
    packed = True

    def __init__(self) -> None:
        self._program = Program({}, {})

    def write(self, source: Checkpoint, points: Sequence[str], path: Path) -> None:
        """Operating points in a new file.

        Args:
            source: where they are from.
            points: their spellings, strongest first.
            path: to make.

        Raises:
            UsageError: they differ in more than size.
        """
        self._program = trace.of_points(source, points)
        texts = describe(source, self._program, self.form)
        onnx_file.save(self._program, path, texts.spelled(), packed=self.packed)

    def runtimes(self, path: Path) -> dict[str, Runtime]:
        found: dict[str, Runtime] = {'interpreter': self._interpreted}
        for name, make in (('onnxruntime', _onnxruntime), ('openvino', _openvino)):
            try:
                run, version = make(path, len(self._program.points) > 1)
            except ImportError:
                continue
            found[f'{name} {version}'] = run
        return found

    def _interpreted(self, images: np.ndarray, number: int) -> np.ndarray:
        point = list(self._program.points)[number]
        return interpreter.run(self._program, point, images[:INTERPRETED])

    def note(self, path: Path, texts: Mapping[str, str]) -> None:
        onnx_file.annotate(path, texts)


class Float(Packed):
    """The same with kernels in float32."""

    form = 'float'
    packed = False


def _onnxruntime(path: Path, several: bool) -> tuple[Runtime, str]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    # Read here: a path of any name.
    session = onnxruntime.InferenceSession(
        path.read_bytes(), options, providers=['CPUExecutionProvider']
    )

    def run(images: np.ndarray, number: int) -> np.ndarray:
        return session.run(None, _feed(images, number, several))[0]

    return run, onnxruntime.__version__


def _openvino(path: Path, several: bool) -> tuple[Runtime, str]:
    import openvino

    core = openvino.Core()
    # By default it computes in bfloat16 where the processor can.
    settings = {'INFERENCE_PRECISION_HINT': 'f32', 'INFERENCE_NUM_THREADS': 1}
    model = core.compile_model(core.read_model(path.read_bytes()), 'CPU', settings)

    def run(images: np.ndarray, number: int) -> np.ndarray:
        return np.array(model(_feed(images, number, several))[0])

    return run, openvino.__version__.partition('-')[0]


def _feed(images: np.ndarray, number: int, several: bool) -> dict[str, np.ndarray]:
    """Inputs of a file.

    Args:
        images: uint8.
        number: of the point.
        several: whether the file has more than one.
    """
    feed = {onnx_graph.IMAGES: images}
    if several:
        feed[onnx_graph.POINT] = np.array([number])
    return feed
