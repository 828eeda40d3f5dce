"""Programs as TensorFlow graphs of plain operations, NHWC, with weights as float32 constants.

Everything here is something that converters to other formats take: no operation that only
TensorFlow has, no padding of its own in a convolution, no fused normalisation.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from engine.deployment import choices, program, tf_choices
from engine.deployment.choices import Choose
from engine.deployment.program import Operation, Part, Program
from engine.deployment.regions import Region, reads, regions
from engine.deployment.tf_choices import Values
from engine.deployment.tf_steps import step_function
from engine.graph.freeze import Frozen, Signature
from engine.processor import cores
from nets.losses import log_confidence
from quant.backend import has_gpu, new_graph, tf

# Channels from which on arithmetic by channel is fast; with fewer, as images have, rows of pixels
# are computed as one, which takes a third.
_MANY_CHANNELS = 16

_ARITHMETIC: Mapping[str, Callable[[Any, Any], tf.Tensor]] = {
    'add': lambda x, y: x + y,
    'subtract': lambda x, y: x - y,
    'multiply': lambda x, y: x * y,
    'divide': lambda x, y: x / y,
}


def graph_of(
    whole: Program, points: Sequence[str], *, batch: int | None = None, telling: bool = False
) -> Frozen:
    """Operating points in one graph: a part for each, uint8 images -> logits [N, classes].

    ``graph_of(whole, [point]).runs(threads)`` gives the function of that point.

    Args:
        whole: the program.
        points: spellings, in the order of the parts.
        batch: N; None for any. One image alone needs other nodes than a batch where it is chosen
            what is executed.
        telling: whether the logits are followed by the number [N] of each choice.
    """
    with new_graph() as graph:
        writer = Writer(whole, points, telling=telling)
        signatures = []
        for point in points:
            side = whole.points[point].side
            shape = [batch, side, side, whole.points[point].channels]
            images = tf.placeholder(tf.uint8, shape, f'{point}/images')
            found = [tf.identity(one) for one in writer.answers(point, images)]
            found[0] = tf.identity(found[0], f'{point}/logits')
            signatures.append(Signature([images.name], [one.name for one in found]))
        return Frozen(graph.as_graph_def(), signatures)


def serving(frozen: Frozen, threads: int) -> list[Callable[..., list[np.ndarray]]]:
    """The functions of a graph's parts.

    Args:
        frozen: the graph, of a program.
        threads: of one operation; 0 takes all cores.
    """
    config = tf.ConfigProto()
    if not has_gpu():
        rewriting = config.graph_options.rewrite_options
        # The first moves scales into kernels, the second joins convolution, shift and ReLU; the
        # others find nothing in seconds.
        rewriting.optimizers.extend(('constfold', 'remap'))
        rewriting.meta_optimizer_iterations = 1
        if (threads or cores()) == 1 and not _switches(frozen):
            # One operation after the other, without what keeps several threads apart.
            config.experimental.executor_type = 'SINGLE_THREADED_EXECUTOR'
    return frozen.runs(threads, config)


def _switches(frozen: Frozen) -> bool:
    """Whether a graph executes some of its operations only if a value says so."""
    return any(node.op in ('Switch', 'Merge') for node in frozen.graph_def.node)


class Writer:
    """Adds operating points to the current graph, which share their constants.

    Args:
        whole: the program.
        points: all that will be added.
        telling: as of ``graph_of``.

    Attributes:
        telling: as of ``graph_of``.
        reads: how often results are still to be read, by name.
    """

    def __init__(self, whole: Program, points: Sequence[str], *, telling: bool = False):
        self.telling = telling
        self.reads: collections.Counter[str] = collections.Counter()
        self._whole = whole
        self._made: dict[str, tf.Tensor] = {}
        self._repeated: dict[tuple[Part, int], tf.Tensor] = {}
        # Of a constant, what is stored: the least that holds all parts in use.
        self._extents: dict[str, tuple[int, ...]] = {}
        for point in points:
            for operation in whole.points[point].operations:
                for part in program.parts(operation).values():
                    known = self._extents.get(part.name, part.shape)
                    self._extents[part.name] = tuple(map(max, known, part.shape))

    def answers(self, point: str, images: tf.Tensor) -> list[tf.Tensor]:
        """The logits [N, classes] of one operating point, and what it tells of its choices.

        Args:
            point: spelling.
            images: uint8 [N, side, side, 3], BGR.
        """
        one = self._whole.points[point]
        wanted = [one.output]
        if self.telling:
            wanted += [choice.result for choice in one.choices]
        self.reads = collections.Counter(wanted)
        for operation in one.operations:
            self.reads.update(reads(operation))
        values = Values()
        values[one.input] = images
        rows = [(operation,) for operation in one.operations]
        with tf.name_scope(f'{point}/'):
            self.write(regions(rows, wanted), values)
        return [values[name] for name in wanted]

    def write(self, region: Region, values: Values) -> None:
        """Adds operations.

        Args:
            region: that has them.
            values: results so far, which get theirs.
        """
        for (operation,) in region.rows:
            if isinstance(operation, Choose):
                branches = region.branches[operation.out]
                tf_choices.choose(self, operation, branches, values)
                self.reads[operation.x] -= 1
                continue
            values[operation.out] = _RULES[type(operation)](self, operation, values)
            self.reads.subtract(reads(operation))

    def value(self, part: Part) -> np.ndarray:
        """A constant that a graph is made by, float32."""
        return self._whole.value(part)

    def constant(self, part: Part, *, turned: bool = False) -> tf.Tensor:
        """A constant of the graph, which is there once.

        Args:
            part: of the pool.
            turned: with its last two axes exchanged, at all uses or none.
        """
        extents = self._extents[part.name]
        shape = part.shape
        if part.name not in self._made:
            stored = self.value(Part(part.name, extents))
            if turned:
                stored = np.swapaxes(stored, -2, -1)
            with tf.name_scope('constants/'):
                self._made[part.name] = tf.constant(stored, name='constant')
        whole = self._made[part.name]
        if shape == extents:
            return whole
        if turned:
            shape = (*shape[:-2], shape[-1], shape[-2])
        return tf.slice(whole, [0] * len(shape), shape)

    def repeated(self, part: Part, times: int) -> tf.Tensor:
        """A constant [C] of the graph for a row of pixels, [times * C], which is there once."""
        key = part, times
        if key not in self._repeated:
            with tf.name_scope('constants/'):
                values = np.tile(self.value(part), times)
                self._repeated[key] = tf.constant(values, name='constant')
        return self._repeated[key]


def _cast(w: Writer, operation: program.Cast, values: Values) -> tf.Tensor:
    return tf.cast(values[operation.x], tf.float32)


def _arithmetic(w: Writer, operation: program.Arithmetic, values: Values) -> tf.Tensor:
    function = _ARITHMETIC[operation.function]
    x = values[operation.x]
    (numbers,) = operation.y.shape
    if x.shape.rank != 4 or numbers == 1 or numbers >= _MANY_CHANNELS:
        return function(x, w.constant(operation.y))
    _, height, width, channels = x.shape
    rows = tf.reshape(x, [-1, width * channels])
    found = function(rows, w.repeated(operation.y, width))
    return tf.reshape(found, [-1, height, width, channels])


def _affine(w: Writer, operation: program.Affine, values: Values) -> tf.Tensor:
    return values[operation.x] * w.constant(operation.scale) + w.constant(operation.shift)


def _flip(w: Writer, operation: program.Flip, values: Values) -> tf.Tensor:
    # Gathering them takes more than twice the time.
    return tf.reverse(values[operation.x], [3])


def _resize(w: Writer, operation: program.Resize, values: Values) -> tf.Tensor:
    """Both products are of matrices alone: what multiplies many at a time is not always known."""
    x = values[operation.x]  # [N, side, side, C]
    size, side = operation.shares.shape
    channels = x.shape[3]
    shares = w.constant(operation.shares)
    columns = tf.reshape(tf.transpose(x, [0, 3, 1, 2]), [-1, side])  # [N C rows, columns]
    narrow = tf.matmul(columns, shares, transpose_b=True)
    rows = tf.transpose(tf.reshape(narrow, [-1, channels, side, size]), [0, 1, 3, 2])
    small = tf.matmul(tf.reshape(rows, [-1, side]), shares, transpose_b=True)
    return tf.transpose(tf.reshape(small, [-1, channels, size, size]), [0, 3, 2, 1])


def _convolution(w: Writer, operation: program.Convolution, values: Values) -> tf.Tensor:
    *window, inputs, outputs = operation.kernel.shape
    stride = operation.stride
    depthwise = inputs == 1 and operation.groups == outputs > 1
    kernel = w.constant(operation.kernel, turned=depthwise)
    x, rule = _padded(operation, values[operation.x], window, (stride, stride))
    if depthwise:
        return tf.nn.depthwise_conv2d(x, kernel, [1, stride, stride, 1], rule)
    return tf.nn.conv2d(x, kernel, stride, rule)


def _padded(
    operation: program.Convolution | program.Pool,
    x: tf.Tensor,
    window: Sequence[int],
    stride: Sequence[int],
) -> tuple[tf.Tensor, str]:
    """Images as windows are taken from them, and the rule of TensorFlow that does it.

    Args:
        operation: with windows.
        x: that it reads.
        window: (height, width).
        stride: (down, to the right).
    """
    if operation.same or operation.pads == program.same_pads(x.shape[1:3], window, stride):
        return x, 'SAME'
    if any(operation.pads):
        top, bottom, left, right = operation.pads
        # Outside is below all values where the maximum is taken.
        outside = 0.0 if isinstance(operation, program.Convolution) else tf.float32.min
        around = [[0, 0], [top, bottom], [left, right], [0, 0]]
        x = tf.pad(x, around, constant_values=outside)
    return x, 'VALID'


def _dense(w: Writer, operation: program.Dense, values: Values) -> tf.Tensor:
    return tf.matmul(values[operation.x], w.constant(operation.kernel))


def _activation(w: Writer, operation: program.Activation, values: Values) -> tf.Tensor:
    functions = {'relu': tf.nn.relu, 'relu6': tf.nn.relu6, 'sigmoid': tf.sigmoid}
    return functions[operation.function](values[operation.x])


def _quantize(w: Writer, operation: program.Quantize, values: Values) -> tf.Tensor:
    levels = w.value(operation.levels)
    return step_function(values[operation.x], levels, w.value(operation.thresholds))


def _combine(w: Writer, operation: program.Combine, values: Values) -> tf.Tensor:
    return _ARITHMETIC[operation.function](values[operation.x], values[operation.y])


def _concatenate(w: Writer, operation: program.Concatenate, values: Values) -> tf.Tensor:
    return tf.concat([values[name] for name in (operation.x, *operation.others)], axis=3)


def _pool(w: Writer, operation: program.Pool, values: Values) -> tf.Tensor:
    window, stride = operation.window, operation.stride
    x, rule = _padded(operation, values[operation.x], window, stride)
    function = {'max': tf.nn.max_pool2d, 'average': tf.nn.avg_pool2d}[operation.function]
    return function(x, window, stride, rule)


def _global_pool(w: Writer, operation: program.GlobalPool, values: Values) -> tf.Tensor:
    return values.pooled(operation.x)


def _pad(w: Writer, operation: program.Pad, values: Values) -> tf.Tensor:
    top, bottom, left, right = operation.pads
    around = [[0, 0], [top, bottom], [left, right], [0, operation.channels]]
    return tf.pad(values[operation.x], around)


def _crop(w: Writer, operation: program.Crop, values: Values) -> tf.Tensor:
    corners = zip(operation.start, operation.stop, operation.step)
    return values[operation.x][(slice(None), *(slice(*corner) for corner in corners))]


def _to_rows(w: Writer, operation: program.ToRows, values: Values) -> tf.Tensor:
    x = values[operation.x]
    return tf.reshape(x, [-1, x.shape[3]])


def _to_images(w: Writer, operation: program.ToImages, values: Values) -> tf.Tensor:
    x = values[operation.x]
    return tf.reshape(x, [-1, 1, 1, x.shape[1]])


def _number(w: Writer, operation: choices.Number, values: Values) -> tf.Tensor:
    # The shape of one image is known, and would be there in branches that are not executed; so
    # would a switch, unlike what reads it.
    x = tf.identity(values[operation.x])
    with tf.control_dependencies([x]):
        return tf.fill(tf.shape(x)[:1], tf.constant(operation.value, tf.int64))


def _largest(w: Writer, operation: choices.Largest, values: Values) -> tf.Tensor:
    return tf.argmax(values[operation.x], axis=1)


def _confident(w: Writer, operation: choices.Confident, values: Values) -> tf.Tensor:
    confidence = log_confidence(values[operation.x])  # [N]
    return tf.cast(confidence >= w.constant(operation.threshold), tf.int64)


# Adds the nodes of an operation, whose result it returns.
Rule: TypeAlias = 'Callable[[Writer, Any, Values], tf.Tensor]'

_RULES: Mapping[type[Operation], Rule] = {
    program.Cast: _cast,
    program.Arithmetic: _arithmetic,
    program.Affine: _affine,
    program.Flip: _flip,
    program.Resize: _resize,
    program.Convolution: _convolution,
    program.Dense: _dense,
    program.Activation: _activation,
    program.Quantize: _quantize,
    program.Combine: _combine,
    program.Concatenate: _concatenate,
    program.Pool: _pool,
    program.GlobalPool: _global_pool,
    program.Pad: _pad,
    program.Crop: _crop,
    program.ToRows: _to_rows,
    program.ToImages: _to_images,
    choices.Number: _number,
    choices.Largest: _largest,
    choices.Confident: _confident,
}
