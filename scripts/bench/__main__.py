"""Benchmarks: ratios measured interleaved in one run. Every benchmark ends with one line of JSON.

    python -m scripts.bench train                                   # ResNet-18 W2A2, batch 8, five
    sizes, against float python -m scripts.bench train -d 50 --qa 32 --mode resnet --batch_size 4
    --steps 3 python -m scripts.bench train --bf16                            # the same W2A2 in
    bfloat16 against float32 python -m scripts.bench infer --net aig                         #
    skipping against computing all bodies, ResNet-50 python -m scripts.bench infer --net msdnet
    # early exit at budgets against the full network python -m scripts.bench infer --net dsnet
    # widths, and a batch of mixed widths python -m scripts.bench data
    # decoding, augmentation against tensorpack, tf.data

``train``: one training step of a configuration (any flags of imagenet_tf.py) against the same in
float, or with ``--bf16`` against the same in float32. Each of the two runs in a process of its own,
so that each has its own peak memory; they take turns, step by step.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence

import nets
from engine import families
from scripts import status
from scripts.bench.data import data
from scripts.bench.train import train


def infer(argv: Sequence[str]) -> None:
    """Dynamic against static inference."""
    timed = [net for net in nets.names() if families.get(net).benchmark]
    p = argparse.ArgumentParser(prog='bench infer', add_help=False, allow_abbrev=False)
    p.add_argument('--net', choices=timed, default=timed[0])
    own, rest = p.parse_known_args(argv)
    module = importlib.import_module(f'scripts.bench.{families.get(own.net).benchmark}')
    module.infer(rest)


BENCHMARKS = {'train': train, 'infer': infer, 'data': data}


def main(argv: Sequence[str] | None = None) -> int:
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument('benchmark', choices=tuple(BENCHMARKS))
    args, rest = p.parse_known_args(argv)
    return status('bench', BENCHMARKS[args.benchmark], rest)


if __name__ == '__main__':
    sys.exit(main())
