"""scripts.show_quantizer: what it draws of specs and of runs, and what is refused."""

import contextlib
import sys

import numpy as np
import pytest

from engine.deployment.packing import packing
from engine.graph import step_functions
from engine.results import levels_figure, quantizer_figure
from engine.results.levels_figure import Layer
from quant import specs
from scripts import show_quantizer


@pytest.mark.parametrize(
    'flags, said',
    [
        ([], 'give specs'),
        (['nowhere'], "there is no run folder or checkpoint 'nowhere'"),
        (['lsq(bits=9)'], 'must be a whole number from 1 to 8'),
        (['lsq(bit=2)'], 'it has bits'),
        (['float'], 'quantizes nothing'),
        (['sawb(bits=6)'], 'it has 2, 3, 4, 5, 8'),
        (['apot(bits=8)'], 'serves neither'),
        (['apot(bits=7)', '--only', 'activations'], 'published for 2 to 6 bits'),
        (['twn', '--only', 'activations'], 'it quantizes weights alone'),
        (['lsq', '--layer', 'x'], '--layer x: is for a run'),
        (['lsq', '-o', 'x.doc'], 'end it with one of'),
        (['lsq', '-o', 'nowhere/x.svg'], 'no folder nowhere'),
        (['--all', 'x', 'lsq'], '--all'),
        (['.', '--inputs', 'relu'], '--inputs relu: is for a quantizer spec'),
        (['.', 'lsq'], 'give one run'),
        (['.', '--images', '0'], '--images 0: must be at least 1'),
        (['.', '--layer', '('], 'is no regular expression'),
        (['.', '-o', 'levels.doc'], 'end it with one of'),
        (['.'], 'no checkpoint'),
    ],
)
def test_usage(flags, said, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert show_quantizer.main(flags) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_name_of_a_quantizer_is_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'lsq').mkdir()
    assert not show_quantizer.is_run('lsq')
    assert show_quantizer.is_run('./lsq')


def test_without_matplotlib(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, 'matplotlib.backends.backend_agg', None)
    assert show_quantizer.main(['lsq']) == 2
    assert 'pip install .[plots]' in capsys.readouterr().err


def test_every_method_has_a_spec():
    every = show_quantizer.every()
    assert list(every) == specs.names()
    assert every['lq'] == 'lq(bits=2)'
    assert every['bireal'] == 'bireal'


@pytest.fixture
def few(monkeypatch):
    """Few values, and few gradients."""
    monkeypatch.setattr(step_functions, 'COUNT', 303)
    monkeypatch.setattr(step_functions, 'PROBES', 41)


def check(curve):
    """Compares what was run with the levels and thresholds that are marked."""
    for channel in curve.channels:
        assert (np.diff(channel.x) >= 0).all()
        distance = np.abs(channel.x[:, None] - channel.thresholds)
        # A value half way between two levels takes the even one, and that above a threshold at
        # deployment; zeros are no such ties.
        tie = (distance < 1e-6).any(1) & (channel.x != 0)
        number = (channel.x[:, None] > channel.thresholds).sum(1)
        expected = channel.levels[number][~tie]
        assert tie.sum() < 3
        np.testing.assert_allclose(channel.y[~tie], expected, rtol=1e-5, atol=1e-6)


def test_lsq_is_drawn_as_its_formula_has_it(few):
    curve = step_functions.curve('lsq(bits=2)', 'activations')
    (channel,) = curve.channels
    check(curve)
    values = step_functions.normal((1.0,))
    step = 2 * np.maximum(values, 0).mean() / np.sqrt(3)
    np.testing.assert_allclose(channel.levels, step * np.arange(4), rtol=1e-5)
    # Of exactly zero the ReLU before passes nothing.
    inside = (channel.probed > 0) & (channel.probed <= 3 * step)
    np.testing.assert_array_equal(channel.rising, inside)
    np.testing.assert_array_equal(channel.falling, inside)


def test_both_signs_of_an_upstream_gradient(few):
    """EWGS adds delta times the rounding error to the one, and takes it from the other."""
    (channel,) = step_functions.curve('lsq(bits=4, delta=0.5)', 'weights').channels
    inside = channel.rising != 0
    mean = (channel.rising + channel.falling)[inside] / 2
    np.testing.assert_allclose(mean, 1, atol=1e-5)
    assert np.ptp(channel.rising[inside]) > 0.2


def test_channels_have_grids_of_their_own(few):
    curve = step_functions.curve('bireal', 'weights')
    assert [channel.name for channel in curve.channels] == [
        'deviation 0.5',
        'deviation 1',
        'deviation 1.5',
    ]
    top = [channel.levels[-1] for channel in curve.channels]
    # The mean magnitude of a normal value.
    np.testing.assert_allclose(top, np.sqrt(2 / np.pi) * np.array([0.5, 1, 1.5]), rtol=0.02)
    check(curve)


def test_a_figure_of_several_quantizers(few, tmp_path):
    output = tmp_path / 'x.svg'
    flags = ['--only', 'activations', '--inputs', 'swish', '-o', str(output)]
    assert show_quantizer.main(['lsq', 'lsqplus', *flags]) == 0
    text = output.read_text()
    assert text.count('id="activations values"') == 2
    assert text.count('id="activations gradient"') == 2
    assert '<dc:date>' not in text


def known():
    """Specs of all methods at the bits that they have."""
    found = ['lsq(symmetric=True)', 'sawb(zero=True)', 'affine(bits=2, narrow=False)']
    for name in specs.names():
        for bits in (1, 2, 3, 4, 8):
            spec = f'{name}(bits={bits})'
            with contextlib.suppress(ValueError):
                specs.parse(spec)
                found.append(spec)
    return found


@pytest.mark.slow
@pytest.mark.parametrize('spec', known())
def test_marks_are_where_the_steps_are(spec):
    for half in step_functions.served(spec):
        curve = step_functions.curve(spec, half)
        check(curve)
        if half == step_functions.WEIGHTS:
            # What tables of memory count is what files hold.
            size, codes = packing(len(curve.channels[0].levels))
            assert specs.parse(spec).packed_bits == 8 * size / codes


def layer(levels, thresholds, values=None):
    rng = np.random.default_rng(0)
    if values is None:
        values = rng.normal(size=(500, 3))
    return Layer('conv/weight_quant', 'lq(bits=2)', 'weights', values, levels, thresholds)


def test_shares_of_levels():
    values = np.array([[-1.0, 0.5], [0.0, 2.0]])
    one = layer(np.array([[0.0], [1.0], [2.0]]), np.array([[-0.5], [1.0]]), values)
    np.testing.assert_array_equal(one.shares(), [0.25, 0.5, 0.25])
    own = layer(np.zeros([2, 2]), np.array([[0.0, 1.0]]), values)
    np.testing.assert_array_equal(own.shares(), [0.75, 0.25])


@pytest.mark.parametrize('count', [1, 12, 13])
def test_pages(count):
    one = layer(np.array([[-1.0], [1.0]]), np.array([[-np.inf]]))
    figures = list(levels_figure.pages([one] * count, 'run $x$'))
    panels = []
    for figure in figures:
        panels += [axes for axes in figure.axes if axes.get_title()]
    assert len(panels) == count
    assert len(figures) == -(-count // levels_figure.PAGE)


def test_a_selection_has_both_ends():
    assert levels_figure.choose(range(100), 4) == [0, 33, 66, 99]
    assert levels_figure.choose(range(3), 4) == [0, 1, 2]


def test_many_levels_and_grids_are_drawn():
    levels = np.linspace(-1, 1, 256)[:, None] * np.ones(3)
    thresholds = (levels[1:] + levels[:-1]) / 2
    (figure,) = levels_figure.pages([layer(levels, thresholds)], 'run')
    assert '256 levels used' in figure.axes[0].get_title()


def test_a_spec_of_many_options_is_wrapped():
    step = quantizer_figure.StepFunction(*[np.arange(4.0)] * 7)
    spec = 'lsq(bits=4, centred=True, per_channel=True, delta=0.2)'
    figure = quantizer_figure.draw(
        [quantizer_figure.Curve(spec, 'weights', (step,), (-1, 4))],
    )
    assert figure.axes[0].get_title().count('\n') == 2
