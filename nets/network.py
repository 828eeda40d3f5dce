"""What the engine can ask of any network, with the answers of most."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from nets import losses
from nets.layers.blocks import Outputs
from nets.points import Point
from quant.backend import tf


class Network:
    """A network with operating points.

    Args:
        sizes: input sizes in pixels.
        padding: padding rule of its layers, see ``Blocks``.
        points: operating points, strongest first; by default one per size.

    Attributes:
        sizes: largest first.
        tally_names: what evaluation adds up beside the right answers, see ``tallies``.
        lr_factors: factors on the learning rate by regular expression of variable names.
    """

    generated: ClassVar[bool] = False  # whether kernels follow from the input size
    slimmable: ClassVar[bool] = False  # whether a width is an argument, with statistics in tables
    tally_names: tuple[str, ...] = ()

    def __init__(self, sizes: Sequence[int], padding: str, points: Sequence[Point] | None = None):
        self.sizes, self.padding = sorted(sizes, reverse=True), padding
        self.points = tuple(points or (Point(size=size) for size in self.sizes))
        self.lr_factors: Mapping[str, float] = {}

    @property
    def frozen(self) -> bool:
        """Whether normalisation is not trained, so that its statistics must be there before."""
        return False

    @property
    def watched(self) -> Mapping[str, Any]:
        """Options of ``outputs`` when a run is evaluated while it trains."""
        return {}

    @property
    def trained_points(self) -> tuple[Point, ...]:
        """Operating points whose statistics training leaves in order; the others need calibration."""
        return self.points

    def teacher_pairs(self) -> list[tuple[tf.Variable, tf.Variable]]:
        """(moving average, variable that it follows) of the default graph; none without a teacher."""
        return []

    def cross_entropies(self, outputs: Outputs, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        """Cross entropy of every operating point, as named terms of the loss."""
        return {
            f'loss/{point}': losses.cross_entropy(logits, labels)
            for point, logits in outputs.logits.items()
        }

    def tallies(self, outputs: Outputs, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        """Sums over the batch by name."""
        return {}
