"""Several machines: two workers in one process, real trainings of two processes, lost workers."""

import dataclasses
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import imagenet_tf
from engine.config.cli import parse, peers
from engine.config.config import Config
from engine.data.datasets import open_dataset
from engine.data.sources import ArraySource
from engine.errors import Terminated, UsageError, WorkerError
from engine.evaluation.evaluate import eval_flow
from engine.optimization.optimizers import OptimizerOptions
from engine.optimization.rule import PerVariable, RuleOptimizer
from engine.runs.folder import checkpoints
from engine.training import cluster, signals, train
from quant.backend import tf
from tests.checkpoints import values
from tests.engine.data.ilsvrc import make_tree

ROOT = Path(imagenet_tf.__file__).parent
CONFIG = Config.from_values(
    data='fake',
    arch='resnet8',
    sizes=(16,),
    image_size=16,
    classes=10,
    batch_size=8,
    steps_per_epoch=3,
)
TIMEOUT = 5.0


def addresses() -> tuple[str, str]:
    """Two free ports of this machine."""
    sockets = [socket.socket() for _ in range(2)]
    for each in sockets:
        each.bind(('localhost', 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return f'localhost:{ports[0]}', f'localhost:{ports[1]}'


@pytest.fixture(scope='module')
def dataset():
    return open_dataset('fake', size=16)


@pytest.fixture
def pair(dataset):
    """Two workers that have met."""
    hosts = addresses()
    workers = [cluster.WorkerGroup(hosts, index, TIMEOUT) for index in (0, 1)]
    steps = both(
        workers, lambda worker: worker.start(CONFIG, dataset, 6 if worker.first else 0, {})
    )
    assert steps == [6, 6]
    return workers


def both(workers, function) -> list:
    """Results of ``function(worker)``, or its error on either, as in processes of their own."""
    with ThreadPoolExecutor(len(workers)) as pool:
        return [future.result() for future in [pool.submit(function, worker) for worker in workers]]


def test_all_take_what_the_folder_of_the_first_one_recorded(pair):
    """Its schedule, and not where its files and devices are."""
    recorded = CONFIG.replacing(absolute=True, milestones=(2.5, 7.0), warmup=0.3)
    own = CONFIG.replacing(gpu=(3,), data='elsewhere')
    found = both(pair, lambda worker: worker.agree(recorded if worker.first else own))
    assert found == [recorded, recorded.replacing(gpu=(3,), data='elsewhere')]


def test_sums_are_those_of_all_workers_by_type(pair):
    rng = np.random.default_rng(0)
    values = [
        [
            rng.normal(size=(2, 3)).astype('float32'),
            rng.normal(size=4),
            np.float32(worker),
            np.zeros(0, 'float32'),
        ]
        for worker in (0, 1)
    ]

    def total(worker):
        with tf.Graph().as_default() as graph:
            sums = worker.sum([tf.constant(value) for value in values[worker.index]])
            return cluster.WorkerSession(worker, graph).run(sums)

    for found in both(pair, total):
        for got, first, second in zip(found, *values, strict=True):
            np.testing.assert_array_equal(got, first + second)


def test_rows_of_arrays_come_together_in_the_order_of_the_workers(pair):
    """To the bit, and from workers that have none."""
    rng = np.random.default_rng(1)
    rows = [[rng.normal(size=(2, 3)), np.array(1 / 3 + row)] for row in range(12)]
    rows[2][0] = np.full((0, 3), np.nan)
    for first in (5, 12):
        own = rows[:first], rows[first:]
        for found in both(pair, lambda worker, own=own: worker.collect(own[worker.index])):
            assert len(found) == len(rows)
            for row, expected in zip(found, rows):
                for array, other in zip(row, expected, strict=True):
                    assert (array.shape, array.tobytes()) == (other.shape, other.tobytes())


@pytest.mark.parametrize('images', [3, 20, 21, 45])
@pytest.mark.parametrize('parts', [1, 2, 5])
def test_the_parts_of_an_evaluation_are_the_batches_of_one(parts, images, dataset):
    few = dataclasses.replace(dataset, val=ArraySource(*some_images(images)))

    def batches(part, parts):
        worker = SimpleNamespace(index=part, size=parts)
        flow = eval_flow(CONFIG, few, 0, batch_size=4, worker=worker)
        found = list(flow)
        assert len(found) == len(flow)
        return found

    whole = batches(0, 1)
    split = [batch for part in range(parts) for batch in batches(part, parts)]
    assert len(split) == len(whole)
    for found, expected in zip(split, whole):
        for array, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(array, other)


def some_images(count):
    pixels = np.random.default_rng(0).integers(256, size=(count, 16, 16, 3), dtype=np.uint8)
    return pixels, np.arange(count) % 10


def test_variables_become_those_of_the_first_worker(pair):
    def spread(worker):
        with tf.Graph().as_default() as graph:
            variables = [
                tf.get_variable('w', initializer=np.full((2, 3), 1.5 + worker.index, 'float32')),
                tf.get_variable('step', initializer=np.int64(7 + worker.index)),
            ]
            op = worker.broadcast(variables)
            session = cluster.WorkerSession(worker, graph)
            session.run(tf.global_variables_initializer())
            session.run(op)
            return session.run(variables)

    for weights, step in both(pair, spread):
        assert step == 7 and (weights == 1.5).all()


def test_gradients_are_averaged_once_for_all_towers_of_a_machine(pair):
    rule = OptimizerOptions(momentum=0.0, nesterov=False).rule()

    def step(worker):
        with tf.Graph().as_default() as graph:
            optimizer = RuleOptimizer(
                rule,
                tf.constant(1.0),
                count=lambda: tf.constant(1),
                settings=lambda _: PerVariable(),
                mean=worker.mean,
            )
            towers = [tf.get_variable(name, initializer=[0.0]) for name in 'ab']
            gradient = tf.constant([2.0 * worker.index])
            updates = [optimizer.apply_gradients([(gradient, tower)]) for tower in towers]
            assert len([op for op in graph.get_operations() if op.type == 'CollectiveReduce']) == 1
            session = cluster.WorkerSession(worker, graph)
            session.run(tf.global_variables_initializer())
            session.run(updates)
            return session.run(towers)

    for towers in both(pair, step):
        assert [tower.tolist() for tower in towers] == [[-1.0], [-1.0]]


def test_a_difference_is_named_on_every_worker(pair):
    def compare(worker):
        with pytest.raises(KeyError, match='b 1'):
            worker.compare(
                {'a': 5, 'b': worker.index}, lambda name, there: KeyError(f'{name} {there}')
            )
        worker.compare({'a': 5, 'b': 6}, lambda *_: KeyError)

    both(pair, compare)


@pytest.mark.parametrize('asked', [0, 1])
def test_a_signal_during_the_last_evaluation_stops_both(asked, pair):
    def end(worker):
        with tf.Graph().as_default() as graph:
            stop = signals.StopOnSignal(worker)
            stop._setup_graph()
            stop.trainer = SimpleNamespace(sess=cluster.WorkerSession(worker, graph), global_step=6)
            stop._trigger_epoch()
            stop.end()
            if worker.index == asked:
                stop._note(signal.SIGTERM, None)
            stop._trigger_epoch()
            with pytest.raises(Terminated):
                stop.end()

    both(pair, end)


def test_the_first_worker_settles_how_quantizers_are_computed(dataset):
    hosts = addresses()
    workers = [cluster.WorkerGroup(hosts, index, TIMEOUT) for index in (0, 1)]

    def start(worker):
        config = CONFIG.replacing(native='require' if worker.first else 'off')
        worker.start(config, dataset, 0, {})
        return worker.agree(config).native

    assert both(workers, start) == ['require', 'require']


@pytest.mark.parametrize('change, flag', [({'lr': 0.5}, '--lr'), ({'gpu': (0, 1)}, '--gpu')])
def test_workers_with_different_flags_do_not_start(change, flag, dataset):
    hosts = addresses()
    workers = [cluster.WorkerGroup(hosts, index, TIMEOUT) for index in (0, 1)]

    def start(worker):
        with pytest.raises(UsageError, match=f'^{flag}: differs between worker 0 and worker 1'):
            worker.start(CONFIG if worker.first else CONFIG.replacing(**change), dataset, 0, {})

    both(workers, start)


def test_paths_and_numbers_of_gpus_belong_to_the_machine(dataset):
    hosts = addresses()
    workers = [cluster.WorkerGroup(hosts, index, TIMEOUT) for index in (0, 1)]
    assert both(
        workers,
        lambda worker: worker.start(
            CONFIG.replacing(gpu=(worker.index,), load=str(worker.index), data=f'/{worker.index}'),
            dataset,
            0,
            {},
        ),
    ) == [0, 0]


def test_waiting_for_a_slow_worker_takes_as_long_as_it_needs(pair):
    def work(worker):
        started = time.monotonic()
        with worker.barrier():
            time.sleep(0 if worker.first else TIMEOUT + 2)
        return time.monotonic() - started

    assert all(TIMEOUT + 2 <= seconds < TIMEOUT + 6 for seconds in both(pair, work))


def test_a_worker_that_hangs_ends_the_other_within_the_timeout(pair):
    started = time.monotonic()
    with pytest.raises(
        WorkerError, match=r'worker 0: another worker died, hangs .*--worker-timeout 5'
    ):
        pair[0].gather([1])
    assert TIMEOUT <= time.monotonic() - started < TIMEOUT + 5
    assert isinstance(pair[0].failure, WorkerError)


def test_an_error_before_a_barrier_comes_through_at_once_and_ends_the_other_worker(pair):
    def work(worker):
        if worker.first:
            with pytest.raises(WorkerError), worker.barrier():
                pass
            return
        started = time.monotonic()
        with pytest.raises(ZeroDivisionError), worker.barrier():
            raise ZeroDivisionError
        assert time.monotonic() - started < TIMEOUT / 2

    both(pair, work)


def test_for_whom_a_worker_waits_is_told_once(monkeypatch, capsys):
    monkeypatch.setattr(cluster, 'PATIENCE', 0.5)
    monkeypatch.setattr(cluster, 'START', 2.0)
    worker = cluster.WorkerGroup(addresses(), 0, 1.0)
    with pytest.raises(WorkerError, match='worker 1 did not come up'):
        worker._wait_for(1, worker.hosts[1])
    assert re.fullmatch(
        f'waiting for worker 1 at {worker.hosts[1]} .*refused.*\n', capsys.readouterr().out
    )


def test_a_worker_that_never_comes_is_named(dataset, monkeypatch):
    monkeypatch.setattr(cluster, 'START', 1.0)
    hosts = addresses()
    with pytest.raises(WorkerError, match=f'worker 1 did not come up at {hosts[1]} within 1 s '):
        cluster.WorkerGroup(hosts, 0, 1.0).start(CONFIG, dataset, 0, {})


def test_a_port_in_use_is_a_usage_error(pair, dataset):
    with pytest.raises(
        UsageError, match=f'--workers {pair[0].hosts[1]}: this port cannot be opened'
    ):
        cluster.WorkerGroup(pair[0].hosts, 1, TIMEOUT).start(CONFIG, dataset, 0, {})


def test_one_machine_needs_nobody(dataset):
    worker = cluster.join(None)
    assert (worker.index, worker.size, worker.first) == (0, 1, True)
    assert worker.start(CONFIG, dataset, 4, {}) == 4
    tensors = [tf.constant(1.0)]
    assert worker.sum(tensors) == worker.mean(tensors) == tensors and worker.callbacks == []
    with worker.barrier():
        pass


@pytest.mark.parametrize('parts', [1, 2, 4])
def test_the_parts_of_the_machines_make_the_batches_of_one(parts, dataset):
    def batches(part, parts):
        flow = iter(
            train.train_flow(CONFIG, dataset, start_step=2, threads=0, part=part, parts=parts)
        )
        return [next(flow) for _ in range(70)]

    whole, split = batches(0, 1), [batches(part, parts) for part in range(parts)]
    for step, batch in enumerate(whole):
        for column, array in enumerate(batch):
            np.testing.assert_array_equal(
                np.concatenate([part[step][column] for part in split]), array
            )


HOSTS = ['--workers', 'a:1,b:2']


@pytest.mark.parametrize(
    'flags, message',
    [
        (['--worker-index', '0'], '--worker-index 0: needs --workers'),
        (['--worker-timeout', '9'], '--worker-timeout 9.0: needs --workers'),
        (['--workers', 'a:1', '--worker-index', '0'], '--workers a:1: expected at least two'),
        (['--workers', 'a:1,a:1', '--worker-index', '0'], 'expected at least two, each once'),
        (['--workers', 'a:1,b', '--worker-index', '0'], "'b' is no host:port"),
        (['--workers', '4', '--worker-index', '0'], "'4' is no host:port"),
        (['--workers', 'a:1,b:0', '--worker-index', '0'], "'b:0' is no host:port"),
        (['--workers', 'a:1,:7', '--worker-index', '0'], "':7' is no host:port"),
        (['--workers', 'a:1,b:65536', '--worker-index', '0'], "'b:65536' is no host:port"),
        (HOSTS, '--worker-index None: must be 0 to 1'),
        ([*HOSTS, '--worker-index', '2'], '--worker-index 2: must be 0 to 1'),
        ([*HOSTS, '--worker-index', '-1'], '--worker_index -1: must be at least 0'),
        (
            [*HOSTS, '--worker-index', '0', '--worker-timeout', '1'],
            '--worker_timeout 1: must be at least 5',
        ),
        (
            [*HOSTS, '--worker-index', '0', '--worker-timeout', 'nan'],
            '--worker_timeout nan: must be a finite number at least 5',
        ),
    ],
)
def test_flags_that_cannot_work(flags, message):
    with pytest.raises(UsageError) as caught:
        peers(parse(flags))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    'flags, message',
    [
        (
            ['--batch-size', '9'],
            '--batch_size 9: not divisible by the 2 --workers times 1 tower of --gpu',
        ),
        (
            ['--batch-size', '6', '--gpu', '0,1'],
            '--batch_size 6: not divisible by the 2 --workers times 2 towers',
        ),
        (
            ['--batch-size', '2', '--mixup', '0.2'],
            '--batch_size 2 with --mixup or --cutmix: each of the 2 --workers times 1 tower',
        ),
        (
            ['--eval', '-ec', 'run', '--thresholds', 'x.json'],
            '--thresholds with --workers a:1,b:2: one machine measures that',
        ),
    ],
)
def test_flags_that_do_not_go_with_several_machines(flags, message, capsys):
    assert (
        imagenet_tf.main(
            ['--fake', '--sizes', '16', '-d', '8', *HOSTS, '--worker-index', '1', *flags]
        )
        == 2
    )
    assert message in capsys.readouterr().err


def test_the_flags_of_two_machines():
    assert peers(parse([])) is None
    assert peers(parse([*HOSTS, '--worker-index', '1'])) == (('a:1', 'b:2'), 1, 120.0)
    flags = ['--workers', '[::1]:7,b:8', '--worker-index', '0', '--worker-timeout', '30']
    assert peers(parse(flags)) == (('[::1]:7', 'b:8'), 0, 30.0)


TINY = [
    *shlex.split(
        '-d 8 --mode preact --sizes 16 --qw 2 --qa 2 --batch-size '
        '8 --epochs 3 --steps-per-epoch 3 --threads 0'
    )
]


def start(*flags, data: Path | str = 'fake') -> subprocess.Popen:
    return subprocess.Popen(
        [
            sys.executable,
            str(ROOT / 'imagenet_tf.py'),
            '--data',
            str(data),
            *TINY,
            *map(str, flags),
        ],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=ROOT,
    )


def start_both(
    folder: Path, *flags, data: Sequence[Path | str] = ('fake', 'fake')
) -> list[subprocess.Popen]:
    """Two workers; ``folder`` is the run folder of the first, the other must not make its own."""
    hosts = ','.join(addresses())
    return [
        start(
            '--logdir',
            folder if index == 0 else folder / 'none',
            '--workers',
            hosts,
            '--worker-index',
            index,
            '--worker-timeout',
            40,
            *flags,
            data=data[index],
        )
        for index in (0, 1)
    ]


def finish(*processes: subprocess.Popen) -> list[str]:
    """Their outputs, all of them having ended well."""
    with ThreadPoolExecutor(len(processes)) as pool:
        outputs = list(pool.map(lambda process: process.communicate()[0], processes))
    assert [process.returncode for process in processes] == [0] * len(processes), outputs
    return outputs


@pytest.mark.slow
def test_two_machines_with_two_towers_each_compute_what_one_with_four_does(tmp_path):
    one, two = tmp_path / 'one', tmp_path / 'two'
    flags = ['--epochs', 1, '--steps-per-epoch', 2]
    finish(start('--logdir', one, '--gpu', '0,1,2,3', *flags))
    finish(*start_both(two, '--gpu', '0,1', *flags))
    expected, found = values(one / 'model-2'), values(two / 'model-2')
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=2e-6, err_msg=name)
    assert not (two / 'none').exists()


@pytest.fixture(scope='module')
def whole(tmp_path_factory) -> Path:
    """A run of two workers that nothing interrupts."""
    folder = tmp_path_factory.mktemp('whole') / 'run'
    finish(*start_both(folder))
    return folder


def hurt(run: Path, worker: int, number: int) -> tuple[list[subprocess.Popen], float]:
    """Two workers, one of which got a signal after the first epoch, and when."""
    workers = start_both(run)
    while workers[0].poll() is None and not (run / 'stats.json').exists():
        time.sleep(0.02)
    workers[worker].send_signal(number)
    return workers, time.monotonic()


def assert_resumed(run: Path, whole: Path) -> None:
    assert not (run / 'model-9.index').exists()
    outputs = finish(*start_both(run))
    assert 'resuming at step' in outputs[0]
    expected, found = values(whole / 'model-9'), values(run / 'model-9')
    assert expected.keys() == found.keys()
    assert [name for name in expected if not np.array_equal(expected[name], found[name])] == []
    assert [row['epoch_num'] for row in json.loads((run / 'stats.json').read_text())] == [1, 2, 3]
    assert not (run / 'none').exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    'lost, number', [(1, signal.SIGKILL), (0, signal.SIGKILL), (1, signal.SIGSTOP)]
)
def test_a_worker_that_dies_or_hangs_stops_the_other_and_both_resume_exactly(
    lost, number, whole, tmp_path
):
    workers, then = hurt(tmp_path / 'run', lost, number)
    output, _ = workers[1 - lost].communicate()
    assert time.monotonic() - then < 40 + 30, output
    workers[lost].kill()
    workers[lost].communicate()
    assert workers[1 - lost].returncode == os.EX_TEMPFAIL, output
    # TensorFlow's own log goes on after it.
    (message,) = (line for line in output.splitlines() if line.startswith('imagenet_tf.py: '))
    assert (
        f'worker {1 - lost}: another worker died' in message
        and 'resumes from the last checkpoint' in message
    )
    assert 'Traceback' not in output
    assert_resumed(tmp_path / 'run', whole)


@pytest.mark.slow
@pytest.mark.parametrize('asked', [0, 1])
def test_a_worker_that_is_terminated_stops_both_after_the_same_step(asked, whole, tmp_path):
    run = tmp_path / 'run'
    workers, _ = hurt(run, asked, signal.SIGTERM)
    outputs = [worker.communicate()[0] for worker in workers]
    message = f'terminated; the same command resumes at step {max(checkpoints(run))}'
    assert all(message in output and 'Traceback' not in output for output in outputs), outputs
    assert [worker.returncode for worker in workers] == [143, 143]
    assert_resumed(run, whole)


@pytest.mark.slow
def test_bad_data_of_one_worker_are_named_there(tmp_path):
    for name in ('0', '1'):
        make_tree(tmp_path / name, train=8, edges=(40, 40))
    for path in sorted((tmp_path / '1' / 'train').rglob('*.JPEG'))[::3]:
        path.write_bytes(path.read_bytes()[:200])
    workers = start_both(
        tmp_path / 'run',
        '--resize',
        'nearest',
        '--image_size',
        '32',
        '--sizes',
        '32',
        data=[tmp_path / '0', tmp_path / '1'],
    )
    outputs = [worker.communicate()[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [os.EX_TEMPFAIL, 2], outputs
    assert re.search(
        'imagenet_tf.py: error: .* training images cannot be decoded, --max_bad 0.001', outputs[1]
    )


@pytest.fixture(scope='module')
def scored(tmp_path_factory) -> Path:
    """A run of one machine, which has scored its data in the end."""
    folder = tmp_path_factory.mktemp('scored') / 'run'
    finish(start('--logdir', folder, data='animals28'))
    return folder


def evaluate(run: Path, *flags) -> subprocess.Popen:
    line = [sys.executable, str(ROOT / 'imagenet_tf.py'), '--eval', '-ec', str(run), '--threads', 1]
    line += flags
    return subprocess.Popen(
        list(map(str, line)), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=ROOT
    )


def evaluate_together(run: Path, logdir: Path, timeout: int = 40) -> list[subprocess.Popen]:
    hosts = ','.join(addresses())
    processes = []
    for index in (0, 1):
        own = logdir if index == 0 else logdir / 'none'
        flags = ['--logdir', own, '--workers', hosts, '--worker-index', index]
        processes.append(evaluate(run, *flags, '--worker-timeout', timeout))
    return processes


def digits(folder: Path) -> dict[str, tuple[float, float, int]]:
    found = {}
    for path in folder.glob('eval/*.json'):
        record = json.loads(path.read_text())
        found[path.name] = record['top1'], record['top5'], record['images']
    return found


@pytest.mark.slow
def test_two_machines_evaluate_to_the_digits_of_one(scored, tmp_path):
    finish(evaluate(scored, '--logdir', tmp_path / 'one'))
    outputs = finish(*evaluate_together(scored, tmp_path / 'two'))
    assert digits(tmp_path / 'two') == digits(tmp_path / 'one') != {}
    assert 'worker 1 of 2 has scored its part' in outputs[1]
    assert not (tmp_path / 'two' / 'none').exists()


@pytest.mark.slow
def test_an_evaluation_without_its_other_worker_says_so(scored, tmp_path):
    workers = evaluate_together(scored, tmp_path / 'run', timeout=5)
    for text in iter(workers[1].stdout.readline, ''):
        if text.startswith('evaluating') or 'threads:' in text:
            break
    time.sleep(3)
    workers[1].kill()
    output, _ = workers[0].communicate()
    workers[1].communicate()
    assert workers[0].returncode == os.EX_TEMPFAIL, output
    assert 'The same command on all workers evaluates again' in output
    assert 'Traceback' not in output
