"""The checkpoint to export: of a run, or of its copy without gates or with snapped levels."""

import argparse
from pathlib import Path
from typing import Any

from engine.deployment import forms, snapping
from engine.errors import UsageError
from engine.runs import checkpoint
from scripts import copies, prune_gates, snap


def recorded(args: argparse.Namespace, exporter: forms.Exporter) -> Any:
    """The checkpoint of the run as its folder describes it, with which all can be done.

    Args:
        args: the flags.
        exporter: of the form that is written.

    Raises:
        UsageError: There is no such run, a copy of it is there, or it cannot be made or written.
    """
    prefix = checkpoint.find(args.run, args.epoch, 'RUN')
    found = checkpoint.recorded(prefix, weights=args.weights)
    folder = Path(prefix).parent
    if args.prune_gates is not None:
        prune_gates.checked(prefix, args.data, args.weights)
        folder = _place(folder, prune_gates.SUFFIX, '--prune-gates', args.run)
    if args.snap:
        snapping.check(found)
        _place(folder, snap.SUFFIX, '--snap', args.run)
    else:
        exporter.check(found)
    return found


def source(args: argparse.Namespace, prefix: str) -> Any:
    """The checkpoint to export: of the run, or of the copy of it that flags ask for.

    Args:
        args: the flags.
        prefix: of the run's checkpoint.

    Raises:
        UsageError: It is damaged, or a copy of it cannot be made.
    """
    weights = args.weights
    if args.prune_gates is not None:
        prefix = _pruned(prefix, args)
        weights = 'raw'
    if args.snap:
        prefix = _snapped(prefix, args, weights)
        weights = 'raw'
    return checkpoint.read(prefix, flag='RUN', weights=weights)


def _place(folder: Path, suffix: str, flag: str, run: str) -> Path:
    """The folder of a copy of a run.

    Args:
        folder: of the run.
        suffix: of the copy.
        flag: that asks for it, for messages.
        run: as it was given.

    Raises:
        UsageError: There is one.
    """
    out = copies.default(folder, suffix)
    if out.exists():
        raise UsageError(f'{flag}: {out} is there; give it instead of {run}, or move it away')
    return out


def _pruned(prefix: str, args: argparse.Namespace) -> str:
    """Makes and evaluates the copy without gates of a run; returns the prefix of its checkpoint.

    Raises:
        UsageError: There is one, or the run has no such gates.
    """
    folder = Path(prefix).parent
    out = _place(folder, prune_gates.SUFFIX, '--prune-gates', args.run)
    share, weights, data = args.prune_gates, args.weights, args.data
    print(prune_gates.make(prefix, out, share=share, weights=weights, data=data))
    print(prune_gates.evaluated(folder, out, weights=weights, data=data))
    return checkpoint.find(str(out), None, 'RUN')


def _snapped(prefix: str, args: argparse.Namespace, weights: str) -> str:
    """Makes and evaluates the snapped copy of a run, and returns the prefix of its checkpoint.

    Args:
        prefix: of the run.
        args: the flags.
        weights: of the run, raw or averages.

    Raises:
        UsageError: There is one, or the run has no levels to snap.
    """
    folder = Path(prefix).parent
    out = _place(folder, snap.SUFFIX, '--snap', args.run)
    print(snap.make(prefix, out, weights=weights))
    copies.evaluate(out, data=args.data)
    print(copies.accuracies(folder, out, weights, 'snapped'))
    return checkpoint.find(str(out), None, 'RUN')
