"""SavedModels: every point answers as evaluation, and so does what others convert it to."""

import subprocess
import sys

import numpy as np
import pytest

from engine.deployment import program, savedmodel, tf_graph, trace
from engine.graph import freeze
from quant.backend import tf
from tests import test_grid
from tests.engine.deployment.converters import CONVERTERS
from tests.engine.deployment.test_program import FEWER_CELLS, IMAGES, logits, made, traced
from tests.engine.graph.test_freeze import constants
from tests.paths import ROOT

pytestmark = pytest.mark.usefixtures('shallow')


def signature(session, folder, name):
    """Names of images and logits of a signature that is loaded."""
    meta = tf.saved_model.load(session, ['serve'], str(folder))
    one = meta.signature_def[name]
    assert (set(one.inputs), set(one.outputs)) == ({'images'}, {'logits'})
    return one.inputs['images'].name, one.outputs['logits'].name


def run(folder, name, images):
    with tf.Graph().as_default(), tf.Session() as session:
        feed, fetch = signature(session, folder, name)
        return session.run(fetch, {feed: images})


@pytest.mark.parametrize('cell', FEWER_CELLS)
def test_signatures_answer_as_evaluation(cell, tmp_path):
    """One for each point, and one that is served by default: the strongest."""
    source, whole = traced(cell)
    points = list(whole.points)
    savedmodel.save(tf_graph.graph_of(whole, points), points, tmp_path / 'saved')
    expected = logits(source, IMAGES)
    for name, point in ((savedmodel.DEFAULT, points[0]), *zip(points, points)):
        side = whole.points[point].side
        found = run(tmp_path / 'saved', name, IMAGES[:, :side, :side])
        rows = expected[point]
        np.testing.assert_allclose(found, rows, rtol=0, atol=1e-4 * rows.std())


@pytest.mark.parametrize(
    'cell', ['dsnet-widths-w2a2', pytest.param('msdnet-exits-w2a2', marks=pytest.mark.slow)]
)
def test_points_share_their_kernels(cell):
    """Each is there once; an exit has those of its classifier, a width none of its own."""
    _, whole = traced(cell)
    points = list(whole.points)
    for given in (points[:1], points):
        kernels = set()
        for point in given:
            for operation in whole.points[point].operations:
                if isinstance(operation, program.Convolution):
                    kernels.add(operation.kernel.name)
        stored = sum(whole.constants[name].values.nbytes for name in kernels)
        graph = tf_graph.graph_of(whole, given)
        arrays = constants(graph.graph_def).values()
        assert sum(array.nbytes for array in arrays if array.ndim == 4) == stored


@pytest.mark.slow
@pytest.mark.parametrize('converter', CONVERTERS)
@pytest.mark.parametrize('net', test_grid.NETS)
def test_converters_take_every_family(net, converter, tmp_path):
    """At 2, 4 and 8 bits, all points: what they make of a SavedModel answers as evaluation."""
    package = {'tflite': 'tensorflow'}.get(converter, converter.split()[0])
    pytest.importorskip(package)
    axis = next(iter(test_grid.NETS[net].axes))
    folders = []
    expected = {}
    for bits in (2, 4, 8):
        source = made(f'{net}-{axis}-w2a2', qw=bits, qa=bits)
        points = freeze.points(source)
        if converter == 'openvino of a folder':
            points = points[:1]
        whole = trace.of_points(source, points)
        folder = tmp_path / f'{bits}'
        savedmodel.save(tf_graph.graph_of(whole, points), points, folder)
        folders.append(str(folder))
        rows = logits(source, IMAGES)
        expected |= {f'{bits}/{point}': rows[point] for point in points}
    images = {}
    for point in points:
        side = whole.points[point].side
        images[point] = IMAGES[:, :side, :side]
    file = tmp_path / 'file.npz'
    np.savez(file, **images)
    command = [sys.executable, '-m', 'tests.engine.deployment.converters', converter, str(file)]
    subprocess.run([*command, *folders], check=True, cwd=ROOT, capture_output=True)
    found = dict(np.load(file))
    assert set(found) == set(expected)
    for name, rows in found.items():
        differing = rows.argmax(axis=1) != expected[name].argmax(axis=1)
        assert not differing.any(), name
        np.testing.assert_allclose(rows, expected[name], rtol=0, atol=1e-3 * rows.std())
