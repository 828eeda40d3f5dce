"""The command line's flags: parsed, spelled in either way, and turned into fields of Config."""

import argparse
import dataclasses
import math
import shlex
from collections.abc import Sequence
from typing import Any

import nets
from engine.config.config import GROUPS as OPTION_GROUPS
from engine.config.config import Config, field_names
from engine.config.hardware import DATA_FORMATS
from engine.config.options import (
    TRAINERS,
    Architecture,
    gpu_ids,
)
from engine.config.presets import PRESETS, data_defaults, network_defaults
from engine.data.augment import AUGMENTATIONS
from engine.data.preprocessing import RESIZES
from engine.errors import UsageError
from engine.optimization import schedules
from engine.optimization.optimizers import DECAYS
from engine.quantities import quantity
from engine.runs.folder import ACTIONS
from engine.runs.untrained_sizes import UNTRAINED
from quant.options import limits

# Seconds, more than a hiccup of a file system takes.
WORKER_TIMEOUT = 120.0


def multiply_adds(text: str) -> float:
    try:
        return quantity('--target_madds', text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def parser(description: str = '') -> argparse.ArgumentParser:
    """The flags. None means not given: presets and data sets fill in what no flag says."""
    p = argparse.ArgumentParser(
        prog='imagenet_tf.py',
        description=description,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog='Dashes and underscores in flags are the same.',
    )
    for title, add in GROUPS.items():
        add(p.add_argument_group(title))
    return p


def _choices(name: str) -> list[str]:
    """Values that an option can have in any network."""
    found: set[str] = set()
    for net in nets.names():
        for field in dataclasses.fields(nets.get(net).Options):
            known = limits(field)
            if field.name == name and known is not None:
                found |= set(known.allowed() or ())
    return sorted(found)


def _recipe(g: Any) -> None:
    g.add_argument(
        '--preset', help=f'a whole recipe, which explicit flags beat: {", ".join(PRESETS)}'
    )
    g.add_argument('--epochs', type=int)
    g.add_argument('--steps_per_epoch', type=int, help='default: one pass over the training images')
    g.add_argument('--batch_size', type=int, help='images of a step over all GPUs')
    g.add_argument('--lr', type=float)
    g.add_argument('--schedule', choices=schedules.names())
    g.add_argument('--warmup', type=float, metavar='EPOCHS')
    g.add_argument(
        '--milestones', type=int, nargs='+', metavar='EPOCH', help='of --schedule milestones'
    )
    g.add_argument('--gamma', type=float, help='factor at every milestone')
    g.add_argument(
        '--min_lr', type=float, metavar='LR', help='of --schedule cosine_epochs: lowest rate'
    )
    g.add_argument(
        '--cooldown',
        type=int,
        metavar='EPOCHS',
        help='of --schedule cosine_epochs: last ones, at --min_lr',
    )
    g.add_argument('--wd', type=float, help='weight decay')
    g.add_argument('--decay', choices=DECAYS, help='what decays: kernels, or all trained variables')
    g.add_argument('--nesterov', action=argparse.BooleanOptionalAction, help='Nesterov momentum')
    g.add_argument('--seed', type=int)
    g.add_argument(
        '--load', metavar='CKPT', help='start from the weights of this run folder or checkpoint'
    )


def _network(g: Any) -> None:
    g.add_argument('--net', choices=nets.names())
    g.add_argument(
        '--arch',
        help='resnet18 ... resnet152, resnet8 ... resnet110 (CIFAR form), resnext50_32x4d, '
        'resnext101_32x8d, mobilenetv2, mobilenetv2_small',
    )
    g.add_argument('-d', '--depth', type=int, help='-d 18 is --arch resnet18')
    g.add_argument(
        '--mode',
        help='resnet | preact | preact_typeA (TensorFlow definitions) | pytorch; default: pytorch '
        'where there is no other, preact if --qa is below 32, else resnet',
    )
    g.add_argument('--width', type=float, help='multiplier of all channel counts')
    g.add_argument('-s', '--sizes', type=int, nargs='+', metavar='PIXELS', help='input sizes')
    g.add_argument(
        '--kd',
        action=argparse.BooleanOptionalAction,
        help='ensemble of the sizes, distilled into each',
    )
    g.add_argument('--kd_type', choices=_choices('kd_type'))
    g.add_argument(
        '--encoding', type=float, metavar='PIXELS', help='san: a size is encoded as size / PIXELS'
    )
    g.add_argument(
        '--init',
        choices=_choices('init'),
        help='san: initial values of the meta layers; msdnet: of all layers',
    )


def _gates(g: Any) -> None:
    g.add_argument(
        '--target', type=float, metavar='RATE', help='target execution rate of every block'
    )
    g.add_argument(
        '--targets', type=float, nargs='+', metavar='RATE', help='the same, one per block'
    )
    g.add_argument(
        '--faithful_gates',
        action=argparse.BooleanOptionalAction,
        help='sample the gates of blocks with target 1 too, as the published code',
    )
    g.add_argument(
        '--rate_loss',
        choices=_choices('rate_loss'),
        help='rates over the batch (published) or per class',
    )
    g.add_argument('--rate_factor', type=float, help='weight of the target-rate loss')
    g.add_argument('--temperature', type=float, help="of the gates' softmax")
    g.add_argument('--last_temperature', type=float, help='the same at the end of training')
    g.add_argument('--gate_lr', type=float, help='factor on the learning rate of gates')
    g.add_argument(
        '--train_skip',
        action=argparse.BooleanOptionalAction,
        help='skip closed bodies in training too',
    )
    g.add_argument(
        '--gate_noise',
        action=argparse.BooleanOptionalAction,
        help='with --eval: sample the gates, as the published code',
    )
    g.add_argument(
        '--draws', type=int, metavar='N', help='with --gate_noise: evaluations (default 5)'
    )


def _exits(g: Any) -> None:
    g.add_argument('--nBlocks', type=int, help='number of exits')
    g.add_argument(
        '--stepmode',
        choices=_choices('stepmode'),
        help='layers per block: step in all, or more and more',
    )
    g.add_argument('--step', type=int, help='layers between exits')
    g.add_argument('--base', type=int, help='layers before the first exit')
    g.add_argument('--nChannels', type=int, help='channels of the stem')
    g.add_argument('--growthRate', type=int, help='channels that a layer adds')
    g.add_argument('--grFactor', type=int, nargs='+', help='growth of every scale, finest first')
    g.add_argument('--bnFactor', type=int, nargs='+', help='width of its bottlenecks')
    g.add_argument('--prune', choices=_choices('prune'), help='when the finer scales end')
    g.add_argument('--bottleneck', action=argparse.BooleanOptionalAction)
    g.add_argument('--reduction', type=float, help='of the channels where a scale ends; 0: none')
    g.add_argument(
        '--stem_bias', action=argparse.BooleanOptionalAction, help='as the PyTorch port on ImageNet'
    )
    g.add_argument(
        '--exit_weights',
        type=float,
        nargs='+',
        metavar='W',
        help='of the exits in the loss; default 1',
    )
    g.add_argument(
        '--holdout', type=int, metavar='IMAGES', help='training images to choose thresholds by'
    )
    g.add_argument(
        '--thresholds',
        metavar='FILE',
        help='with --eval: leave at exits as this file says, see scripts/thresholds.py',
    )


def _widths(g: Any) -> None:
    g.add_argument(
        '--stage',
        choices=_choices('stage'),
        help='supernet: all widths; gate: the choice of a width per image',
    )
    g.add_argument(
        '--routes', type=int, nargs='+', metavar='WIDTH', help='widths that the gate chooses from'
    )
    g.add_argument(
        '--ieb',
        action=argparse.BooleanOptionalAction,
        help='the smallest width learns from an ensemble',
    )
    g.add_argument('--complexity', type=float, help='weight of the penalty on multiply-adds')
    g.add_argument(
        '--target_madds',
        type=multiply_adds,
        metavar='N',
        help='mean multiply-adds per image, such as 250M, up to which there is no penalty',
    )
    g.add_argument('--smoothing', type=float, help='of labels')
    g.add_argument('--dropout', type=float, help='at the largest width')
    g.add_argument('--ema', type=float, help='decay of the moving average of the weights')


def _quantization(g: Any) -> None:
    g.add_argument('--qw', type=int, metavar='BITS', help='bits of weights, 32 is float')
    g.add_argument('--qa', type=int, metavar='BITS', help='bits of activations, 32 is float')
    g.add_argument(
        '--fixed_qa',
        action=argparse.BooleanOptionalAction,
        help='only the largest size updates activation bases',
    )
    g.add_argument(
        '--private_basis',
        action=argparse.BooleanOptionalAction,
        help='an activation basis per size',
    )


def _data(g: Any) -> None:
    g.add_argument(
        '--data',
        help='animals28 (default, embedded), fake, cifar10:DIR, cifar100:DIR, '
        'or a folder with train/ and val/',
    )
    g.add_argument(
        '--skip_list', metavar='FILE', help='images to go without, as scripts.check_data writes it'
    )
    g.add_argument(
        '--max_bad',
        type=float,
        metavar='SHARE',
        help='of the images of a pass that may be undecodable',
    )
    g.add_argument('--fake', action='store_true', help='the same as --data fake')
    g.add_argument('--image_size', type=int, help='side of the crop that all sizes are made from')
    g.add_argument('--resize', choices=RESIZES, help='how sizes are made from the crop')
    g.add_argument('--inputs', help='colour order and range of the images')
    g.add_argument('--augmentation', choices=tuple(AUGMENTATIONS))
    g.add_argument(
        '--randaugment',
        metavar='SPEC',
        help='augmentation of training views, such as rand-m9-mstd0.5',
    )
    g.add_argument(
        '--erasing', type=float, metavar='P', help='probability of random erasing in training views'
    )
    g.add_argument('--threads', type=int, help='decoding threads')


def _machine(g: Any) -> None:
    g.add_argument('--gpu', help='comma-separated ids, one tower each')
    g.add_argument(
        '--workers',
        metavar='HOST:PORT,...',
        help='machines that train together, each with this command and its own --worker-index',
    )
    g.add_argument(
        '--worker_index',
        type=int,
        metavar='I',
        help='which of --workers this one is, from 0; 0 writes',
    )
    g.add_argument(
        '--worker_timeout',
        type=float,
        metavar='SECONDS',
        help='without an answer of another worker, after '
        f'which this one stops (default {WORKER_TIMEOUT:g})',
    )
    g.add_argument('--trainer', choices=TRAINERS, help='where variables of several towers live')
    g.add_argument(
        '--bf16',
        action=argparse.BooleanOptionalAction,
        help='train with activations in bfloat16; everything else stays float32',
    )
    g.add_argument(
        '--sync_bn',
        action=argparse.BooleanOptionalAction,
        help='batch statistics of all towers together; default: of each tower, as published',
    )
    g.add_argument(
        '--data_format', choices=DATA_FORMATS, help='default: NCHW with a GPU, NHWC without'
    )
    g.add_argument(
        '--logdir', help='run folder; default: train_log/ and a name made of the configuration'
    )
    g.add_argument(
        '-a',
        '--action',
        choices=tuple(ACTIONS),
        help='what to do with an existing run folder: '
        + ', '.join(f'{key} {text}' for key, text in ACTIONS.items()),
    )


def _evaluation(g: Any) -> None:
    g.add_argument('--eval', action='store_true')
    g.add_argument(
        '-ec',
        '--eval_checkpoint',
        metavar='CKPT',
        help='run folder, checkpoint prefix, or published checkpoint folder',
    )
    g.add_argument(
        '-es',
        '--eval_scale',
        type=int,
        nargs='+',
        metavar='PIXELS',
        help='sizes to test; default: those it was trained at',
    )
    g.add_argument(
        '-ew',
        '--eval_widths',
        type=int,
        nargs='+',
        metavar='WIDTH',
        help='dsnet: widths to test; default: those that have statistics',
    )
    g.add_argument(
        '-eos',
        '--eval_original_scale',
        type=int,
        metavar='PIXELS',
        help="use this size's normalisation",
    )
    g.add_argument(
        '--untrained',
        choices=UNTRAINED,
        help='what serves sizes without statistics: those of the nearest '
        "size (proxy), with san's own kernels (ideal), or between the neighbours (interpolate)",
    )
    g.add_argument(
        '-ep',
        '--eval_epoch',
        type=int,
        metavar='EPOCH',
        help='checkpoint of this epoch; default: the last',
    )
    g.add_argument(
        '--fix_mean_var',
        action='store_true',
        help='with -eos: moving mean and variance of the '
        'checkpoint whose path has the tested size in place of the -eos size',
    )


GROUPS = {
    'recipe': _recipe,
    'network': _network,
    'gates (--net aig)': _gates,
    'exits (--net msdnet)': _exits,
    'widths (--net dsnet)': _widths,
    'quantization': _quantization,
    'data': _data,
    'machine and run folder': _machine,
    'evaluation': _evaluation,
}


# Fields that follow from flags and data, and those whose default does.
_NO_FLAG, _SETTLED = (
    ('classes', 'dataset', 'sized', 'widths'),
    ('mode', 'image_size', 'steps_per_epoch'),
)


def parse(argv: Sequence[str], description: str = '') -> argparse.Namespace:
    """Parsed flags, with dashes in their names taken for underscores."""

    def canonical(arg: str) -> str:
        name, equals, value = arg.partition('=')
        name = name[2:].replace('-', '_')
        return (
            f'--{"no-" + name[3:] if name.startswith("no_") else name}{equals}{value}'
            if arg[:2] == '--'
            else arg
        )

    args = parser(description).parse_args([canonical(arg) for arg in argv])
    if args.preset is not None and args.preset not in PRESETS:
        raise UsageError(f'--preset {args.preset}: unknown; there are {", ".join(PRESETS)}')
    if args.fake and args.data not in (None, 'fake'):
        raise UsageError(f'--fake with --data {args.data}: give one of them')
    return args


def command(config: Config) -> str:
    """The command that trains this configuration.

    Its preset, and flags for all that no default of it says.
    """
    known = Config.from_values(net=config.net).flat()
    known = {name: value for name, value in known.items() if name not in _SETTLED}
    known['net'] = Architecture.net
    known |= network_defaults(config.net, config.arch)
    known |= data_defaults(config.net, config.dataset)
    known |= PRESETS[config.preset].values if config.preset in PRESETS else {}
    words = ['python', 'imagenet_tf.py']
    for name, value in {'preset': config.preset, **config.flat()}.items():
        if value != known.get(name) and name not in _NO_FLAG:
            words += _spelled(name, value)
    return shlex.join(words)


def _spelled(name: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [f'--{name}' if value else f'--no-{name}']
    if isinstance(value, tuple):
        texts = list(map(str, value))
        return [f'--{name}', *([','.join(texts)] if name == 'gpu' else texts)]
    return [f'--{name}', str(value)]


def explicit(args: argparse.Namespace) -> dict[str, Any]:
    """Fields of Config that flags set."""
    fields = {name for options in OPTION_GROUPS.values() for name in field_names(options)}
    fields.update(name for net in nets.names() for name in nets.options(net))
    given = {key: value for key, value in vars(args).items() if key in fields and value is not None}
    if args.fake:
        given['data'] = 'fake'
    if args.target is not None:
        if args.targets is not None:
            raise UsageError(f'--target {args.target} with --targets: give one of them')
        given['targets'] = (args.target,)
    if args.depth is not None:
        if args.arch is not None:
            raise UsageError(f'-d {args.depth} with --arch {args.arch}: give one of them')
        given['arch'] = f'resnet{args.depth}'
    if 'gpu' in given:
        try:
            given['gpu'] = gpu_ids(given['gpu'])
        except ValueError as error:
            raise UsageError(f'--gpu {given["gpu"]}: {error}') from None
    return {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}


def peers(args: argparse.Namespace) -> tuple[tuple[str, ...], int, float] | None:
    """Addresses of all workers, which of them this is, and the seconds after which one is dead.

    None without any.

    Raises:
        UsageError: the flags do not fit together.
    """
    if args.workers is None:
        for flag, value in (
            ('--worker-index', args.worker_index),
            ('--worker-timeout', args.worker_timeout),
        ):
            if value is not None:
                raise UsageError(f'{flag} {value}: needs --workers')
        return None
    hosts = tuple(args.workers.split(','))
    for host in hosts:
        name, _, port = host.rpartition(':')
        if not name or not port.isdecimal() or not 0 < int(port) < 2**16:
            raise UsageError(f'--workers {args.workers}: {host!r} is no host:port')
    if len(set(hosts)) < max(len(hosts), 2):
        raise UsageError(f'--workers {args.workers}: expected at least two, each once')
    if args.worker_index is None or not 0 <= args.worker_index < len(hosts):
        raise UsageError(
            f'--worker-index {args.worker_index}: must be 0 to {len(hosts) - 1}, one of the '
            f'{len(hosts)} of --workers'
        )
    timeout = WORKER_TIMEOUT if args.worker_timeout is None else args.worker_timeout
    if not 5 <= timeout < math.inf:
        raise UsageError(f'--worker-timeout {timeout:g}: must be at least 5 seconds')
    return hosts, args.worker_index, timeout
