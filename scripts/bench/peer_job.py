"""The training step that PyTorch and Keras 3 take: its network, and the flags that ask for it.

Python's own library only, as in ``turns``.
"""

import argparse

# Channels of the groups of ResNet-18.
WIDTHS = (64, 128, 256, 512)
CLASSES = 1000
# Weight decay of kernels, and learning rate.
DECAY = 5e-5
RATE = 1e-4

DTYPES = ('f32', 'bf16')


def flags() -> argparse.ArgumentParser:
    """The flags of a process that takes the step."""
    p = argparse.ArgumentParser()
    p.add_argument('--sizes', type=int, nargs='+', required=True)
    p.add_argument('--batch', type=int, required=True)
    p.add_argument('--dtype', choices=DTYPES, default=DTYPES[0])
    p.add_argument('--compile', action='store_true')
    return p
