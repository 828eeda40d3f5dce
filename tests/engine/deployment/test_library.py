"""``from engine import Predictor`` in a program of somebody else: it leaves that program alone."""

import json
import subprocess
import sys

import numpy as np
import pytest

from engine import Predictor
from engine.config.config import Config
from engine.files import write_json
from engine.graph.inference import InferenceModel
from tests.engine.runs.test_checkpoint import save
from tests.paths import ROOT

SMALL = Config.from_values(
    arch='resnet8',
    width=0.25,
    sizes=(16, 12),
    image_size=16,
    resize='area',
    data='animals28',
    classes=10,
    qw=2,
    qa=2,
    mode='preact',
)
IMAGES = np.random.default_rng(5).integers(256, size=(3, 16, 16, 3), dtype=np.uint8)

# Two predictors and an export; TensorFlow is there before all of it. Prints what it answered and
# which variables of the environment TensorFlow alone has set.
TENSORFLOW_FIRST = """
import json, os, sys
bare = dict(os.environ)
import tensorflow as tf
before = dict(os.environ)
variable = tf.Variable(3.0)

from engine import Predictor
assert tf.executing_eagerly() and dict(os.environ) == before

import numpy as np
import scripts.export
run, images, out = sys.argv[1], np.load(sys.argv[2]), sys.argv[3]
predictors = [Predictor(run, threads=1), Predictor(run, threads=1)]
labels = [predictor.predict(images).labels.tolist() for predictor in predictors]
assert scripts.export.main([run, '--point', 's12', '--out', out]) == 0
assert tf.executing_eagerly() and dict(os.environ) == before
assert 'tensorpack' not in sys.modules

with tf.GradientTape() as tape:
    square = variable * variable
variable.assign_add(tape.gradient(square, variable))
assert float(variable) == 9
logits = tf.saved_model.load(out).signatures['serving_default'](tf.constant(images))['logits']
assert logits.shape == [3, 10]
print(json.dumps([labels, [name for name in before if before[name] != bare.get(name)]]))
"""

# Here TensorFlow comes with the predictor; graphs of others have no resource variables.
TENSORFLOW_AFTER = """
import json, os, sys
before = dict(os.environ)
from engine import Predictor
import tensorflow as tf
tf.compat.v1.disable_resource_variables()

import numpy as np
labels = Predictor(sys.argv[1], threads=1).predict(np.load(sys.argv[2])).labels.tolist()
assert tf.executing_eagerly() and not tf.compat.v1.resource_variables_enabled()
assert 'tensorpack' not in sys.modules
changed = [name for name in os.environ if os.environ[name] != before.get(name)]
print(json.dumps([labels, changed]))
"""


def ran(program, *args):
    """The JSON that a program prints last."""
    command = [sys.executable, '-c', program, *map(str, args)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.slow
def test_programs_keep_their_mode_and_their_environment(tmp_path):
    run, images = tmp_path / 'run', tmp_path / 'images.npy'
    save(InferenceModel(SMALL, data_format='NHWC').starting_values(), run / 'model-1')
    write_json(run / 'config.json', SMALL.to_json())
    np.save(images, IMAGES)
    expected = Predictor(run, threads=1).predict(IMAGES).labels.tolist()
    labels, of_tensorflow = ran(TENSORFLOW_FIRST, run, images, tmp_path / 'exported')
    assert labels == [expected, expected]
    labels, changed = ran(TENSORFLOW_AFTER, run, images)
    assert labels == expected
    assert set(changed) <= set(of_tensorflow)


def test_importing_the_engine_loads_no_tensorflow():
    program = """
import json, sys
import engine, imagenet_tf, scripts.export
loaded = [name for name in ('tensorflow', 'tensorpack') if name in sys.modules]
print(json.dumps([loaded, hasattr(engine, 'Nothing')]))
"""
    assert ran(program) == [[], False]
    assert Predictor.__module__ == 'engine.deployment.predictor'
