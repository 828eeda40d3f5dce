"""Draws quantizers: as functions with their pseudo-gradients, or as a run has learned them.

    python -m scripts.show_quantizer 'lsq(bits=2)' -o lsq.svg
    python -m scripts.show_quantizer 'lq(bits=2)' 'pact(bits=2)' --only activations -o both.png
    python -m scripts.show_quantizer 'lsqplus(bits=2)' --inputs swish -o swish.svg
    python -m scripts.show_quantizer RUN -o levels.pdf                     # pages, all quantizers
    python -m scripts.show_quantizer RUN --layer group2 --point s20 -o group2.png
    python -m scripts.show_quantizer --all docs/quantizers                 # a file of every method

Of a spec: what comes out of typical values, and the gradient that reaches each of them where that
of the output is 1 (dashed: where -1 gives another share), both found by running the quantizer.
Weights are normal, of three channels with deviations 0.5, 1 and 1.5; activations are normal, and
come through a ReLU. State is that of the start of training, of these values; what is refit has
been. Levels are marked at the left, thresholds below.

Of a run: the histogram of what each quantizer reads, weights from the checkpoint, activations of
some evaluation images before their ReLU, and its step function over it.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from engine import figures
from engine.console import followed
from engine.errors import UsageError
from engine.files import check_output, check_writable
from engine.graph import step_functions
from engine.results import formats, levels_figure, quantizer_figure
from engine.results.formats import Column, Table
from quant import specs
from scripts import add_format, check_counts, noted, parser, status

HALVES = (step_functions.WEIGHTS, step_functions.ACTIVATIONS)

# Flags that say something of a run, and not of a spec; and the reverse.
OF_RUN = ('layer', 'point', 'images', 'data', 'epoch')
OF_SPEC = ('inputs',)

COLUMNS = (
    Column('scope', 'quantizer of'),
    Column('of', 'what'),
    Column('spec', 'spec'),
    Column('levels', 'levels'),
    Column('used', 'used'),
    Column('grids', 'grids'),
)


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    p = parser('show_quantizer', __doc__)
    p.add_argument(
        'what',
        nargs='*',
        metavar='SPEC | RUN',
        help='specs, as --weight-quantizer takes them; or one run folder or checkpoint prefix',
    )
    p.add_argument(
        '-o', '--output', metavar='FILE', help='picture (default quantizer.svg or levels.pdf)'
    )
    p.add_argument('--only', choices=HALVES, help='default: what the method serves')
    p.add_argument(
        '--inputs',
        choices=tuple(step_functions.INPUTS),
        help='of a spec: what comes before a quantizer of activations (default relu)',
    )
    p.add_argument(
        '--all',
        metavar='FOLDER',
        type=Path,
        help='a picture NAME.svg of every method, at 2 bits where it has them',
    )
    p.add_argument('--layer', metavar='PATTERN', help='of a run: searched in the scopes of layers')
    p.add_argument('--point', help='of a run: operating point; default: the first')
    p.add_argument(
        '--images', type=int, metavar='N', help='of a run: evaluation images (default 64)'
    )
    p.add_argument('--data', help='of a run: evaluation images; default: as it recorded them')
    p.add_argument('-ep', '--epoch', type=int, help='of a run: default: its last checkpoint')
    add_format(p)
    return p.parse_args(argv)


def is_run(text: str) -> bool:
    """Whether this is a run folder or a checkpoint, and not a spec; names of quantizers are."""
    if text in specs.names():
        return False
    return Path(text).exists() or Path(f'{text}.index').exists()


def check(args: argparse.Namespace) -> None:
    """Checks that the flags go together.

    Raises:
        UsageError: They do not.
    """
    runs = [text for text in args.what if is_run(text)]
    if runs and len(args.what) > 1:
        raise UsageError(f'RUN {runs[0]}: give one run, or specs of quantizers')
    if not args.what and args.all is None:
        raise UsageError("give specs such as 'lsq(bits=2)', a run folder, or --all FOLDER")
    if args.all is not None and (args.what or args.output or args.only):
        raise UsageError('--all: takes no specs, no run, no --output and no --only')
    foreign = OF_SPEC if runs else OF_RUN
    for flag in foreign:
        if getattr(args, flag) is not None:
            what = 'a quantizer spec' if runs else 'a run'
            raise UsageError(f'--{flag} {getattr(args, flag)}: is for {what}')
    try:
        re.compile(args.layer or '')
    except (re.error, OverflowError, RecursionError) as error:
        raise UsageError(f'--layer {args.layer!r}: is no regular expression: {error}') from error
    check_counts(args, 'images')


def halves(spec: str, only: str | None) -> list[str]:
    """The halves of a layer to draw the quantizer of.

    Args:
        spec: of the quantizer.
        only: as of ``--only``.

    Raises:
        UsageError: The spec is wrong, or it does not serve that.
    """
    try:
        served = step_functions.served(spec)
    except ValueError as error:
        there = ''
        if '(' not in spec:
            there = f'; and there is no run folder or checkpoint {spec!r}'
        raise UsageError(f'{error}{there}') from error
    if only and only not in served:
        found = specs.parse(spec)
        assert found is not None
        reason = found.refuses('body', weights=only == step_functions.WEIGHTS)
        raise UsageError(f'--only {only}: {spec}: {reason}')
    if not served:
        raise UsageError(f'{spec}: serves neither weights nor activations')
    return [only] if only else served


def every() -> dict[str, str]:
    """A spec by name of every method: of 2 bits, or of its own where it has no such."""
    found = {}
    for name in specs.names():
        found[name] = f'{name}(bits=2)'
        try:
            specs.parse(found[name])
        except ValueError:
            found[name] = name
    return found


def draw_specs(texts: Sequence[str], only: str | None, inputs: str, output: str) -> None:
    """Draws specs into one picture.

    Args:
        texts: specs of quantizers.
        only: as of ``--only``.
        inputs: as of ``--inputs``.
        output: file.

    Raises:
        UsageError: A spec is wrong, or the file cannot be written.
    """
    wanted = []
    for spec in texts:
        wanted += [(spec, half) for half in halves(spec, only)]
    check_output(output)
    figures.check_kind(output)
    curves = []
    for spec, half in wanted:
        try:
            curves.append(step_functions.curve(spec, half, inputs))
        except ValueError as error:
            raise UsageError(f'{spec} for {half}: {error}') from error
    figures.save(quantizer_figure.draw(curves), output)


def draw_run(args: argparse.Namespace, run: str, output: str) -> str:
    """Draws the quantizers of a run, and says what they are.

    Args:
        args: flags.
        run: folder or checkpoint.
        output: file.

    Raises:
        UsageError: There is no such run or layer, or the file cannot be written.
    """
    check_output(output)
    figures.check_kind(output)
    from engine.evaluation import layer_levels
    from engine.runs import checkpoint

    asked = layer_levels.Asked(
        args.layer or '', args.only or '', args.point or '', args.images or 64, args.data
    )
    prefix = checkpoint.find(run, args.epoch, 'RUN')
    layer_levels.check(checkpoint.recorded(prefix), asked)
    # TensorFlow is loaded from here on.
    source = checkpoint.read(prefix, flag='RUN')
    point, layers = layer_levels.layers(source, asked)
    title = f'{source.prefix}, {point}'
    table = Table('quantizers', COLUMNS, layer_levels.states(layers))
    lines = []
    if figures.has_pages(output):
        drawn = list(levels_figure.pages(layers, title))
        figures.save_pages(followed(drawn, 'drawing', len(drawn), 'pages', delay=3), output)
    else:
        shown = levels_figure.choose(layers, levels_figure.PICTURE)
        if len(shown) < len(layers):
            chosen = f'{len(shown)} of {len(layers)} quantizers, at equal distances'
            title = f'{title}: {chosen}'
            lines.append(f'{chosen}; --layer PATTERN chooses, a .pdf has all')
        figures.save(levels_figure.draw(shown, title), output)
    note = '\n'.join([*lines, output])
    return noted(formats.render([table], args.format), note, args.format)


def run(args: argparse.Namespace) -> str:
    """Draws what is asked for."""
    check(args)
    inputs = args.inputs or 'relu'
    if args.all is not None:
        check_writable(args.all, f'--all {args.all}')
        args.all.mkdir(parents=True, exist_ok=True)
        methods = every()
        for name, spec in followed(methods.items(), 'drawing', len(methods), 'methods', delay=3):
            draw_specs([spec], None, inputs, str(args.all / f'{name}.svg'))
        return str(args.all)
    if is_run(args.what[0]):
        return draw_run(args, args.what[0], args.output or 'levels.pdf')
    output = args.output or 'quantizer.svg'
    draw_specs(args.what, args.only, inputs, output)
    return output


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status, see ``scripts.status``."""
    return status('show_quantizer', run, parse_args(argv))


if __name__ == '__main__':
    sys.exit(main())
