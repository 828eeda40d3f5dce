"""Trains one network of five input sizes at 2 bits, and lets budgets choose among them.

    python examples/train_and_choose.py train_log/chosen

Further flags are those of imagenet_tf.py.
"""

import sys
from pathlib import Path

import numpy as np

import engine
import imagenet_tf
from engine import Predictor
from scripts import called


def main(run: str, *flags: str) -> int:
    """Trains ``run``, and prints what it answers to an image within three budgets."""
    training = ['--preset', 'demo', '--qw', '2', '--qa', '2', '--logdir', run]
    if status := imagenet_tf.main([*training, *flags]):
        return status
    images = np.load(Path(engine.__file__).parent / 'resources' / 'animals28.npz')
    with Predictor(run) as predictor:
        for budget in ('2M', '5M', '10M'):
            answer = predictor(images['image'][0], budget=budget, RGB=True)  # a bear
            print(f'within {budget}: {answer.name} {answer.score:.3f} at {answer.point}')
    return 0


if __name__ == '__main__':
    sys.exit(called(main))
