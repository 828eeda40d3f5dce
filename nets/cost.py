"""Cost of an operating point, counted from the layer records that building a network leaves behind.

Pure Python: the offline tables read the records from a run folder and never import TensorFlow. A
multiply-add is one product and one sum of a convolution or fully connected layer; normalisation,
activation, pooling and residual additions are not counted, as in the papers.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any

from nets.points import Point
from quant.quantizer import FLOAT_BITS


@dataclasses.dataclass(frozen=True)
class LayerRecord:
    """One convolution or fully connected layer as one operating point runs it.

    Attributes:
        name: Scope of the layer, such as ``group0/block0/conv1``.
        role: One of ``quant.ROLES``.
        kernel: (height, width, input channels of one group, output channels); (1, 1, in, out) for a
            fully connected layer.
        out: Output (height, width); (1, 1) for a fully connected layer.
        weight_bits: Bits of a stored weight; 32 is float.
        basis: Number of float32 values that the weight quantizer stores.
        bias: Number of float32 biases.
        generated: Whether the kernel is generated from an encoding. Memory counts the kernel of one
            encoding.
        gate: Scope of the gate that decides per image whether the layer runs; empty if it always
            does.
        activation_bits: Bits of what it reads, by its role; 32 is float.
        inputs: Number of values that it reads per image.
        packed_bits: Of a stored weight where its packed code takes less than ``weight_bits``, such
            as 1.6 where five ternary weights share a byte; else 0.
        nested: Whether the code of a weight is the start of its codes of more bits.
    """

    name: str
    role: str
    kernel: tuple[int, int, int, int]
    out: tuple[int, int]
    weight_bits: int = FLOAT_BITS
    basis: int = 0
    bias: int = 0
    generated: bool = False
    gate: str = ''
    activation_bits: int = FLOAT_BITS
    inputs: int = 0
    packed_bits: float = 0.0
    nested: bool = False

    @property
    def weights(self) -> int:
        """Number of weights of the kernel."""
        return math.prod(self.kernel)

    @property
    def madds(self) -> int:
        """Multiply-adds of one image: every weight is used at every position of the output."""
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
        codes = round(self.weights * (self.packed_bits or self.weight_bits))
        return codes + 32 * (self.basis + self.bias)


def madds(layers: Iterable[LayerRecord]) -> int:
    """Multiply-adds of one image.

    >>> conv = LayerRecord('conv', 'body', (3, 3, 16, 32), (8, 8))
    >>> linear = LayerRecord('linear', 'head', (1, 1, 32, 10), (1, 1))
    >>> madds([conv, linear])  # 3 * 3 * 16 * 32 weights at 8 * 8 positions, and 32 * 10
    295232
    """
    return sum(layer.madds for layer in layers)


def expected_madds(layers: Iterable[LayerRecord], rates: Mapping[str, float]) -> float:
    """Mean multiply-adds of one image where gates skip layers.

    Args:
        layers: of a network.
        rates: share of the images for which the gate of a scope is open.

    >>> conv = LayerRecord('conv', 'body', (3, 3, 16, 32), (8, 8), gate='block1')
    >>> expected_madds([conv], {'block1': 0.25})  # of 294912
    73728.0
    """
    total = 0.0
    for layer in layers:
        rate = rates[layer.gate] if layer.gate else 1.0
        total += layer.madds * rate
    return total


def weight_bytes(layers: Iterable[LayerRecord]) -> int:
    """Bytes of all packed weights, bases and biases.

    Normalisation is not counted: it folds into the next kernel.

    >>> conv = LayerRecord('conv', 'body', (3, 3, 16, 32), (8, 8), weight_bits=2, basis=64)
    >>> weight_bytes([conv])  # 4608 weights of 2 bits, 64 float32
    1408
    >>> weight_bytes([dataclasses.replace(conv, packed_bits=1.6)])  # 4608 / 5 bytes, 64 float32
    1178
    """
    bits = sum(layer.memory_bits for layer in layers)
    return math.ceil(bits / 8)


def stored(layers: Iterable[LayerRecord]) -> list[LayerRecord]:
    """Records of the weights that a file stores for all these records, each layer once.

    Of a layer that widths share, the widest is stored. Of one that several precisions quantize, the
    values that belong to each, and all codes; of nested codes the longest, which start with the
    others.

    >>> four = LayerRecord('conv', 'body', (1, 1, 8, 8), (1, 1), weight_bits=4, basis=32)
    >>> two = dataclasses.replace(four, weight_bits=2, basis=16)
    >>> [(one.weight_bits, one.basis) for one in stored([four, two, four])]
    [(4, 32), (2, 16)]
    >>> nested = [dataclasses.replace(one, nested=True) for one in (four, two)]
    >>> [(one.weight_bits, one.basis) for one in stored(nested)]
    [(4, 48)]
    """
    widest: dict[tuple[str, int], LayerRecord] = {}
    for layer in layers:
        key = layer.name, layer.weight_bits
        known = widest.get(key, layer)
        widest[key] = max(known, layer, key=_weights)
    by_name: dict[str, list[LayerRecord]] = {}
    for layer in widest.values():
        by_name.setdefault(layer.name, []).append(layer)
    found = []
    for same in by_name.values():
        longest = max(same, key=_bits)
        for layer in same:
            # There is one bias, whatever the precision.
            bias = layer.bias if layer is longest else 0
            if not longest.nested:
                found.append(dataclasses.replace(layer, bias=bias))
        if longest.nested:
            basis = sum(layer.basis for layer in same)
            found.append(dataclasses.replace(longest, basis=basis))
    return found


def _weights(layer: LayerRecord) -> int:
    return layer.weights


def _bits(layer: LayerRecord) -> int:
    return layer.weight_bits


def low_bit(layers: Iterable[LayerRecord]) -> list[LayerRecord]:
    """The layers whose weights are quantized: float ones hide in BitOps what bits save."""
    return [layer for layer in layers if layer.weight_bits < FLOAT_BITS]


def bit_ops(layers: Iterable[LayerRecord]) -> int:
    """Multiply-adds of one image, each times the bits of its weight and of its activation.

    >>> conv = LayerRecord('conv', 'body', (3, 3, 16, 32), (8, 8), weight_bits=2, activation_bits=3)
    >>> bit_ops([conv])  # 294912 * 2 * 3
    1769472
    """
    return sum(layer.bit_ops for layer in layers)


def activation_bytes(layers: Iterable[LayerRecord]) -> int:
    """Bytes of the float32 input and output of the layer where they are largest, for one image.

    A residual that waits beside a branch is not counted.

    >>> activation_bytes([LayerRecord('conv', 'body', (3, 3, 16, 32), (8, 8), inputs=1024)])
    12288

    That is 4 bytes for each of 1024 + 8 * 8 * 32 values.
    """
    return 4 * max((layer.activations for layer in layers), default=0)


def kept_values(layers: Mapping[str, Iterable[LayerRecord]]) -> int:
    """Values of an image that a training step of all operating points keeps for its gradients.

    Of each layer, what it reads, its output and that output normalised; layers that exits share
    are counted once.

    >>> conv = LayerRecord('conv', 'body', (3, 3, 16, 32), (8, 8), inputs=1024)
    >>> kept_values({'s8-x1': [conv], 's8-x0': [conv], 's4-x1': [conv]})  # 2 * (1024 + 2 * 2048)
    10240
    """
    seen: dict[tuple[str, str], LayerRecord] = {}
    for point, records in layers.items():
        apart = str(dataclasses.replace(Point.parse(point), exit=None))
        for layer in records:
            seen.setdefault((apart, layer.name), layer)
    total = 0
    for layer in seen.values():
        outputs = math.prod(layer.out) * layer.kernel[3]
        total += layer.inputs + 2 * outputs
    return total


def parameters(layers: Iterable[LayerRecord]) -> int:
    """Weights and biases; normalisation is not counted.

    >>> parameters([LayerRecord('linear', 'head', (1, 1, 32, 10), (1, 1), bias=10)])
    330
    """
    return sum(layer.weights + layer.bias for layer in layers)


def cumulative(layers: Mapping[str, Iterable[LayerRecord]], point: str) -> list[LayerRecord]:
    """The layers, each once, that have run when an image reaches the exit of ``point``.

    It comes through all earlier exits.

    Args:
        layers: records by spelling of the operating point; those of an exit are what it alone
            needs.
        point: spelling of an operating point; without an exit the answer is its own records.

    >>> conv = LayerRecord('conv', 'body', (3, 3, 16, 32), (8, 8))
    >>> head = dataclasses.replace(conv, name='head0/conv')
    >>> [layer.name for layer in cumulative({'x0': [conv, head], 'x1': [conv]}, 'x1')]
    ['conv', 'head0/conv']
    """
    last = Point.parse(point)
    exits = [None] if last.exit is None else range(last.exit + 1)
    passed: dict[str, LayerRecord] = {}
    for k in exits:
        at_exit = dataclasses.replace(last, exit=k)
        passed.update((layer.name, layer) for layer in layers[str(at_exit)])
    return list(passed.values())


def to_json(layers: Mapping[str, Iterable[LayerRecord]]) -> dict[str, list[dict[str, Any]]]:
    """Records by operating point as plain data."""
    data = {}
    for point, records in layers.items():
        data[point] = list(map(dataclasses.asdict, records))
    return data
