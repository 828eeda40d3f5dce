"""Cost of an operating point, counted from the layer records that building a network leaves behind.

Pure Python: the offline tables read the records from a run folder and never import TensorFlow.
A multiply-add is one product and one sum of a convolution or fully connected layer; normalisation, activation, pooling
and residual additions are not counted, as in the papers.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any

from nets.points import Point


@dataclasses.dataclass(frozen=True)
class LayerRecord:
    """One convolution or fully connected layer as one operating point runs it.

    Attributes:
        name: Scope of the layer, such as ``group0/block0/conv1``.
        role: One of ``quant.ROLES``.
        kernel: (height, width, input channels of one group, output channels); (1, 1, in, out) for a fully connected
            layer.
        out: Output (height, width); (1, 1) for a fully connected layer.
        weight_bits: Bits of a stored weight; 32 is float.
        basis: Number of float32 values that the weight quantizer stores.
        bias: Number of float32 biases.
        generated: Whether the kernel is generated from an encoding. Memory counts the kernel of one encoding.
        gate: Scope of the gate that decides per image whether the layer runs; empty if it always does.
        activation_bits: Bits of what it reads, by its role; 32 is float.
        inputs: Number of values that it reads per image.
    """

    name: str
    role: str
    kernel: tuple[int, int, int, int]
    out: tuple[int, int]
    weight_bits: int = 32
    basis: int = 0
    bias: int = 0
    generated: bool = False
    gate: str = ''
    activation_bits: int = 32
    inputs: int = 0

    @property
    def weights(self) -> int:
        return math.prod(self.kernel)

    @property
    def madds(self) -> int:
        return self.weights * math.prod(self.out)

    @property
    def bit_ops(self) -> int:
        """Multiply-adds times the bits of both factors."""
        return self.madds * self.weight_bits * self.activation_bits

    @property
    def activations(self) -> int:
        """Values of an image that exist while the layer runs: its input and its output."""
        return self.inputs + math.prod(self.out) * self.kernel[3]

    @property
    def memory_bits(self) -> int:
        """Bits of the packed weights with their basis and bias."""
        return self.weights * self.weight_bits + 32 * (self.basis + self.bias)


def madds(layers: Iterable[LayerRecord]) -> int:
    """Multiply-adds of one image."""
    return sum(layer.madds for layer in layers)


def expected_madds(layers: Iterable[LayerRecord], rates: Mapping[str, float]) -> float:
    """Mean multiply-adds of one image when the gate of scope g is open for the share ``rates[g]`` of the images."""
    return sum(layer.madds * (rates[layer.gate] if layer.gate else 1.0) for layer in layers)


def generation_madds(layers: Iterable[LayerRecord]) -> int:
    """Multiply-adds of generating all kernels, paid once per change of the encoding and not per image."""
    return sum(layer.weights for layer in layers if layer.generated)


def weight_bytes(layers: Iterable[LayerRecord]) -> int:
    """Bytes of all packed weights, bases and biases; normalisation is not counted (it folds into the next kernel)."""
    return math.ceil(sum(layer.memory_bits for layer in layers) / 8)


def bit_ops(layers: Iterable[LayerRecord]) -> int:
    """Multiply-adds of one image, each times the bits of its weight and of its activation."""
    return sum(layer.bit_ops for layer in layers)


def activation_bytes(layers: Iterable[LayerRecord]) -> int:
    """Bytes of the float32 input and output of the layer where they are largest, for one image; a residual that waits
    beside a branch is not counted.
    """
    return 4 * max((layer.activations for layer in layers), default=0)


def parameters(layers: Iterable[LayerRecord]) -> int:
    """Weights and biases; normalisation is not counted."""
    return sum(layer.weights + layer.bias for layer in layers)


def cumulative(layers: Mapping[str, Iterable[LayerRecord]], point: str) -> list[LayerRecord]:
    """What has run, each layer once, when an image reaches the exit of ``point`` through all earlier exits.

    Args:
        layers: records by spelling of the operating point; those of an exit are what it alone needs.
        point: spelling of an operating point; without an exit the answer is its own records.
    """
    last = Point.parse(point)
    exits = [None] if last.exit is None else range(last.exit + 1)
    passed = (layers[str(dataclasses.replace(last, exit=k))] for k in exits)
    return list({layer.name: layer for records in passed for layer in records}.values())


def to_json(layers: Mapping[str, Iterable[LayerRecord]]) -> dict[str, list[dict[str, Any]]]:
    """Records by operating point as plain data."""
    return {
        point: [dataclasses.asdict(layer) for layer in records] for point, records in layers.items()
    }


def from_json(data: Mapping[str, list[dict[str, Any]]]) -> dict[str, list[LayerRecord]]:
    """The inverse of ``to_json``."""
    return {
        point: [
            LayerRecord(**{**row, 'kernel': tuple(row['kernel']), 'out': tuple(row['out'])})
            for row in rows
        ]
        for point, rows in data.items()
    }
