"""What a network consists of and what each of its operating points costs, without training it.

    python -m scripts.summary --net rsnet -d 18 --sizes 224 160 --qw 2 --qa 2 --data fake
    python -m scripts.summary --preset msd_imagenet4 --data fake --layers     # every layer as well
    python -m scripts.summary --preset dsnet_mbv1 --data fake

Takes the flags of imagenet_tf.py. Costs are of one image: multiply-adds (MAdds) of convolutions and
fully connected layers, BitOps = MAdds x bits of weight x bits of activation; of an exit with all
earlier exits. Weights are counted packed, with bases and biases; activations are the float32 input
and output of the layer where they are largest.
"""

import sys
from collections.abc import Mapping, Sequence

from tabulate import tabulate

from engine.config.cli import explicit, parse
from engine.config.resolve import resolve
from nets import cost
from scripts import status

POINT_HEADERS = (
    'point',
    'layers',
    'MAdds, M',
    'BitOps, G',
    'parameters, M',
    'weights, MB',
    'activations, MB',
)
LAYER_HEADERS = (
    'layer',
    'role',
    'kernel',
    'output',
    'W bits',
    'A bits',
    'MAdds, M',
    'weights, kB',
    'at',
)


def run(argv: Sequence[str]) -> str:
    """Tables of operating points and, if wanted, of layers."""
    flags = parse([arg for arg in argv if arg != '--layers'], str(__doc__))
    config, _, notes = resolve(explicit(flags))
    from engine.graph.tower import Model

    _, layers = Model(config, data_format='NHWC').inspect()
    parts = [points(layers)]
    if '--layers' in argv:
        parts.append(every_layer(layers))
    return '\n\n'.join(['\n'.join(notes), *parts])


def points(layers: Mapping[str, Sequence[cost.LayerRecord]]) -> str:
    """One row per operating point."""
    rows = []
    for point in layers:
        passed = cost.cumulative(layers, point)
        madds = cost.madds(passed) / 1e6
        bit_ops = cost.bit_ops(passed) / 1e9
        parameters = cost.parameters(passed) / 1e6
        weights = cost.weight_bytes(passed) / 1e6
        activations = cost.activation_bytes(passed) / 1e6
        rows.append((point, len(passed), madds, bit_ops, parameters, weights, activations))
    return tabulate(rows, floatfmt='.3f', headers=POINT_HEADERS)


def every_layer(layers: Mapping[str, Sequence[cost.LayerRecord]]) -> str:
    """One row per layer, as the first operating point that has it runs it."""
    seen = {}
    for point in reversed(list(layers)):
        for layer in layers[point]:
            seen[layer.name] = point, layer
    rows = []
    for point, layer in seen.values():
        kernel = 'x'.join(map(str, layer.kernel))
        out = 'x'.join(map(str, layer.out))
        bits = (layer.weight_bits, layer.activation_bits)
        kilobytes = layer.memory_bits / 8e3
        rows.append(
            (layer.name, layer.role, kernel, out, *bits, layer.madds / 1e6, kilobytes, point)
        )
    return tabulate(rows, floatfmt='.3f', headers=LAYER_HEADERS)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status, see ``scripts.status``."""
    return status('summary', run, sys.argv[1:] if argv is None else argv)


if __name__ == '__main__':
    sys.exit(main())
