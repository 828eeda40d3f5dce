"""Converts signatures of SavedModels as others do, in a process of its own, and runs the results.

    python -m tests.engine.deployment.converters tflite FILE.npz FOLDER...

The file holds images by name of a signature, and gets the logits of each signature of each folder.
"""

import importlib
import sys
import tempfile
from pathlib import Path

import numpy as np


def tflite(folder, name):
    lite = importlib.import_module('tensorflow').lite
    converter = lite.TFLiteConverter.from_saved_model(folder, signature_keys=[name])
    interpreter = lite.Interpreter(model_content=converter.convert())
    runner = interpreter.get_signature_runner(name)
    return lambda images: runner(images=images)['logits']


def openvino(folder, name):
    convert = importlib.import_module('openvino').convert_model
    loaded = importlib.import_module('tensorflow').saved_model.load(folder)
    return compiled(convert(loaded.signatures[name]))


def openvino_folder(folder, name):
    """The signature that is served by default."""
    return compiled(importlib.import_module('openvino').convert_model(folder))


def compiled(model):
    compile_model = importlib.import_module('openvino').compile_model
    compiled = compile_model(model, 'CPU', {'INFERENCE_PRECISION_HINT': 'f32'})
    return lambda images: np.array(compiled(images)[0])


def tf2onnx(folder, name):
    convert = importlib.import_module('tf2onnx.convert')
    runtime = importlib.import_module('onnxruntime')
    with tempfile.TemporaryDirectory() as scratch:
        path = f'{scratch}/a.onnx'
        flags = ['--saved-model', folder, '--signature_def', name, '--output', path]
        sys.argv = ['tf2onnx', *flags]
        convert.main()
        session = runtime.InferenceSession(path, providers=['CPUExecutionProvider'])
    feed = session.get_inputs()[0].name
    return lambda images: session.run(None, {feed: images})[0]


CONVERTERS = {
    'tflite': tflite,
    'openvino': openvino,
    'openvino of a folder': openvino_folder,
    'tf2onnx': tf2onnx,
}


def main(converter, file, *folders):
    images = dict(np.load(file))
    found = {}
    for folder in folders:
        for name, some in images.items():
            found[f'{Path(folder).name}/{name}'] = CONVERTERS[converter](folder, name)(some)
    np.savez(file, **found)


if __name__ == '__main__':
    main(*sys.argv[1:])
