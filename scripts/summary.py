"""Prints the layers of a network and the cost of each operating point, without training it.

    python -m scripts.summary RUN --layers                           # a run folder: every layer
    python -m scripts.summary --preset msd_imagenet4 --point s224-x2 # one operating point
    python -m scripts.summary --net rsnet -d 18 --sizes 224 160 --qw 2 --qa 2
    python -m scripts.summary RUN --ms --format csv                  # milliseconds of every layer

Takes a run folder or the flags of imagenet_tf.py; no data are needed: presets, and sizes above 32,
are of ImageNet's 1000 classes unless --data says otherwise. Costs are of one image: multiply-adds
(MAdds) of convolutions and fully connected layers, BitOps = MAdds x bits of weight x bits of
activation, of which those of quantized weights are shown once more, as float layers at 32 x 32
hide what bits save; of an exit with all earlier exits. Weights are counted packed, with bases and
biases; activations are the float32 input and output of the layer where they are largest. W and A
are the bits of a layer's weights and of what it reads; 32 is float. A run also shows what its
training was computed with: command, versions, state of the checkout, machine; step by step where
starts differ.
Milliseconds are of one image, measured here by TensorFlow's trace: those of the operations in the
scope of each layer, one by one, which scripts.profile measures together, and faster.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from engine import processor
from engine.config import embedded
from engine.config.cli import explicit, parse
from engine.config.config import Config, read_config
from engine.config.presets import PRESETS
from engine.config.resolve import resolve
from engine.errors import UsageError
from engine.results import environment_table, formats, layer_table
from engine.results.formats import Column, Table
from nets import cost
from scripts import add_format, parser, status

# Measured steps of one image.
ROUNDS = 15

POINT_COLUMNS = (
    Column('point', 'point'),
    Column('layers', 'layers'),
    Column('madds', 'MAdds, M', 3, 1e6),
    Column('bit_ops', 'BitOps, G', 3, 1e9),
    Column('parameters', 'parameters, M', 3, 1e6),
    Column('weight_bytes', 'weights, MB', 3, 1e6),
    Column('activation_bytes', 'activations, MB', 3, 1e6),
    Column('low_bit_ops', 'of low bits, G', 3, 1e9),
)
Layers = Mapping[str, Sequence[cost.LayerRecord]]


def own_flags() -> argparse.ArgumentParser:
    """The flags of this script; those of imagenet_tf.py are left to it."""
    p = parser('summary', __doc__, more='which say what network')
    p.add_argument('--layers', action='store_true', help='every layer as well')
    p.add_argument('--point', help='this operating point alone')
    p.add_argument(
        '--ms',
        action='store_true',
        help='every layer of --point (default the strongest) with measured milliseconds',
    )
    add_format(p)
    return p


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """The flags: own ones, ``folder`` of a run, or else ``network``, those of imagenet_tf.py.

    Raises:
        UsageError: flags are unknown, or a run and a network are given.
    """
    args, rest = own_flags().parse_known_args(argv)
    args.folder = args.network = None
    if not rest or rest[0].startswith('-'):
        args.network = parse(rest, str(__doc__))
        return args
    args.folder = Path(rest[0])
    if len(rest) > 1:
        raise UsageError(f'RUN {rest[0]}: says what its network is; leave {rest[1]} out')
    return args


def run(argv: Sequence[str]) -> str:
    """Tables of operating points and, if wanted, of layers.

    Raises:
        UsageError: there is no such network or point.
    """
    args = parse_args(argv)
    notes: list[str] = []
    if args.folder is None:
        config, notes = asked(explicit(args.network))
    elif (args.folder / 'config.json').exists():
        config = read_config(args.folder / 'config.json')
    else:
        raise UsageError(f'RUN {args.folder}: is no run folder (no config.json in it)')
    from engine.graph.tower import Model

    model = Model(config, data_format='NHWC')
    _, layers = model.inspect()
    if args.point is not None and args.point not in layers:
        raise UsageError(f'--point {args.point}: there are {" ".join(layers)}')
    shown: Layers = layers
    if args.point is not None:
        shown = {args.point: cost.cumulative(layers, args.point)}
    computed = args.folder and environment_table.table(args.folder)
    tables = list(filter(None, [computed, points(layers, list(shown))]))
    if args.ms:
        point = args.point or next(iter(layers))
        tables.append(timed(model, args.folder, point, cost.cumulative(layers, point)))
    elif args.layers:
        tables.append(layer_table.every(shown))
    text = formats.render(tables, args.format)
    if not notes or args.format != 'text':
        return text
    return '\n'.join([*notes, '', text])


def asked(given: Mapping[str, Any]) -> tuple[Config, list[str]]:
    """The configuration that options by name ask for, and notes on it."""
    given = dict(given)
    preset = PRESETS.get(given.get('preset', ''))
    known = dict(given) if preset is None else {**preset.at(given), **given}
    large = max(known.get('sizes', (0,))) > embedded.LARGEST
    if 'data' not in known and (preset is not None or large):
        given['data'] = 'fake'
    config, _, notes = resolve(given)
    return config, notes


def points(layers: Layers, names: Sequence[str]) -> Table:
    """One row per operating point of these names."""
    rows = []
    for point in names:
        passed = cost.cumulative(layers, point)
        rows.append(
            (
                point,
                len(passed),
                cost.madds(passed),
                cost.bit_ops(passed),
                cost.parameters(passed),
                cost.weight_bytes(passed),
                cost.activation_bytes(passed),
                cost.bit_ops(cost.low_bit(passed)),
            )
        )
    return Table('points', POINT_COLUMNS, rows)


def timed(model: Any, folder: Path | None, point: str, layers: Sequence[cost.LayerRecord]) -> Table:
    """One row per layer that an image passes at a point, with milliseconds.

    Args:
        model: The network.
        folder: Of the run, whose weights it has then.
        point: Spelling of the operating point.
        layers: That it passes.
    """
    from engine.evaluation import layer_times
    from engine.runs import checkpoint, environment

    names = [layer.name for layer in layers]
    if folder is None:
        found = layer_times.of_start(model, point, names, ROUNDS)
    else:
        source = checkpoint.read(checkpoint.find(str(folder), None, 'RUN'), flag='RUN')
        found = layer_times.of_run(source, point, names, ROUNDS)
    device, *_ = (*environment.gpus(), processor.name())
    notes = [
        f'ms: medians of {ROUNDS} steps of one image on {device}; operations of no layer, such as '
        f'quantizers of activations and sums: {found[layer_times.OTHERS]:.3f} ms; gates and '
        'earlier exits are not computed'
    ]
    return layer_table.timed(layers, point, found, notes)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status, see ``scripts.status``."""
    return status('summary', run, sys.argv[1:] if argv is None else argv)


if __name__ == '__main__':
    sys.exit(main())
