"""Trains on a folder of your own pictures, and shows which ones the network gets wrong.

    python examples/own_data.py photos train_log/own

``photos`` has ``train/CLASS/*`` and ``val/CLASS/*``. Further flags are those of imagenet_tf.py;
on a CPU, sizes below the usual 224 to 96: ``--sizes 48 32 --augment cifar --epochs 8``.
"""

import sys
from pathlib import Path

import imagenet_tf
from engine import Predictor
from scripts import called, check_data


def main(photos: str, run: str, *flags: str) -> int:
    """Looks at the pictures, trains ``run`` with 2 bits, and lists its errors, the surest first."""
    training = ['--data', photos, '--qw', '2', '--qa', '2', '--kd', '--logdir', run]
    for status in (check_data.main([photos]), imagenet_tf.main([*training, *flags])):
        if status:
            return status
    paths = sorted(path for path in Path(photos, 'val').glob('*/*') if path.is_file())
    wrong = []
    with Predictor(run) as predictor:
        for path, answer in zip(paths, predictor(map(str, paths))):
            if answer.name != path.parent.name:
                wrong.append((answer.score, path, answer.name))
    print(f'{len(wrong)} of {len(paths)} are wrong')
    for score, path, name in sorted(wrong, reverse=True)[:10]:
        print(f'{path}: taken for {name} with probability {score:.2f}')
    return 0


if __name__ == '__main__':
    sys.exit(called(main))
