"""The command line: flags made of the options of all rooms, in groups, and what they set."""

import argparse
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import nets
from engine.config import flags, listing
from engine.config.config import Config
from engine.config.flags import Flag, Parser
from engine.config.groups import GROUPS
from engine.config.options import Architecture
from engine.config.presets import PRESETS, data_defaults, network_defaults
from engine.config.unrecorded import WORKER_TIMEOUT, ChainFlags, EvaluationFlags, FolderFlags
from engine.data import augment, inputs
from engine.errors import UsageError
from quant.spelling import unknown

PROGRAM = 'imagenet_tf.py'
DESCRIPTION = """Train or evaluate a network whose cost is chosen at run time.

python imagenet_tf.py --preset demo      # real images, in minutes
python imagenet_tf.py --qw 2 --qa 2 --sizes 224 192 160 128 96 --kd --data /data/ILSVRC2012
python imagenet_tf.py --eval -ec train_log/RUN -es 224"""

MACHINE = 'machine and run folder'

# Group of a configuration -> title of its flags; by default its name.
TITLES = {
    'run': 'training',
    'course': 'training',
    'optimization': 'training',
    'parts': 'training',
    'teaching': 'training',
    'losses': 'training',
    'architecture': 'network',
    'images': 'data',
    'views': 'data',
    'mixing': 'training',
    'machine': MACHINE,
}

# Options whose default follows from flags and data.
SETTLED = ('mode', 'image_size', 'steps_per_epoch')


def _flags_of(*groups: str) -> dict[str, Flag]:
    return flags.flags((group, GROUPS[group]) for group in groups)


def _network_flags(names: Sequence[str]) -> dict[str, Flag]:
    return flags.flags((f'--net {net}', nets.get(net).Options) for net in names)


def parser(family: str = '', description: str = DESCRIPTION) -> Parser:
    """The parser of all flags, or of those of one kind of network alone.

    A value of None means not given: presets and data sets fill it in.
    """
    p = Parser(
        prog=PROGRAM,
        usage=f'{PROGRAM} [--preset NAME] [FLAG ...]',
        description=description,
        allow_abbrev=False,
        add_help=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog='Dashes and underscores in flags are the same.',
    )
    if family:
        _add_network(p, [family])
        return p
    titles: dict[str, Any] = {'help': p.add_argument_group('help')}
    _add_help(titles['help'])
    for group in GROUPS:
        title = TITLES.get(group, group)
        if title not in titles:
            titles[title] = p.add_argument_group(title)
        _add_all(titles[title], _flags_of(group))
    _add_spellings(p)
    _add_network(p, nets.names())
    _add_all(titles['training'], flags.flags([('chain', ChainFlags)]))
    _add_all(titles[MACHINE], flags.flags([('run folder', FolderFlags)]), switch=True)
    evaluation = p.add_argument_group('evaluation')
    evaluation.add_argument('--eval', action='store_true', help='evaluate -ec')
    _add_all(evaluation, flags.flags([('evaluation', EvaluationFlags)]), switch=True)
    return p


def _add_help(group: Any) -> None:
    group.add_argument(
        '-h', '--help', metavar='FAMILY', nargs='?', help='all flags, or those of one --net alone'
    )
    group.add_argument(
        '--list', metavar='{' + ','.join(listing.LISTS) + '}', help='what there is, a line each'
    )


def _add_spellings(p: Parser) -> None:
    """Short forms of other flags."""
    group = p.add_argument_group('short forms')
    group.add_argument('-d', '--depth', type=int, metavar='N', help='-d 18 is --arch resnet18')
    group.add_argument('--fake', action='store_true', help='the same as --data fake')
    group.add_argument(
        '--crop',
        type=float,
        metavar='SHARE',
        help='--augmentation area_crop:SHARE: what evaluation keeps of the shortest edge; 0.875 '
        'is 224 of 256, 1 is all',
    )
    for name in ('mean', 'std'):
        group.add_argument(
            f'--{name}',
            type=float,
            nargs='+',
            metavar='X',
            help=f'--inputs: {name} of each channel, of the range [0, 1]; one number for all',
        )
    group.add_argument(
        '--channel_order', choices=inputs.ORDERS, help='--inputs: order of the channels'
    )
    group.add_argument(
        '--input_channels',
        type=int,
        choices=(1, 3),
        help='1 is --channel_order grey: networks of grey images',
    )
    group.add_argument(
        '--target', type=float, metavar='RATE', help='--net aig: --targets, the same for all blocks'
    )


def _add_network(p: Parser, names: Sequence[str]) -> None:
    """Options of networks: first those that several have, then by network."""
    found = _network_flags(names)
    shared = {name: flag for name, flag in found.items() if len(flag.known) > 1}
    if shared:
        _add_all(p.add_argument_group('options of several networks'), shared)
    for net in names:
        own = {name: flag for name, flag in found.items() if [*flag.known] == [f'--net {net}']}
        if own:
            _add_all(p.add_argument_group(f'options of --net {net}'), own)


def _add_all(group: Any, found: Mapping[str, Flag], *, switch: bool = False) -> None:
    for flag in found.values():
        flags.add(group, flag, switch=switch)


def parse(argv: Sequence[str], description: str = DESCRIPTION) -> argparse.Namespace:
    """Parsed flags, with dashes in their names taken for underscores.

    Raises:
        UsageError: a flag is unknown, or has a wrong value.
        SystemExit: help or a list was asked for, and is printed.
    """
    words = [_canonical(word) for word in argv]
    _answer(words, description)
    args: argparse.Namespace = parser().parse_args(words)
    if args.preset is not None and args.preset not in PRESETS:
        raise UsageError(f'--preset {args.preset}: {unknown(args.preset, PRESETS)}')
    if args.eval and args.progressive is not None:
        raise UsageError('--progressive: is about training; leave --eval out')
    if args.fake and args.data not in (None, 'fake'):
        raise UsageError(f'--fake with --data {args.data}: give one of them')
    return args


def _canonical(word: str) -> str:
    """A flag as the parser spells it."""
    if not word.startswith('--'):
        return word
    name, equals, value = word.partition('=')
    name = name[2:].replace('-', '_')
    if name.startswith('no_'):
        name = f'no-{name[3:]}'
    return f'--{name}{equals}{value}'


def _answer(words: Sequence[str], description: str) -> None:
    """Prints help or a list, if that is asked for, and leaves.

    Raises:
        SystemExit: status 0, after help or a list.
    """
    for index, word in enumerate(words):
        name, equals, topic = word.partition('=')
        if name not in ('-h', '--help', '--list'):
            continue
        following = words[index + 1 : index + 2]
        if not equals and following and not following[0].startswith('-'):
            topic = following[0]
        if name == '--list':
            print(listing.text(topic))
        else:
            print(_help(topic, description).rstrip())
        raise SystemExit(0)


def _help(family: str, description: str) -> str:
    if family and family not in nets.names():
        raise UsageError(f'--help {family}: {unknown(family, nets.names())}')
    return parser(family, description).format_help()


def explicit(args: argparse.Namespace) -> dict[str, Any]:
    """Options of a configuration that flags set.

    Raises:
        UsageError: two flags set the same.
    """
    names = [*_flags_of(*GROUPS), *_network_flags(nets.names())]
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if args.fake:
        given['data'] = 'fake'
    _set_views(args, given)
    if args.target is not None:
        if args.targets is not None:
            raise UsageError(f'--target {args.target} with --targets: give one of them')
        given['targets'] = (args.target,)
    if args.depth is not None:
        if args.arch is not None:
            raise UsageError(f'-d {args.depth} with --arch {args.arch}: give one of them')
        given['arch'] = f'resnet{args.depth}'
    return {name: _hashable(value) for name, value in given.items()}


def _set_views(args: argparse.Namespace, given: dict[str, Any]) -> None:
    """Sets what short forms say of views; what they leave open follows from the defaults.

    Raises:
        UsageError: two flags set the same.
    """
    if args.crop is not None:
        known = given.get('augmentation', '')
        if augment.SHARE in known:
            raise UsageError(f'--crop {args.crop:g} with --augmentation {known}: give one of them')
        given['augmentation'] = f'{known}{augment.SHARE}{args.crop:g}'
    order = args.channel_order or ''
    if args.input_channels == 1:
        if order not in ('', inputs.GREY):
            raise UsageError(f'--input_channels 1 with --channel_order {order}: give one of them')
        order = inputs.GREY
    parts = [order]
    for name in ('mean', 'std'):
        numbers = getattr(args, name) or []
        if len(numbers) not in (0, 1, 3):
            raise UsageError(f'--{name}: give one number for all channels, or three')
        if len(numbers) == 1 and order != inputs.GREY:
            numbers = numbers * 3
        parts.append(','.join(f'{number:g}' for number in numbers))
    if any(parts):
        if 'inputs' in given:
            raise UsageError(
                f'--inputs {given["inputs"]} with --mean, --std or --channel-order: give one of '
                'them'
            )
        given['inputs'] = ':'.join(parts)


def _hashable(value: Any) -> Any:
    """The same, with a tuple in place of a list: options can be hashed."""
    if isinstance(value, list):
        return tuple(value)
    return value


def evaluation_flag(args: argparse.Namespace) -> str:
    """A flag that only ``--eval`` takes, if one is given; else empty."""
    found = flags.flags([('evaluation', EvaluationFlags)])
    for name, flag in _network_flags(nets.names()).items():
        if flag.limits.evaluation:
            found[name] = flag
    for name, flag in found.items():
        if getattr(args, name) not in (None, False):
            return [*flag.limits.short, f'--{name}'][0]
    return ''


def command(config: Config) -> str:
    """The command that trains this configuration: flags for all that differs from defaults."""
    known = Config.from_values(net=config.net).flat()
    known = {name: value for name, value in known.items() if name not in SETTLED}
    known['net'] = Architecture.net
    known.update(network_defaults(config.net, config.arch))
    known.update(data_defaults(config.net, config.dataset))
    if config.preset in PRESETS:
        known.update(PRESETS[config.preset].at(config.flat()))
    # Bits that follow from other options are not said twice, unless the preset says others.
    for name, value in config.quantization.implied.items():
        if known[name] == value:
            known[name] = getattr(config, name)
    there = {**_flags_of(*GROUPS), **_network_flags([config.net])}
    words = ['python', PROGRAM]
    for name, value in {'preset': config.preset, **config.flat()}.items():
        if name in there and value != known.get(name):
            words += _spelled(there[name], value)
    return shlex.join(words)


def _spelled(flag: Flag, value: Any) -> list[str]:
    """The words that set an option."""
    if isinstance(value, bool):
        return [f'--{flag.name}' if value else f'--no-{flag.name}']
    if isinstance(value, tuple):
        texts = list(map(str, value))
        if flag.limits.parse is not None:
            texts = [','.join(texts)]
        return [f'--{flag.name}', *texts]
    return [f'--{flag.name}', str(value)]


def worker_count(args: argparse.Namespace) -> int:
    """How many workers train together; 1 without ``--workers``.

    Raises:
        UsageError: the flags do not fit together.
    """
    others = peers(args)
    if others is None:
        return 1
    addresses, _, _ = others
    return len(addresses)


def peers(args: argparse.Namespace) -> tuple[tuple[str, ...], int, float] | None:
    """Addresses of all workers, which of them this is, and the seconds after which one is dead.

    None without ``--workers``.

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
    timeout = args.worker_timeout
    if timeout is None:
        timeout = WORKER_TIMEOUT
    return hosts, args.worker_index, timeout
