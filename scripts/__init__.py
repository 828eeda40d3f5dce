"""Offline tools over run folders and checkpoints; each is a short main over the packages."""

import argparse
import inspect
import os
import signal
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from engine.entry import ALL_MESSAGES, STATUS, begin, interruptible, quiet
from engine.errors import Terminated, UsageError, told

# Packages are imported by what needs them: benchmarks run a module of ours in environments of
# other frameworks, which may lack them.
if TYPE_CHECKING:
    from engine.config.flags import Speller

T = TypeVar('T')

# Before the modules of the script are imported.
begin()


def parser(name: str, description: str | None, more: str = '') -> 'Speller':
    """The parser of a script.

    Args:
        name: Of the script, such as ``choose``.
        description: Its docstring, shown as it is.
        more: What flags of imagenet_tf.py that it takes beside its own are for; empty without.
    """
    from engine.config.flags import Speller

    epilog = None
    if more:
        epilog = f'Further flags are those of imagenet_tf.py, {more}.'
    made = Speller(
        prog=f'python -m scripts.{name}',
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=not more,  # an abbreviation could be a flag to hand on
    )
    # Heeded before the libraries are loaded, see ``engine.entry.quiet``.
    text = 'show all messages of TensorFlow and tensorpack'
    made.add_argument(*ALL_MESSAGES, action='store_true', help=text)
    return made


def add_format(p: Any) -> None:
    """Adds the flag that says what a script's tables are written as, to a parser or its group."""
    from engine.results import formats

    p.add_argument(
        '--format',
        default='text',
        choices=formats.FORMATS,
        help='of tables (default %(default)s); csv and json have numbers without units',
    )


def check_counts(args: argparse.Namespace, *names: str) -> None:
    """Checks flags that say how many, one number or several; what was not given passes.

    Args:
        args: The flags.
        *names: Of the flags that are checked, without hyphens.

    Raises:
        UsageError: A value is less than 1.
    """
    for name in names:
        given = vars(args)[name]
        values = given if isinstance(given, list) else [given]
        for value in values:
            if value is not None and value < 1:
                raise UsageError(f'--{name} {value}: must be at least 1')


def check_bits(bits: Iterable[int]) -> None:
    """Checks the bits that ``--bits`` asks for.

    Raises:
        UsageError: No quantizer has so many.
    """
    from quant.quantizer import MOST_BITS

    for one in bits:
        if not 1 <= one <= MOST_BITS:
            raise UsageError(f'--bits {one}: must be 1 to {MOST_BITS}')


def noted(text: str, note: str, style: str) -> str:
    """A table with a line below it, which goes to the standard error beside csv and json.

    Args:
        text: The table.
        note: The line.
        style: One of ``formats.FORMATS``.
    """
    from engine.results import formats

    if style in formats.DATA:
        print(note, file=sys.stderr)
        return text
    return f'{text}\n\n{note}'


def status(name: str, run: Callable[[T], str | None], args: T) -> int:
    """Runs a script, prints what it returns, and says how it ended.

    Args:
        name: Of the script, for messages.
        run: Its work.
        args: Of the work.

    Returns:
        Exit status: 0, 2 for bad input, 130 if interrupted, 143 if terminated.
    """
    quiet(sys.argv[1:])
    try:
        with interruptible():
            text = run(args)
            if text is not None:
                print(text, flush=True)
    except (UsageError, OSError) as error:
        print(f'{name}: error: {told(error)}', file=sys.stderr)
        return 2
    except Terminated:
        print('terminated', file=sys.stderr)
        return STATUS[signal.SIGTERM]
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        return STATUS[signal.SIGINT]
    return 0


def called(main: Callable[..., int]) -> int:
    """Runs the ``main`` of an example with the words of the command line.

    Args:
        main: Function with an argument for each word.

    Returns:
        Exit status of ``main``, or as ``status`` has it; 2 for a wrong number of words.
    """
    name = os.path.basename(sys.argv[0])
    words = sys.argv[1:]
    ended: list[int] = []

    def run(_: None) -> None:
        try:
            inspect.signature(main).bind(*words)
        except TypeError as error:
            usage = str(main.__globals__['__doc__']).strip()
            raise UsageError(f'{error}\n\n{usage}') from error
        ended.append(main(*words))

    return status(name, run, None) or ended[0]
