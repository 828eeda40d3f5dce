"""Flags of a command that no run records: chains, the run folder, this machine, evaluations."""

import dataclasses

from engine.config.options import LARGEST_SIZE, SMALLEST_SIZE
from engine.optimization.averages import WEIGHTS
from quant.options import option
from quant.quantizer import MOST_BITS

DATA_FORMATS = ('NHWC', 'NCHW')
ACTIONS = {
    'k': 'keep and resume',
    'd': 'delete',
    'n': 'new folder beside it',
    'p': 'keep and prolong, though the learning rate has ended at 0',
}
# Those that go on with what is there, as none does.
RESUMING = (None, 'k', 'p')
UNTRAINED = ('proxy', 'ideal', 'interpolate')
# Seconds, more than a hiccup of a file system takes.
WORKER_TIMEOUT = 120.0


@dataclasses.dataclass(frozen=True)
class ChainFlags:
    """Several trainings in one command; each is a configuration of its own."""

    progressive: tuple[str, ...] | None = option(
        None,
        'bits of a chain of trainings, each in a folder of its own from the weights of the one '
        'before: 4 3 2, or of weights and activations, w32a4 w4a4',
        metavar='BITS',
    )


@dataclasses.dataclass(frozen=True)
class FolderFlags:
    """Flags of this machine and the run folder, which are no part of a configuration."""

    data_format: str | None = option(
        None, 'default: NCHW with a GPU, NHWC without', choices=DATA_FORMATS
    )
    threads: int | None = option(
        None,
        'threads that decode, 0 to do it in between, and threads within an operation on the CPU; '
        'default: one for each core',
        low=0,
        high=1024,
        metavar='N',
    )
    workers: str | None = option(
        None,
        'machines that train together, each with this command and its own --worker-index',
        metavar='HOST:PORT,...',
    )
    worker_index: int | None = option(
        None, 'which of --workers this one is, from 0; 0 writes', low=0, metavar='I'
    )
    worker_timeout: float | None = option(
        None,
        'without an answer of another worker, after which this one stops '
        f'(default {WORKER_TIMEOUT:g})',
        low=5,
        metavar='SECONDS',
    )
    logdir: str | None = option(
        None,
        'run folder; default: train_log/ and a name made of the configuration',
        metavar='FOLDER',
    )
    histograms: bool = option(False, 'TensorBoard gets histograms of the weights, every epoch')
    dry_run: bool = option(
        False, 'say what would be trained: steps, cost, memory; train and write nothing'
    )
    measure: bool = option(
        False, '--dry-run with some steps, whose time says how many hours the training would take'
    )
    verbose: bool = option(False, 'show all messages of TensorFlow and tensorpack', short=('-v',))
    action: str | None = option(
        None,
        'what to do with an existing run folder: '
        + ', '.join(f'{key} {text}' for key, text in ACTIONS.items()),
        choices=tuple(ACTIONS),
        short=('-a',),
    )


@dataclasses.dataclass(frozen=True)
class EvaluationFlags:
    """Flags of an evaluation."""

    eval_checkpoint: str | None = option(
        None,
        'run folder, checkpoint prefix, or published checkpoint folder',
        short=('-ec',),
        metavar='CKPT',
    )
    eval_scale: tuple[int, ...] | None = option(
        None,
        'sizes to test; default: those it was trained at',
        low=SMALLEST_SIZE,
        high=LARGEST_SIZE,
        short=('-es',),
        metavar='PIXELS',
    )
    eval_widths: tuple[int, ...] | None = option(
        None,
        'dsnet: widths to test; default: those that have statistics',
        low=0,
        short=('-ew',),
        metavar='WIDTH',
    )
    eval_bits: tuple[int, ...] | None = option(
        None,
        'of a network of several precisions: those to test, by the bits of their weights; default: '
        'those it was trained at',
        low=1,
        high=MOST_BITS,
        short=('-eb',),
        metavar='BITS',
    )
    eval_original_scale: int | None = option(
        None,
        "use this size's normalisation",
        low=SMALLEST_SIZE,
        high=LARGEST_SIZE,
        short=('-eos',),
        metavar='PIXELS',
    )
    untrained: str | None = option(
        None,
        'what serves sizes without statistics: those of the nearest size (proxy), with '
        "san's own kernels (ideal), or between the neighbours (interpolate)",
        choices=UNTRAINED,
    )
    eval_epoch: int | None = option(
        None,
        'checkpoint of this epoch; default: the last',
        low=1,
        short=('-ep',),
        metavar='EPOCH',
    )
    weights: str | None = option(
        None,
        'those that were trained (raw, the default) or their averages (ema, of --model-ema)',
        choices=WEIGHTS,
    )
    fix_mean_var: bool = option(
        False,
        'with -eos: moving mean and variance of the checkpoint whose path has the tested size in '
        'place of the -eos size',
    )
    per_class: bool = option(
        False, 'tables of every class and of what it is taken for, and pictures of them'
    )
    draws: int | None = option(
        None, 'with --gate_noise: evaluations (default 5)', low=1, high=10**6, metavar='N'
    )
    thresholds: str | None = option(
        None, 'leave at exits as this file says, see scripts/thresholds.py', metavar='FILE'
    )
    cascade: str | None = option(
        None,
        'run a chain of operating points as this file says, see scripts/thresholds.py',
        metavar='FILE',
    )
