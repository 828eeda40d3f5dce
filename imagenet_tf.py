#!/usr/bin/env python
"""Train or evaluate a network whose cost is chosen at run time; ``--help`` says how."""

import os
import signal
import sys
from collections.abc import Sequence

from engine.entry import STATUS, begin, interruptible, quiet
from engine.errors import Terminated, UsageError, WorkerError, told

# Before the rest is imported.
begin()


def main(argv: Sequence[str] | None = None) -> int:
    """Trains or evaluates.

    Returns:
        Exit status: 0 done, 2 bad input, 75 lost worker, 130 interrupted, 143 terminated.
    """
    from engine.config.cli import PROGRAM, parse
    from engine.evaluation.command import run_evaluation
    from engine.training.command import joined, run_training

    argv = sys.argv[1:] if argv is None else argv
    quiet(argv)
    training = False
    try:
        args = parse(argv)
        with interruptible():
            if args.eval:
                run_evaluation(args, joined)
            else:
                training = True
                run_training(args)
    except (UsageError, OSError) as error:
        print(f'{PROGRAM}: error: {told(error)}', file=sys.stderr)
        return 2
    except WorkerError as error:
        advice = 'resumes from the last checkpoint' if training else 'evaluates again'
        print(f'{PROGRAM}: {error}. The same command on all workers {advice}', file=sys.stderr)
        return os.EX_TEMPFAIL
    except KeyboardInterrupt as stop:
        if isinstance(stop, Terminated):
            print(f'terminated{_advice(stop)}', file=sys.stderr)
            return STATUS[signal.SIGTERM]
        print(f'interrupted{_advice(stop)}', file=sys.stderr)
        return STATUS[signal.SIGINT]
    return 0


def _advice(stop: KeyboardInterrupt) -> str:
    """How a training goes on that was stopped at a step; empty where no step is known."""
    if not stop.args:
        return ''
    (step,) = stop.args
    place = f'at step {step}' if step else 'from the start: no checkpoint was saved yet'
    return f'; the same command resumes {place}'


if __name__ == '__main__':
    sys.exit(main())
