"""examples/web: texts and pixels in Node, then the page in a headless browser."""

import base64
import functools
import http.server
import json
import re
import shutil
import subprocess
import threading
import time
import urllib.request

import numpy as np
import pytest

from engine.data import animals28
from engine.data.opencv import cv2
from tests.paths import ROOT

pytest.importorskip('onnxruntime')

from tests.examples import networks  # noqa: E402

PAGE = ROOT / 'examples' / 'web'
RNG = np.random.default_rng(4)

# Answers cases that it reads, each in the words of the page's modules.
NODE = """
const { describe } = await import(process.argv[1] + '/model.js');
const { makeView } = await import(process.argv[1] + '/view.js');
const bytes = (text) => new Uint8Array(Buffer.from(text, 'base64'));
const calls = {
  view: ({ pixels, rest }) => Buffer.from(makeView(bytes(pixels), ...rest)).toString('base64'),
  describe: ({ file }) => describe(bytes(file)),
};
const { readFileSync } = await import('node:fs');
const answers = JSON.parse(readFileSync(0)).map(([name, input]) => {
  try {
    return calls[name](input);
  } catch (error) {
    return { error: error.message };
  }
});
console.log(JSON.stringify(answers));
"""


def text_of(content) -> str:
    return base64.b64encode(content).decode()


@pytest.fixture(scope='module')
def in_node():
    """Answers of the page's modules to calls."""
    node = shutil.which('node')
    if node is None:
        pytest.skip('there is no Node')

    def answers(calls):
        done = subprocess.run(
            [node, '--input-type=module', '-e', NODE, PAGE.as_uri()],
            input=json.dumps(calls),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return answers


def test_views_are_those_of_evaluation(in_node):
    cases, calls = [], []
    for augmentation in ('shift', 'area_crop', 'area_crop:0.95'):
        for resize in ('area', 'antialias', 'antialias_cubic'):
            for height, width in ((28, 28), (56, 84), (37, 300), (3, 5), (1, 400), (300, 224)):
                image = RNG.integers(256, size=(height, width, 3), dtype=np.uint8)
                rest = [width, height, augmentation, resize, 28]
                cases.append((image, augmentation, resize))
                calls.append(['view', {'pixels': text_of(image), 'rest': rest}])
    for (image, *rule), answer in zip(cases, in_node(calls), strict=True):
        found = np.frombuffer(base64.b64decode(answer), np.uint8).reshape(28, 28, 3)
        networks.compare_views(found, image, *rule)


def test_texts_are_read_from_the_bytes(in_node):
    whole = networks.described('area_crop', 'antialias', side=32)
    others = [whole[: len(whole) // 2], b'', b'no network', whole[:60]]
    calls = [['describe', {'file': text_of(content)}] for content in (whole, *others)]
    about, *wrong = in_node(calls)
    assert about['classes'] == ['bear', 'böcke', 'cat "tom"']
    assert (about['augmentation'], about['resize']) == ('area_crop', 'antialias')
    assert [point['point'] for point in about['points']] == ['s28', 's12']
    assert about['points'][1]['side'] == 32 and about['points'][1]['madds'] == 1_758_848
    for answer in wrong:
        assert re.search('is no ONNX file|expected a file of scripts.export', answer['error'])


def test_a_file_that_leaves_preprocessing_to_others(in_node):
    content = networks.described(dtype='float32')
    (answer,) = in_node([['describe', {'file': text_of(content)}]])
    assert 'export it without --no-preprocess' in answer['error']


def test_cascades_cost_the_mean_of_what_they_were_judged_on(in_node):
    files = [networks.of_cascade(), networks.of_cascade(sides=(28,))]
    found, wrong = in_node([['describe', {'file': text_of(content)}] for content in files])
    (point,) = found['points']
    assert (point['point'], point['top1'], point['madds']) == ('s12+s28', 90, 5_000_000)
    assert 'takes the image in several sizes' in wrong['error']


class Browser:
    """A headless Chromium, by the protocol of WebDriver.

    Args:
        driver: where its driver answers.
    """

    OPTIONS = ('--headless', '--no-sandbox', '--disable-dev-shm-usage', '--window-size=800,900')

    def __init__(self, driver: str):
        chromium = {'goog:chromeOptions': {'args': self.OPTIONS}}
        self._session = driver
        made = self.call('POST', '/session', {'capabilities': {'alwaysMatch': chromium}})
        self._session = f'{driver}/session/{made["sessionId"]}'

    def call(self, method, path, content=None):
        """The value that the driver answers with."""
        body = None if content is None else json.dumps(content).encode()
        kind = {'Content-Type': 'application/json'}
        request = urllib.request.Request(self._session + path, body, kind, method=method)
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)['value']

    def run(self, script):
        """What a script returns in the page."""
        return self.call('POST', '/execute/sync', {'script': script, 'args': []})

    def text(self, name):
        """The text of an element, as soon as it has one."""
        for _ in range(300):
            if found := self.run(f'return document.getElementById("{name}").innerText'):
                return found
            time.sleep(0.1)
        raise AssertionError(f'{name} stays empty: {self.run("return document.body.innerText")}')


@pytest.fixture
def browser():
    driver = shutil.which('chromedriver')
    if driver is None or not shutil.which('chromium'):
        pytest.skip('there is no chromium with its driver: apt-get install chromium-driver')
    with subprocess.Popen([driver, '--port=0'], stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if found := re.search(r'on port (\d+)\.', line):
                break
        made = Browser(f'http://127.0.0.1:{found[1]}')
        yield made
        made.call('DELETE', '')
        process.terminate()


@pytest.fixture
def site(tmp_path):
    """The page's folder, served, and its address."""
    folder = tmp_path / 'site'
    shutil.copytree(PAGE, folder)
    if not shutil.which('npm'):
        pytest.skip('there is no npm')
    done = subprocess.run(['make', '-C', folder], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f'onnxruntime-web cannot be had: {done.stderr.strip()}')
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f'http://127.0.0.1:{server.server_address[1]}/'
        server.shutdown()


DROP = """
fetch('a.jpg').then((response) => response.blob()).then((blob) => {
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([blob], 'a.jpg'));
  const event = new DragEvent('drop', { dataTransfer, bubbles: true, cancelable: true });
  document.getElementById('drop').dispatchEvent(event);
});
"""

CHOOSE = """
const point = document.getElementById('point');
document.getElementById('cost').textContent = '';
point.value = 1;
point.dispatchEvent(new Event('change'));
"""


@pytest.mark.slow
@pytest.mark.usefixtures('shallow')
def test_the_page_answers_a_dropped_image(browser, site):
    folder, address = site
    about = networks.exported('rsnet-sizes-w2a2', folder / 'net.onnx')
    image = animals28.SPEC.open('', 28).val.read(0)
    cv2.imwrite(str(folder / 'a.jpg'), image)
    image = cv2.imread(str(folder / 'a.jpg'))
    browser.call('POST', '/url', {'url': address})
    size = (folder / 'net.onnx').stat().st_size
    assert browser.text('file').startswith(f'net.onnx: {size:,} bytes, ')
    titles = browser.run('return [...document.getElementById("point").options].map((o) => o.text)')
    assert titles == [
        f'{point.point}, top-1 {point.top1:.2f} %, {point.madds / 1e6:.2f} M multiply-adds'
        for point in about.points
    ]
    for place, act in enumerate((DROP, CHOOSE)):
        browser.run(act)
        assert browser.text('cost').startswith(f'{titles[place]}, ')
        view = networks.seen(image, 'shift', 'area', about.points[place].side)
        (expected,) = networks.probabilities(folder / 'net.onnx', view[None], place)
        rows = browser.text('scores').splitlines()
        scores = [float(row.split('\t')[1].split()[0]) for row in rows]
        np.testing.assert_allclose(scores, 100 * np.sort(expected)[::-1][: len(rows)], atol=0.01)
        assert rows[0].startswith(f'class {expected.argmax()}\t')
    assert not browser.run('return document.getElementById("error").innerText')
