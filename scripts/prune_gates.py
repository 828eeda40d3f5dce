"""Makes a copy of a run without gates that decide the same for nearly all images, and evaluates it.

    python -m scripts.prune_gates RUN                 # makes RUN-pruned
    python -m scripts.prune_gates RUN --share 0.95 --out RUN2

A gate that nearly always opens costs more time than it saves, one that nearly always closes costs
its own. Held-out images decide (--holdout N of training): a block whose gate is open for at least
this share of them is executed for every image, one whose gate is closed for as many is left out.
The copy is an ordinary run that can be evaluated, profiled, exported and chosen. Its
prune_gates.json says what was removed, accuracy and multiply-adds.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from engine.errors import UsageError
from engine.files import making, read_json, write_json
from engine.results import records
from nets import cost
from nets.points import ENSEMBLE
from scripts import copies, parser, status

# End of the name of the folder that is made, and the file in it.
SUFFIX, RECORD = '-pruned', 'prune_gates.json'


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    p = parser('prune_gates', __doc__)
    copies.flags(p, SUFFIX)
    p.add_argument(
        '--share',
        type=float,
        default=0.98,
        help='of the held-out images, above one half; default: %(default)s',
    )
    return p.parse_args(argv)


def run(args: argparse.Namespace) -> str:
    """Removes gates, evaluates, and says what both runs cost and how accurate they are.

    Raises:
        UsageError: There is no such run, nothing to remove, or the folder exists.
    """
    check_share(args.share, '--share')
    from engine.runs import checkpoint

    prefix = checkpoint.find(args.run, args.epoch, 'RUN')
    folder = Path(prefix).parent
    out = args.out or copies.default(folder, SUFFIX)
    made = make(prefix, out, share=args.share, weights=args.weights, data=args.data)
    return f'{evaluated(folder, out, weights=args.weights, data=args.data)}\n{made}'


def check_share(share: float, flag: str) -> None:
    """Checks the share of images of which a gate says the same.

    Raises:
        UsageError: It is out of its range.
    """
    if not 0.5 < share <= 1:
        raise UsageError(f'{flag} {share}: must be greater than 0.5 and at most 1')


def make(prefix: str, out: Path, *, share: float, weights: str, data: str | None) -> str:
    """Makes the run folder, and says what was removed.

    Args:
        prefix: of the checkpoint.
        out: the folder.
        share: as of ``--share``.
        weights: as of ``--weights``.
        data: as of ``--data``.

    Raises:
        UsageError: It has no such gate or no hold-out, or the folder exists.
    """
    from engine.evaluation import pruning
    from engine.importers import copying
    from engine.runs import checkpoint

    with making(out, '--out') as path:
        dataset = checked(prefix, data, weights)
        # TensorFlow is loaded from here on.
        source = checkpoint.read(prefix, flag='RUN', weights=weights)
        found = pruning.rates(source, dataset)
        executed = pruning.settled(found, share)
        if not executed:
            raise UsageError(
                f'--share {share}: no gate of {prefix} says the same of so many held-out images; '
                f'open for: {_spelled(found)}'
            )
        copying.write(pruning.without(source, executed), path)
        about = {'share': share, 'holdout_rates': found, 'executed': executed, 'of': prefix}
        write_json(path / RECORD, about)
    opened = [gate for gate, always in executed.items() if always]
    closed = [gate for gate, always in executed.items() if not always]
    return (
        f'{out}: {len(executed)} of {len(found)} gates removed; always executed: '
        f'{" ".join(opened) or "none"}; left out: {" ".join(closed) or "none"}'
    )


def _spelled(found: Mapping[str, Sequence[float]]) -> str:
    """Rates as text."""
    parts = []
    for gate, shares in found.items():
        by_size = ' '.join(f'{100 * share:.1f}' for share in shares)
        parts.append(f'{gate} {by_size} %')
    return ', '.join(parts)


def checked(prefix: str, data: str | None, weights: str) -> Any:
    """The data set of a run that has gates to remove, with the held-out images that judge them.

    Args:
        prefix: of the checkpoint.
        data: where the images are; None for where the run recorded it.
        weights: as of ``--weights``.

    Raises:
        UsageError: They are not there, or the run has no such gates.
    """
    from engine.evaluation import pruning
    from engine.runs import checkpoint

    recorded = checkpoint.recorded(prefix, weights=weights)
    dataset = _dataset(recorded, data)
    pruning.check(recorded, dataset)
    return dataset


def _dataset(source: Any, data: str | None) -> Any:
    """The data set of a run, with its held-out images where it has some.

    Args:
        source: the checkpoint.
        data: where it is; None for where the run recorded it.

    Raises:
        UsageError: It is not there, or the run does not know.
    """
    from engine.data.datasets import located
    from engine.runs import holdout

    place = data or source.config.data
    if not place:
        raise UsageError(f'{source.prefix}: knows of no data; --data names some')
    config = source.config.replacing(data=located(place))
    return holdout.open_data(config, Path(source.prefix).parent)


def evaluated(before: Path, after: Path, *, weights: str, data: str | None) -> str:
    """Evaluates the copy; accuracy and multiply-adds of both runs go into its record.

    Args:
        before: Folder of the run.
        after: Of its copy.
        weights: As of ``--weights``.
        data: As of ``--data``.
    """
    copies.evaluate(after, data=data)
    scores = copies.accuracies(before, after, weights, 'without gates')
    top1 = {}
    costs = {}
    rows = []
    for name, score in copies.scores(after):
        if name.startswith(ENSEMBLE):
            continue
        top1[name] = score.top1
        found = [records.read_expected_madds(before, name, None), _madds(after, name)]
        costs[name] = found
        rows.append([name, *map(_millions, found)])
    path = after / RECORD
    known = read_json(path, dict[str, Any], f'make {after} again')
    write_json(path, known | {'top1': top1, 'madds': costs})
    if not rows:
        return scores
    headers = ['point', 'M multiply-adds, as trained', 'without gates']
    return f'{scores}\n{tabulate(rows, headers, floatfmt=".3f", missingval="-")}'


def _madds(folder: Path, point: str) -> float:
    """Mean multiply-adds of an image, which all cost the same where no gate is left."""
    expected = records.read_expected_madds(folder, point, None)
    if expected is None:
        return cost.madds(records.read_layers(folder)[point])
    return expected


def _millions(madds: float | None) -> float | None:
    return None if madds is None else madds / 1e6


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status, see ``scripts.status``."""
    return status('prune_gates', run, parse_args(argv))


if __name__ == '__main__':
    sys.exit(main())
