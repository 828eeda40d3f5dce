"""Makes a copy of a run whose levels are small whole numbers times a scale, and evaluates it.

    python -m scripts.snap RUN                       # makes RUN-snapped
    python -m scripts.snap RUN --out RUN2 --weights ema
    python -m scripts.export RUN-snapped --form int8 --out net.onnx

Integer arithmetic needs whole numbers. The levels that were learned are replaced by the nearest
ones that are, and that network is evaluated and shipped; the run itself is not changed.
Weights get whole numbers up to 127 for each output channel, activations up to 255 for each tensor.
At 2 bits that changes next to nothing; at 3 and 4 bits train with --snap-epochs.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from engine.files import making
from engine.quantities import counted
from scripts import copies, parser, status

# End of the name of the folder that is made.
SUFFIX = '-snapped'


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    p = parser('snap', __doc__)
    copies.flags(p, SUFFIX)
    return p.parse_args(argv)


def run(args: argparse.Namespace) -> str:
    """Snaps, evaluates, and says how accurate both are.

    Raises:
        UsageError: There is no such run, it has no levels to snap, or the folder exists.
    """
    from engine.runs import checkpoint

    prefix = checkpoint.find(args.run, args.epoch, 'RUN')
    folder = Path(prefix).parent
    out = args.out or copies.default(folder, SUFFIX)
    copies.check_data(prefix, args.data)
    made = make(prefix, out, weights=args.weights)
    copies.evaluate(out, data=args.data)
    table = copies.accuracies(folder, out, args.weights, 'snapped')
    return f'{table}\n{made}'


def make(prefix: str, out: Path, *, weights: str) -> str:
    """Makes the run folder, and says what changed.

    Args:
        prefix: of the checkpoint.
        out: the folder.
        weights: as of ``--weights``.

    Raises:
        UsageError: It has no levels to snap, or the folder exists.
    """
    from engine.deployment import snapping
    from engine.importers import copying
    from engine.runs import checkpoint

    with making(out, '--out') as folder:
        snapping.check(checkpoint.recorded(prefix, weights=weights))
        # TensorFlow is loaded from here on.
        found = snapping.snapped(checkpoint.read(prefix, flag='RUN', weights=weights))
        made = Path(copying.write(found.source, folder)).name
    return (
        f'{out / made}: levels of {counted(found.variables, "variable")} snapped, by at most '
        f'{100 * found.moved:.2f} % of the largest entry'
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status, see ``scripts.status``."""
    return status('snap', run, parse_args(argv))


if __name__ == '__main__':
    sys.exit(main())
