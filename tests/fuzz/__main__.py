"""Tries every reader with damaged files: ``python -m tests.fuzz --minutes 10 --seed 0``.

All single bits of a file of each kind, and random damages for the time that is left, shared evenly.
Exit status 1 if anything but the recorded value or a refusal came of a file.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.fuzz.harness import Reader, Tally, Trial
from tests.fuzz.readers import READERS

# Faults that are told; the others are counted.
TOLD = 5

# Random damages that a reader gets even if the time is over.
LEAST = 10_000


def trial(reader: Reader, folder: Path, seed: int, seconds: float) -> Tally:
    """Counts of the outcomes of all bits of a reader's file and of random damages.

    Args:
        reader: To try.
        folder: For its file.
        seed: Of the random damages.
        seconds: To take, if it needs no more for the least number of files.
    """
    started = time.monotonic()
    tried = Trial(reader, folder, seed)
    least = tried.bits + LEAST
    total = tried.apart(range(least))
    total.add(tried.apart(range(least, 1000 * least), started + seconds))
    return total


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status."""
    p = argparse.ArgumentParser(prog='python -m tests.fuzz', description=__doc__)
    p.add_argument('--minutes', type=float, default=10.0, help='default %(default)s')
    p.add_argument('--seed', type=int, default=0, help='of the random damages')
    p.add_argument('--only', default='', help='readers whose name holds this')
    args = p.parse_args(argv)
    readers = [reader for reader in READERS if args.only in reader.name]
    end = time.monotonic() + 60 * args.minutes
    faults = 0
    for number, reader in enumerate(readers):
        share = (end - time.monotonic()) / (len(readers) - number)
        with tempfile.TemporaryDirectory() as folder:
            found = trial(reader, Path(folder), args.seed, share)
        print(found.line(reader.name), flush=True)
        for fault in found.faults[:TOLD]:
            print(f'  {fault}', flush=True)
        faults += len(found.faults)
    return min(faults, 1)


if __name__ == '__main__':
    sys.exit(main())
