"""Answers with the few bits that have arrived, and better with those that follow.

    python -m scripts.export train_log/bits --out net.lqn      # of a run of several precisions
    python -m scripts.export net.lqn --bits-first 2 --out first.lqn
    python examples/refine.py first.lqn net.lqn bear.jpg

A real device would receive the rest in its own time; here it is read from the whole file.
"""

import sys
from pathlib import Path

from engine import Predictor
from engine.errors import UsageError
from scripts import called


def main(first: str, whole: str, image: str) -> int:
    """Asks the part ``first`` of the file ``whole`` about ``image``, then all of it.

    Raises:
        UsageError: ``whole`` does not begin with ``first``.
    """
    begun, content = Path(first).read_bytes(), Path(whole).read_bytes()
    if not content.startswith(begun):
        raise UsageError(f'{whole}: does not begin with {first}; --bits-first makes such a part')
    rest = content[len(begun) :]
    with Predictor(first) as predictor:
        ask(predictor, image)
        arrived = predictor.append(rest)
        print(f'{len(rest)} bytes more: {" ".join(arrived)}')
        ask(predictor, image)
    return 0


def ask(predictor: Predictor, image: str) -> None:
    """Prints the answer at every operating point that can run."""
    for point in predictor.points:
        answer = predictor(image, point=point)
        print(f'{point}: {answer.name} {answer.score:.3f}')


if __name__ == '__main__':
    sys.exit(called(main))
