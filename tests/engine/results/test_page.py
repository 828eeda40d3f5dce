"""The page about runs: whole without network, and how a browser shows it."""

import base64
import html
import json
import re
import shlex
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from engine.config import cli
from engine.config.config import read_config
from engine.files import read_json, write_json
from engine.results import page, selection, tables
from engine.results.profiles import Device
from scripts import report
from tests.engine.results.run_folders import FIRST_EXIT, SECOND_EXIT, plotted_run

BROWSER = (
    shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')
)


class Tags(HTMLParser):
    """Balance of the tags, sources of pictures, and text of the cells."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.cells: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == 'img':
            self.sources.append(str(dict(attrs)['src']))
        elif tag not in ('meta', 'br', 'input'):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == 'td':
            self.cells.append(data.strip())


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without pictures of accuracy, which take seconds."""
    monkeypatch.setattr(page, 'accuracy_over', lambda curves, kind: '')


@pytest.fixture(scope='module')
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('report')
    runs = [plotted_run(folder / name) for name in ('first', 'second <b>')]
    assert report.main([*map(str, runs), '-o', str(folder / 'page.html')]) == 0
    return folder / 'page.html'


def test_page_is_whole_and_holds_everything_itself(written: Path) -> None:
    text = written.read_text()
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    assert not re.search(r'(src|href)\s*=\s*"?(https?:|//|/)', text)
    assert 'second &lt;b&gt;' in text and 'second <b>' not in text
    assert {'s224', 's160', 's96', '66.10', '63.20', '65.8'} & set(tags.cells) >= {'s224', 's96'}
    assert '66.1' in {cell.rstrip('0') for cell in tags.cells}
    for source in tags.sources:
        kind, _, data = source.partition(',')
        assert kind == 'data:image/png;base64'
        image = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
        assert image is not None and image.std() > 5
    # Over multiply-adds, bit operations and memory; time was not measured.
    assert len(tags.sources) == 3


def test_commands_are_those_that_evaluate(written: Path) -> None:
    folder = written.parent / 'first'
    text = html.unescape(written.read_text())
    for size in (224, 160, 96):
        assert f'imagenet_tf.py --eval -ec {folder} -es {size}' in text
    config = read_config(folder / 'config.json')
    line = next(line for line in text.splitlines() if '--logdir NEW' in line)
    given = cli.explicit(cli.parse(shlex.split(line.rpartition('imagenet_tf.py ')[2])))
    assert {
        key: given[key]
        for key in ('arch', 'mode', 'qw', 'qa', 'sizes', 'kd', 'data')
        if key in given
    } == {
        'mode': 'preact',
        'qw': 2,
        'qa': 2,
        'sizes': config.sizes,
        'kd': True,
        'data': '/data/imagenet',
    }


@pytest.mark.usefixtures('undrawn')
def test_a_run_of_another_version(tmp_path: Path) -> None:
    run = plotted_run(tmp_path / 'run')
    config = read_json(run / 'config.json', dict[str, Any], '')
    write_json(run / 'config.json', config | {'depth': 18})
    assert f"# {run}/config.json: unknown field 'depth'" in html.unescape(page.page([str(run)]))


@pytest.mark.usefixtures('undrawn')
def test_where_images_leave(exits: tuple[Path, dict[str, np.ndarray]]) -> None:
    """A bar per budget, thresholds that were run, and the commands of those that nothing beats."""
    run, _ = exits
    found = selection.choices(run)
    for one in found:
        if one.policy:
            assert sum(one.shares) == pytest.approx(1)
            assert np.dot(one.shares, (FIRST_EXIT, SECOND_EXIT)) == pytest.approx(one.madds)
    way = {'top1': 95.25, 'madds': 6.28e6, 'images_per_second': 123.4, 'shares': [0.5, 0.5]}
    (run / 'exits' / 'thresholds-6M-measured.json').write_text(
        json.dumps({'early exit': way, 'all exits': way})
    )
    text, tags = page.page([str(run)]), Tags()
    tags.feed(text)
    assert tags.open == [] and 's28: where the validation images leave, by budget' in text
    assert {'thresholds-6M', '95.25', '6.28', '123.40', '50.0 / 50.0'} <= {
        cell.rstrip() for cell in tags.cells
    }
    best = [one for one in selection.front(found) if one.policy]
    assert best and all(html.escape(command) in text for one in best for command in one.commands)


def test_every_picture_can_be_zoomed_and_every_table_moved(written: Path) -> None:
    """Without a script; and the page fits a narrow window."""
    text = written.read_text()
    assert text.count('<label class="zoom"><input type="checkbox"><span><img') == 3
    assert text.count('<img') == 3 and '<script' not in text
    assert text.count('<table') == text.count('<div class="wide"><table')
    assert 'name="viewport" content="width=device-width' in text
    assert 'prefers-color-scheme:dark' in text


def test_options_are_those_of_the_family(tmp_path: Path) -> None:
    """Records of early versions list the options of all networks."""
    run = plotted_run(tmp_path / 'run')
    config = read_json(run / 'config.json', dict[str, Any], '')
    foreign = {'growthRate': 7, 'targets': [0.25], 'optimizer': 'momentum', 'beta2': 0.125}
    write_json(run / 'config.json', config | foreign)
    table = page.configuration(tables.read_runs([str(run)])[0])
    tags = Tags()
    tags.feed(table)
    assert {'kd_type', 'ens_topdown', 'sizes', '224 160 96'} <= set(tags.cells)
    assert not {'growthRate', 'targets', 'beta2'} & set(tags.cells)


def test_the_training_is_drawn(tmp_path: Path) -> None:
    run = plotted_run(tmp_path / 'run')
    rows = [{'epoch_num': epoch, 'loss': 1.0, 'val/s224/top1': 50.0} for epoch in (1, 2)]
    for count, pictures in ((1, 0), (2, 2)):
        (run / 'stats.json').write_text(json.dumps(rows[:count]))
        assert ''.join(page.left_pictures(run, [])).count('<img') == pictures
    (run / 'stats.json').write_text('{')
    assert not list(page.left_pictures(run, []))


@pytest.mark.usefixtures('undrawn')
def test_a_run_given_twice_is_one(tmp_path: Path) -> None:
    first, second = [plotted_run(tmp_path / name) for name in ('first', 'second')]
    text = page.page([str(first), f'{first}/', str(second)])
    for run in (first, second):
        assert f'<h2 id="run-{run.name}">{run.name}</h2>' in text
        assert f'32/32, {run}</p>' in text or f'2/2, {run}</p>' in text
    assert text.count('<h2 id="run-') == 2


@pytest.mark.usefixtures('undrawn')
def test_times_on_a_page_are_of_one_device(tmp_path: Path) -> None:
    """Where runs were timed on different ones, and it is not clear which is meant, of none."""
    runs = [plotted_run(tmp_path / name) for name in ('first', 'second')]
    for run, gpu in zip(runs, ('GPU A', 'GPU B')):
        device = Device('A processor', gpu, 1, 'tensorflow')
        record = {'device': vars(device), 'points': {'s224': {'batch1_ms': 4.0}}}
        (run / device.file).write_text(json.dumps(record))
    assert 'one image alone on GPU A' in page.page([str(runs[0])])
    assert 'one image alone' not in page.page(list(map(str, runs)))


def test_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main([str(tmp_path / 'none')]) == 2
    assert 'none' in capsys.readouterr().err
    assert not (tmp_path / 'report.html').exists()


@pytest.mark.skipif(BROWSER is None, reason='no Chromium here')
def test_a_browser_shows_it(written: Path, tmp_path: Path) -> None:
    picture = tmp_path / 'page.png'
    subprocess.run(
        [
            str(BROWSER),
            '--headless',
            '--no-sandbox',
            '--disable-gpu',
            '--hide-scrollbars',
            f'--screenshot={picture}',
            '--window-size=1200,2400',
            written.as_uri(),
        ],
        check=True,
        timeout=120,
        capture_output=True,
    )
    image = cv2.imread(str(picture), cv2.IMREAD_GRAYSCALE)
    assert image.shape == (2400, 1200)
    dark = (image < 128).mean(axis=1)
    # Text and pictures all the way down, not one line of raw markup or an empty page.
    assert (dark[:800] > 0).mean() > 0.3 and 0.002 < (image < 128).mean() < 0.3
