"""The training step of a float preact ResNet-18 in Keras 3, as its users would write it.

The work of ``peer_torch`` in a model that is compiled and trained on batches; the backend is that
of the environment, see ``turns`` for how it is asked.

    python -m scripts.bench.peer_keras --sizes 224 192 --batch 8 --dtype bf16
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from scripts.bench import peer_job, turns
from scripts.bench.peer_job import CLASSES, DECAY, RATE, WIDTHS

Layer = Callable[[Any], Any]


def conv(outputs: int, kernel: int, stride: int = 1) -> Any:
    """A convolution without bias, whose kernel decays.

    Args:
        outputs: channels.
        kernel: pixels on a side.
        stride: pixels.
    """
    return layers.Conv2D(
        outputs,
        kernel,
        stride,
        padding='same',
        use_bias=False,
        kernel_regularizer=keras.regularizers.L2(DECAY / 2),
    )


class Private:
    """Batch normalisation with variables of its own for every size."""

    def __init__(self, sizes: int):
        self._layers = [layers.BatchNormalization(momentum=0.9) for _ in range(sizes)]

    def __call__(self, x: Any, size: int) -> Any:
        """The normalised [N, H, W, C] of the size of a number."""
        return self._layers[size](x)


class Block:
    """Two 3x3 convolutions and a shortcut.

    Args:
        outputs: channels.
        stride: of the first convolution.
        sizes: number of them.
        first: whether it is the first of its group, whose input is activated already.
        project: whether the shortcut is a convolution.
    """

    def __init__(self, outputs: int, stride: int, sizes: int, first: bool, project: bool):
        self.before = None if first else Private(sizes)
        self.conv1 = conv(outputs, 3, stride)
        self.norm1 = Private(sizes)
        self.conv2 = conv(outputs, 3)
        self.norm2 = Private(sizes)
        self.shortcut = None
        if project:
            self.shortcut = conv(outputs, 1, stride)
            self.shortcut_norm = Private(sizes)

    def __call__(self, x: Any, size: int) -> Any:
        """The output [N, H, W, C] at the size of a number."""
        y = x
        if self.before is not None:
            y = ops.relu(self.before(x, size))
        y = ops.relu(self.norm1(self.conv1(y), size))
        y = self.norm2(self.conv2(y), size)
        if self.shortcut is not None:
            x = self.shortcut_norm(self.shortcut(x), size)
        return y + x


class Net:
    """The network of some number of sizes."""

    def __init__(self, sizes: int):
        self.stem = conv(WIDTHS[0], 7, 2)
        self.stem_norm = Private(sizes)
        self.groups = []
        self.last = []
        for number, width in enumerate(WIDTHS):
            stride = 2 if number else 1
            first = Block(width, stride, sizes, True, bool(number))
            self.groups.append([first, Block(width, 1, sizes, False, False)])
            self.last.append(Private(sizes))
        decay = keras.regularizers.L2(DECAY / 2)
        self.head = layers.Dense(CLASSES, dtype='float32', kernel_regularizer=decay)

    def __call__(self, x: Any, size: int) -> Any:
        """Logits [N, classes] of images of the size of a number."""
        x = ops.relu(self.stem_norm(self.stem(x), size))
        x = layers.MaxPooling2D(3, 2, padding='same')(x)
        for blocks, last in zip(self.groups, self.last):
            for block in blocks:
                x = block(x, size)
            x = ops.relu(last(x, size))
        return self.head(ops.mean(ops.cast(x, 'float32'), axis=(1, 2)))


class Ensemble(layers.Layer):
    """Learned mean of the logits of all sizes, which get no gradient."""

    def build(self, shapes: Sequence[Any]) -> None:
        """The variable."""
        self.alpha = self.add_weight(shape=(len(shapes),), initializer='ones', name='alpha')

    def call(self, logits: Sequence[Any]) -> Any:
        """The mean [N, classes]."""
        weights = ops.softmax(self.alpha)
        terms = []
        for number, one in enumerate(logits):
            terms.append(weights[number] * ops.stop_gradient(one))
        return sum(terms)


def cross_entropy(labels: Any, logits: Any) -> Any:
    """Batch mean of the cross entropy of [N, classes] with labels [N]."""
    each = ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    return ops.mean(each)


def soft_cross_entropy(teacher: Any, student: Any) -> Any:
    """Of logits [N, classes] with the softmax of a teacher's, which get no gradient."""
    targets = ops.softmax(ops.stop_gradient(teacher))
    return ops.mean(ops.categorical_crossentropy(targets, student, from_logits=True))


def loss(labels: Any, found: Any) -> Any:
    """The loss without weight decay of logits [N, S + 1, classes], the last the ensemble's.

    Without an ensemble they are [N, 1, classes].
    """
    *logits, last = ops.unstack(found, axis=1)
    hard = cross_entropy(labels, last)
    if not logits:
        return hard
    terms = [soft_cross_entropy(last, one) for one in logits]
    for number, student in enumerate(logits):
        hard = hard + cross_entropy(labels, student)
        for teacher in logits[:number]:
            terms.append(soft_cross_entropy(teacher, student))
    return hard + sum(terms) / len(terms) * len(logits)


def network(sizes: Sequence[int]) -> Any:
    """The model from images of the largest size to logits as ``loss`` takes them."""
    side = sizes[0]
    images = keras.Input((side, side, 3))
    net = Net(len(sizes))
    logits = []
    for number, size in enumerate(sizes):
        view = images
        if number:
            view = layers.Resizing(size, size, interpolation='nearest')(images)
        logits.append(net(view, number))
    if len(sizes) > 1:
        logits.append(Ensemble(dtype='float32')(logits))
    return keras.Model(images, ops.stack(logits, axis=1))


def prepared(args: argparse.Namespace) -> tuple[Mapping[str, Any], Callable[[], Any]]:
    """Version and number of parameters, and the step of these flags."""
    keras.utils.set_random_seed(0)
    if args.dtype == 'bf16':
        keras.config.set_dtype_policy('mixed_bfloat16')
    model = network(args.sizes)
    optimizer = keras.optimizers.SGD(RATE, momentum=0.9, nesterov=True)
    model.compile(optimizer, loss, jit_compile=args.compile)
    rng = np.random.default_rng(0)
    side = args.sizes[0]
    pixels = rng.integers(256, size=(args.batch, side, side, 3))
    images = ((pixels / 255 - 0.45) / 0.225).astype(np.float32)
    labels = rng.integers(CLASSES, size=args.batch)
    sizes = [np.prod(variable.shape) for variable in model.trainable_variables]
    about = {
        'version': f'Keras {keras.__version__} on {keras.config.backend()}',
        'parameters': int(sum(sizes)),
    }
    return about, lambda: model.train_on_batch(images, labels)


def main(argv: Sequence[str]) -> None:
    """Serves the step that the flags name."""
    args = peer_job.flags().parse_args(argv)
    turns.serve(lambda: prepared(args))


if __name__ == '__main__':
    main(sys.argv[1:])
