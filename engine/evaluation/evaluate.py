"""Evaluation: all operating points in one pass over the validation set."""

import dataclasses
import queue
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeAlias

import numpy as np
from tensorpack.predict import OnlinePredictor
from tensorpack.tfutils.sesscreate import NewSessionCreator
from tensorpack.tfutils.tower import PredictTowerContext

from engine.config.config import Config
from engine.console import Progress
from engine.data.batches import EvalFlow
from engine.data.sources import Subset
from engine.data.spec import Dataset
from engine.errors import UsageError
from engine.graph.sessions import session_config
from engine.graph.tower import Model
from engine.graph.worker import SingleWorker
from engine.quantities import counted
from engine.runs import checkpoint
from nets.network import Network
from quant.backend import new_graph, tf

BATCH_SIZE = 100

ALONE = SingleWorker()

# Images and labels of a batch -> arrays in the order of ``Model.fetches``.
Predictor: TypeAlias = Callable[..., Sequence[np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Score:
    """The result of a pass over images.

    Attributes:
        correct: [rows, 2] float64: how many answers were right at the first guess, and among five.
        accumulators: what the network adds up, by name.
        per_image: what the network keeps of every image, by name; images first.
        images, seconds: number and wall time.
        losses: [rows] float64: mean cross entropy; None: not measured.
        answers: [images, rows] int64: the class that an image was taken for; None: not kept.
        labels: [images] int64: the class that it is of; None: not kept.
    """

    correct: np.ndarray
    accumulators: dict[str, np.ndarray]
    per_image: dict[str, np.ndarray]
    images: int
    seconds: float
    losses: np.ndarray | None = None
    answers: np.ndarray | None = None
    labels: np.ndarray | None = None


class _Pool:
    """Predictors that work side by side: a batch waits until one of them is idle."""

    def __init__(self, predictors: Sequence[Predictor]):
        self._idle: queue.Queue[Predictor] = queue.Queue()
        for predictor in predictors:
            self._idle.put(predictor)

    def run(self, batch: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The results for images and labels, as float64.

        Raises:
            UsageError: the batch is too large for the device.
        """
        predictor = self._idle.get()
        try:
            arrays = predictor(*batch)
        except tf.errors.ResourceExhaustedError as error:
            raise UsageError(
                f'evaluation: a batch of {counted(len(batch[-1]), "image")} does not fit into the '
                'memory of the device; --eval with -es takes one size at a time, fewer --sizes '
                'take less'
            ) from error
        finally:
            self._idle.put(predictor)
        return [np.asarray(array, np.float64) for array in arrays]


def score(
    predictors: Sequence[Predictor],
    batches: Iterable[Sequence[np.ndarray]],
    total: int,
    net: Network,
    first: str = '',
) -> Score:
    """Runs every batch through one of the predictors, which work side by side.

    Args:
        predictors: one per device.
        batches: images and labels.
        total: number of images.
        net: tells what the results are.
        first: name of the first row, for the progress that is shown.
    """
    started = time.perf_counter()
    images = 0

    def counted() -> Iterator[Sequence[np.ndarray]]:
        nonlocal images
        for batch in batches:
            images += len(batch[-1])
            yield batch

    results = run_batches(predictors, counted(), total, first)
    return _score(results, net, images, time.perf_counter() - started)


def run_batches(
    predictors: Sequence[Predictor],
    batches: Iterable[Sequence[np.ndarray]],
    total: int,
    first: str = '',
) -> list[list[np.ndarray]]:
    """Runs batches; returns arrays in the order of ``Model.fetches`` for each of them.

    Args:
        predictors: one per device.
        batches: images and labels.
        total: number of images.
        first: name of the first row, for the progress that is shown.
    """
    pool = _Pool(predictors)
    results: list[list[np.ndarray]] = []
    waiting: list[tuple[int, Future[list[np.ndarray]]]] = []
    right = 0.0
    with (
        ThreadPoolExecutor(len(predictors)) as threads,
        Progress('evaluating', total, 'images') as progress,
    ):

        def finish() -> None:
            """Waits for the oldest batch."""
            nonlocal right
            images, future = waiting.pop(0)
            results.append(future.result())
            right += results[-1][0][0, 0]
            progress.note(f'top-1 {first} {100 * right / (progress.n + images):.2f} %')
            progress.update(images)

        for batch in batches:
            waiting.append((len(batch[-1]), threads.submit(pool.run, batch)))
            if len(waiting) > len(predictors):
                finish()
        while waiting:
            finish()
    return results


def _score(
    results: Sequence[Sequence[np.ndarray]], net: Network, images: int, seconds: float
) -> Score:
    """Adds up what is added up over the batches, and joins what is kept per image.

    Args:
        results: arrays by batch, in the order of ``Model.fetches``.
        net: tells what they are.
        images: number of images.
        seconds: wall time.
    """
    correct, *extras = zip(*results)
    summed = len(net.accumulator_names)
    accumulators = {}
    for name, arrays in zip(net.accumulator_names, extras[:summed]):
        accumulators[name] = np.sum(arrays, axis=0)
    per_image = {}
    for name, arrays in zip(net.per_image_names, extras[summed:]):
        per_image[name] = np.concatenate(arrays)
    found = Score(np.sum(correct, axis=0), accumulators, per_image, images, seconds)
    rest = extras[summed + len(net.per_image_names) :]
    if not rest:
        return found
    losses, answers, labels = rest
    return dataclasses.replace(
        found,
        losses=np.sum(losses, axis=0) / images,
        answers=np.concatenate(answers).astype(np.int64),
        labels=np.concatenate(labels).astype(np.int64),
    )


def eval_flow(
    config: Config,
    dataset: Dataset,
    threads: int,
    *,
    batch_size: int = BATCH_SIZE,
    worker: SingleWorker = ALONE,
) -> EvalFlow:
    """The images that are scored, as a model takes them: held out ones if it is to be chosen.

    Args:
        config: of the model.
        dataset: data set.
        threads: decoding threads.
        batch_size: images of a batch.
        worker: this process among those that share the batches.
    """
    held = dataset.holdout
    if config.score_holdout and held is not None:
        dataset = dataclasses.replace(dataset, val=held)
    if worker.size > 1:
        part = Subset(dataset.val, _part(len(dataset.val), batch_size, worker))
        dataset = dataclasses.replace(dataset, val=part)
    return EvalFlow(dataset, config.preprocessing, batch_size=batch_size, threads=threads)


def _part(images: int, batch_size: int, worker: SingleWorker) -> np.ndarray:
    """Numbers of the images that a worker scores: whole batches, as one machine has them.

    Args:
        images: of all workers.
        batch_size: images of a batch.
        worker: this process.
    """
    batches = -(-images // batch_size)
    first = batches * worker.index // worker.size
    end = batches * (worker.index + 1) // worker.size
    return np.arange(first * batch_size, min(end * batch_size, images))


def first_images(config: Config, dataset: Dataset, count: int) -> list[np.ndarray]:
    """The first validation images, uint8 [count, H, H, 3] by view size.

    Args:
        config: of the model that takes them.
        dataset: data set.
        count: how many, or all that there are.
    """
    batches = eval_flow(config, dataset, 0, batch_size=min(count, len(dataset.val)))
    *images, _ = next(iter(batches))
    return images


def predictors(model: Model, values: Mapping[str, np.ndarray]) -> list[Predictor]:
    """One predictor per GPU of the configuration in the current graph, all with these variables."""
    towers = [_tower(model, device) for device in range(len(model.config.gpu))]
    creator = NewSessionCreator()
    creator.config = session_config(model.config, len(towers))
    session = creator.create_session()
    checkpoint.Restore(values).init(session)
    return [OnlinePredictor(feeds, fetches, sess=session) for feeds, fetches in towers]


def _tower(model: Model, device: int) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    """Inputs and outputs of an inference tower, whose variables are those of the first one."""
    with (
        tf.device(f'/gpu:{device}'),
        tf.variable_scope(tf.get_variable_scope(), reuse=device > 0),
        PredictTowerContext(f'tower{device}'),
    ):
        feeds = [tf.placeholder(spec.dtype, spec.shape, spec.name) for spec in model.inputs()]
        model.build_graph(*feeds)
    tensor = tf.get_default_graph().get_tensor_by_name
    return feeds, [tensor(f'tower{device}/{name}:0') for name in model.fetches]


def evaluate(
    model: Model,
    values: Mapping[str, np.ndarray],
    dataset: Dataset,
    *,
    threads: int,
    passes: int = 1,
    worker: SingleWorker = ALONE,
) -> list[Score]:
    """Scores all points of ``model`` on the whole validation set, split over workers and GPUs.

    Batches are those of a single worker, and every worker adds them up in the same order.

    Args:
        model: the network.
        values: its variables by name.
        dataset: data set.
        threads: decoding threads.
        passes: over the images; they differ by what the network draws.
        worker: this process among those that evaluate together.

    Raises:
        WorkerError: another worker is gone.
    """
    scores = []
    with new_graph():
        tf.set_random_seed(model.config.seed)
        towers = predictors(model, values)
        images = len(eval_flow(model.config, dataset, threads).source)
        batches = eval_flow(model.config, dataset, threads, worker=worker)
        for _ in range(passes):
            started = time.perf_counter()
            with worker.barrier():
                results = run_batches(towers, batches, len(batches.source), model.names[0])
            results = worker.collect(results)
            seconds = time.perf_counter() - started
            scores.append(_score(results, model.net, images, seconds))
    return scores
