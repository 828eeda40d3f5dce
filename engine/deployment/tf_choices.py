"""Choices image by image in a TensorFlow graph: what is not chosen for an image is not computed.

In a batch, the images of a branch are gathered, computed and written back. A branch without
products, such as the shortcut around a block or the answer of an exit, is computed for all images,
and what the others give is written into its result. Where every branch has products, as with
widths, a switch turns one away that no image takes, as it does with all that one image alone does
not take.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from engine.deployment.alignment import results
from engine.deployment.choices import Choose
from engine.deployment.program import Convolution, Dense
from engine.deployment.regions import Region
from quant.backend import tf

if TYPE_CHECKING:
    from engine.deployment.tf_graph import Writer


class Values(dict[str, 'tf.Tensor']):
    """Results by name.

    Attributes:
        pools: global pools that are known, by name of the images.
    """

    def __init__(self) -> None:
        super().__init__()
        self.pools: dict[str, tf.Tensor] = {}

    def pooled(self, name: str) -> tf.Tensor:
        """The global pool [N, 1, 1, C] of a result, which is made once."""
        if name not in self.pools:
            x = self[name]
            # One large window takes half the time of reduce_mean on the CPU.
            self.pools[name] = tf.nn.avg_pool2d(x, x.shape[1:3], [1, 1], 'VALID')
        return self.pools[name]


class Images(Protocol):
    """Images that a branch is computed for."""

    def take(self, x: tf.Tensor) -> tf.Tensor:
        """These images of ``x``."""


class Branch(Values):
    """Results for the images of a branch: one from outside is taken when it is first read.

    Args:
        outer: results for all images.
        images: of the branch.
    """

    def __init__(self, outer: Values, images: Images):
        super().__init__()
        self._outer = outer
        self._images = images

    def __missing__(self, name: str) -> tf.Tensor:
        self[name] = self._images.take(self._outer[name])
        return self[name]

    def pooled(self, name: str) -> tf.Tensor:
        if name in self._outer.pools and name not in self.pools:
            self.pools[name] = self._images.take(self._outer.pools[name])
        return super().pooled(name)


class Rows:
    """Some images of a batch; for none the first is computed and not written back.

    TensorFlow's fused convolutions on the CPU give no images a wrong shape.

    Args:
        chosen: bool or int64 [N], not zero for these images.
    """

    def __init__(self, chosen: tf.Tensor):
        self._places = tf.where(chosen)  # [images, 1]
        self._rows = tf.squeeze(self._places, [1])
        self._count = tf.shape(self._rows)  # [1]
        and_first = tf.concat([self._rows, tf.constant([0], tf.int64)], axis=0)
        self._computed = tf.slice(and_first, [0], tf.maximum(self._count, 1))

    def take(self, x: tf.Tensor) -> tf.Tensor:
        """These images of ``x``."""
        return tf.gather(x, self._computed)

    def put(self, x: tf.Tensor, y: tf.Tensor, *, in_place: bool) -> tf.Tensor:
        """``x`` with ``y``, computed of what was taken, in place of these images.

        Args:
            x: of all images.
            y: of those that were taken.
            in_place: whether the memory of ``x`` is written over, after all that reads it so far.
        """
        y = tf.strided_slice(y, [0], self._count)
        if not in_place:
            return tf.tensor_scatter_nd_update(x, self._places, y)
        with tf.control_dependencies(x.consumers()):
            return tf.raw_ops.InplaceUpdate(x=x, i=tf.cast(self._rows, tf.int32), v=y)


class Switched:
    """The images of a batch that a condition picks, of which nothing is executed if it picks none.

    Args:
        chosen: bool [N]; a batch of one image is not gathered.
    """

    def __init__(self, chosen: tf.Tensor):
        self._alone = chosen.shape[0] == 1
        self._some = chosen[0] if self._alone else tf.reduce_any(chosen)
        self.rows = tf.squeeze(tf.where(chosen), [1])  # [images]

    def take(self, x: tf.Tensor) -> tf.Tensor:
        """These images of ``x``."""
        if not self._alone:
            x = tf.gather(x, self.rows)
        return tf.raw_ops.Switch(data=x, pred=self._some).output_true

    def or_none(self, y: tf.Tensor) -> tf.Tensor:
        """``y``, computed of what was taken, or no images."""
        empty = tf.zeros([0, *y.shape[1:]], y.dtype)
        nothing = tf.raw_ops.Switch(data=empty, pred=self._some).output_false
        return tf.raw_ops.Merge(inputs=[nothing, y]).output


def choose(w: Writer, choice: Choose, branches: Sequence[Region], values: Values) -> None:
    """Adds a choice.

    Args:
        w: the graph in the making.
        choice: the operation.
        branches: what each branch executes.
        values: results so far, which get those of the choice.
    """
    choosing = _Choosing(w, choice, branches, values)
    free = [number for number, branch in enumerate(branches) if not _multiplies(branch)]
    if values[choice.x].shape[0] == 1:
        choosing.alone()
    elif free:
        choosing.written(free[0])
    else:
        choosing.stitched()


def _multiplies(region: Region) -> bool:
    """Whether a region has a product with a kernel."""
    if any(isinstance(row[0], Convolution | Dense) for row in region.rows):
        return True
    return any(_multiplies(one) for branches in region.branches.values() for one in branches)


class _Choosing:
    """A choice in the making; arguments as of ``choose``."""

    def __init__(self, w: Writer, choice: Choose, branches: Sequence[Region], values: Values):
        self._w = w
        self._choice = choice
        self._branches = branches
        self._values = values
        # Without those that are beside the output, where nobody is told.
        self._names = results(choice) if w.telling else (choice.out,)
        # The pool of what comes out is the pool of what is handed on, where nothing has changed.
        self._pooled = any(ways[0] in values.pools for ways in choice.branches)

    def alone(self) -> None:
        """For one image: of all branches one is executed."""
        found = []
        for number in range(len(self._branches)):
            images = Switched(self._takes(number))
            found.append(self._computed(number, Branch(self._values, images)))
        self._note([tf.raw_ops.Merge(inputs=ways).output for ways in zip(*found)])

    def written(self, free: int) -> None:
        """For a batch: what other branches compute is written into the result of a free one.

        Args:
            free: number of the branch that is computed for all images.
        """
        found = self._computed(free, self._values)
        changes = []
        for number in range(len(self._branches)):
            if number == free:
                continue
            chosen = self._takes(number)
            if len(self._branches) == 2 and number == 1:
                chosen = self._values[self._choice.x]
            images = Rows(chosen)
            changes.append((images, self._computed(number, Branch(self._values, images))))
        name, *_ = self._choice.branches[free]
        lasting = self._w.reads[name] > 0
        for images, ways in changes:
            for place, y in enumerate(ways):
                # What else there is is small, and may be read by other names.
                in_place = place == 0 and not lasting
                found[place] = images.put(found[place], y, in_place=in_place)
        self._note(found)

    def stitched(self) -> None:
        """For a batch: each image from the branch that computed it."""
        rows, found = [], []
        for number in range(len(self._branches)):
            images = Switched(self._takes(number))
            ways = self._computed(number, Branch(self._values, images))
            rows.append(tf.cast(images.rows, tf.int32))
            found.append([images.or_none(y) for y in ways])
        self._note([tf.dynamic_stitch(rows, list(ways)) for ways in zip(*found)])

    def _takes(self, number: int) -> tf.Tensor:
        """bool [N]: the images of a branch."""
        return tf.equal(self._values[self._choice.x], number)

    def _computed(self, number: int, values: Values) -> list[tf.Tensor]:
        """Results of a branch, and behind them the pool of the first if it is known.

        Args:
            number: of the branch.
            values: results that it reads.
        """
        self._w.write(self._branches[number], values)
        names = self._choice.branches[number][: len(self._names)]
        self._w.reads.subtract(names)
        found = [values[name] for name in names]
        if self._pooled:
            found.append(values.pooled(names[0]))
        return found

    def _note(self, found: Sequence[tf.Tensor]) -> None:
        """Keeps the results of the choice."""
        self._values.update(zip(self._names, found))
        if self._pooled:
            self._values.pools[self._choice.out] = found[-1]
