"""OpenCV's decoders say nothing of their own where we say which file is bad."""

import os
import subprocess
import sys

from tests.paths import ROOT

PROGRAM = """
import io, os
before = dict(os.environ)
import numpy as np
from PIL import Image
from engine.data.sources import BadImage, decode
assert dict(os.environ) == before
for kind in ('PNG', 'JPEG'):
    stream = io.BytesIO()
    noise = np.random.default_rng(0).integers(256, size=(40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(stream, kind)
    try:
        decode(np.frombuffer(stream.getvalue()[:-500], np.uint8), 'a')
    except BadImage as error:
        print(error.name)
"""


def test_a_bad_image_is_silent_and_the_environment_stays():
    environment = {name: value for name, value in os.environ.items() if 'OPENCV' not in name}
    done = subprocess.run(
        [sys.executable, '-c', PROGRAM], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr, done.returncode) == ('a\na\n', '', 0)
