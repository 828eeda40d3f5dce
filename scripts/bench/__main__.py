"""Benchmarks: ratios measured interleaved in one run. Every benchmark ends with a line of JSON.

    python -m scripts.bench train              # ResNet-18 W2A2, batch 8, five sizes, against float
    python -m scripts.bench train -d 50 --qa 32 --mode resnet --batch_size 4 --steps 3
    python -m scripts.bench train --bf16       # the same W2A2 in bfloat16 against float32
    python -m scripts.bench train --recompute blocks   # in less memory, against all kept
    python -m scripts.bench infer --net aig    # skipping against all bodies computed, ResNet-50
    python -m scripts.bench infer --net msdnet # early exit at budgets against the full network
    python -m scripts.bench infer --net dsnet  # widths, and a batch of mixed widths
    python -m scripts.bench data               # decoding, augmentation; tensorpack, tf.data
    python -m scripts.bench deploy [RUN]       # exported files by form and runtime
    python -m scripts.bench quantizers         # each alone, and in a training step; --quick
    python -m scripts.bench peers              # our float step beside PyTorch's and Keras 3's
    python -m scripts.bench steps              # W2A2, W4A4, W8A8 and bfloat16 against float
    python -m scripts.bench bits               # several precisions in a step, against one of each
    python -m scripts.bench all                # all of them at small settings, as make bench does
    python -m scripts.bench scaling            # over sizes, bits, depth, towers, exits; --quick

What each measures, and its flags: python -m scripts.bench NAME --help
"""

import argparse
import sys
from collections.abc import Sequence

from scripts import parser, status
from scripts.bench.bits import bits
from scripts.bench.data import data
from scripts.bench.deploy import deploy
from scripts.bench.everything import everything
from scripts.bench.infer import infer
from scripts.bench.peers import peers
from scripts.bench.quantizers import quantizers
from scripts.bench.scaling import scaling
from scripts.bench.steps import steps
from scripts.bench.train import train

BENCHMARKS = {
    'train': train,
    'infer': infer,
    'data': data,
    'deploy': deploy,
    'quantizers': quantizers,
    'peers': peers,
    'scaling': scaling,
    'steps': steps,
    'bits': bits,
    'all': everything,
}


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """The benchmark, and its own flags."""
    p = parser('bench', __doc__)
    p.add_argument('benchmark', choices=tuple(BENCHMARKS))
    p.add_argument('flags', nargs=argparse.REMAINDER, help='of the benchmark')
    return p.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status, see ``scripts.status``."""
    args = parse_args(argv)
    return status('bench', BENCHMARKS[args.benchmark], args.flags)


if __name__ == '__main__':
    sys.exit(main())
