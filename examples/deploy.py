"""Ships a run: one file for all operating points, used from Python, C and the browser.

    python examples/deploy.py train_log/chosen net.onnx bear.jpg

The program in C is built where a compiler, libjpeg and cJSON are; see examples/c/Makefile.
"""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from engine import Predictor
from engine.errors import UsageError
from scripts import called, export

HERE = Path(__file__).resolve().parent


def main(run: str, file: str, image: str) -> int:
    """Exports ``run`` to ``file``, and asks it about ``image`` at every operating point.

    Raises:
        UsageError: there is no such image.
    """
    if not Path(image).is_file():
        raise UsageError(f'{image}: no such file; give an image')
    if status := export.main([run, '--out', file]):
        return status
    with Predictor(file) as predictor:  # needs ONNX Runtime, and no TensorFlow
        for point in predictor.points:
            answer = predictor(image, point=point)
            print(f'Python: {point}: {answer.name} {answer.score:.3f}')
    if shutil.which('cc'):
        target = 'build/classify_openvino'
        made = subprocess.run(['make', '-C', HERE / 'c', f'PYTHON={sys.executable}', target])
        if made.returncode == 0:
            subprocess.run([HERE / 'c' / target, file, image], check=True)
    page = shlex.quote(str(HERE / 'web'))
    print(f'browser: make -C {page}; cp {shlex.quote(file)} {page}')
    print(f'         python -m http.server --directory {page}')
    return 0


if __name__ == '__main__':
    sys.exit(called(main))
