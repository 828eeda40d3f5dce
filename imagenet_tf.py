#!/usr/bin/env python
"""Train or evaluate a network whose cost is chosen at run time: flags -> Config -> train | evaluate.

    python imagenet_tf.py --preset demo                                                      # real images in a minute
    python imagenet_tf.py --qw 2 --qa 2 --sizes 224 192 160 128 96 --kd --data /data/ILSVRC2012 --gpu 0,1,2,3
    python imagenet_tf.py --eval -ec train_log/RUN -es 224
"""

import argparse
import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nets
from engine.config import DATA_FORMATS, DECAYS, INPUTS, RESIZES, SCHEDULES, TRAINERS, Config, check_sizes, read_config
from engine.datasets import Dataset, open_dataset
from engine.errors import UsageError
from engine.presets import DATA_DEFAULTS, PRESETS, network_defaults
from engine.run import ACTIONS, open_run
from engine.statistics import UNTRAINED

# Passes over the validation set with sampled gates.
DRAWS = 5


def parser() -> argparse.ArgumentParser:
    """The flags. None means not given: presets and data sets fill in what no flag says."""
    p = argparse.ArgumentParser(prog='imagenet_tf.py', description=__doc__, allow_abbrev=False,
                                formatter_class=argparse.RawDescriptionHelpFormatter,
                                epilog='Dashes and underscores in flags are the same.')
    g = p.add_argument_group('recipe')
    g.add_argument('--preset', help=f'a whole recipe, which explicit flags beat: {", ".join(PRESETS)}')
    g.add_argument('--epochs', type=int)
    g.add_argument('--steps_per_epoch', type=int, help='default: one pass over the training images')
    g.add_argument('--batch_size', type=int, help='images of a step over all GPUs')
    g.add_argument('--lr', type=float)
    g.add_argument('--schedule', choices=SCHEDULES)
    g.add_argument('--warmup', type=float, metavar='EPOCHS')
    g.add_argument('--milestones', type=int, nargs='+', metavar='EPOCH', help='of --schedule milestones')
    g.add_argument('--gamma', type=float, help='factor at every milestone')
    g.add_argument('--wd', type=float, help='weight decay')
    g.add_argument('--decay', choices=DECAYS, help='what decays: kernels, or all trained variables')
    g.add_argument('--nesterov', action=argparse.BooleanOptionalAction, help='Nesterov momentum')
    g.add_argument('--seed', type=int)
    g.add_argument('--load', metavar='CKPT', help='start from the weights of this run folder or checkpoint')
    g = p.add_argument_group('network')
    g.add_argument('--net', choices=nets.names())
    g.add_argument('--arch', help='resnet18 ... resnet152, resnet8 ... resnet110 (CIFAR form), resnext50_32x4d, '
                   'resnext101_32x8d, mobilenetv2, mobilenetv2_small')
    g.add_argument('-d', '--depth', type=int, help='-d 18 is --arch resnet18')
    g.add_argument('--mode', help='resnet | preact | preact_typeA (TensorFlow definitions) | pytorch; default: pytorch '
                   'where there is no other, preact if --qa is below 32, else resnet')
    g.add_argument('--width', type=float, help='multiplier of all channel counts')
    g.add_argument('-s', '--sizes', type=int, nargs='+', metavar='PIXELS', help='input sizes')
    g.add_argument('--kd', action=argparse.BooleanOptionalAction, help='ensemble of the sizes, distilled into each')
    g.add_argument('--kd_type', choices=sum(nets.KD_TYPES.values(), ()))
    g.add_argument('--encoding', type=float, metavar='PIXELS', help='san: a size is encoded as size / PIXELS')
    g.add_argument('--init', choices=nets.STARTS, help='san: initial values of the meta layers')
    g = p.add_argument_group('gates (--net aig)')
    g.add_argument('--target', type=float, metavar='RATE', help='target execution rate of every block')
    g.add_argument('--targets', type=float, nargs='+', metavar='RATE', help='the same, one per block')
    g.add_argument('--faithful_gates', action=argparse.BooleanOptionalAction,
                   help='sample the gates of blocks with target 1 too, as the published code')
    g.add_argument('--rate_loss', choices=nets.RATE_LOSSES, help='rates over the batch (published) or per class')
    g.add_argument('--rate_factor', type=float, help='weight of the target-rate loss')
    g.add_argument('--temperature', type=float, help='of the gates\' softmax')
    g.add_argument('--last_temperature', type=float, help='the same at the end of training')
    g.add_argument('--gate_lr', type=float, help='factor on the learning rate of gates')
    g.add_argument('--train_skip', action=argparse.BooleanOptionalAction,
                   help='skip closed bodies in training too')
    g.add_argument('--gate_noise', action=argparse.BooleanOptionalAction,
                   help='with --eval: sample the gates, as the published code')
    g.add_argument('--draws', type=int, metavar='N', help='with --gate_noise: evaluations (default 5)')
    g = p.add_argument_group('quantization')
    g.add_argument('--qw', type=int, metavar='BITS', help='bits of weights, 32 is float')
    g.add_argument('--qa', type=int, metavar='BITS', help='bits of activations, 32 is float')
    g.add_argument('--fixed_qa', action=argparse.BooleanOptionalAction,
                   help='only the largest size updates activation bases')
    g.add_argument('--private_basis', action=argparse.BooleanOptionalAction, help='an activation basis per size')
    g = p.add_argument_group('data')
    g.add_argument('--data', help='animals28 (default, embedded), fake, cifar10:DIR, cifar100:DIR, '
                   'or a folder with train/ and val/')
    g.add_argument('--fake', action='store_true', help='the same as --data fake')
    g.add_argument('--image_size', type=int, help='side of the crop that all sizes are made from')
    g.add_argument('--resize', choices=RESIZES, help='how sizes are made from the crop')
    g.add_argument('--inputs', choices=INPUTS, help='colour order and range of the images')
    g.add_argument('--workers', type=int, help='decoding threads')
    g = p.add_argument_group('machine and run folder')
    g.add_argument('--gpu', help='comma-separated ids, one tower each')
    g.add_argument('--trainer', choices=TRAINERS, help='where variables of several towers live')
    g.add_argument('--data_format', choices=DATA_FORMATS, help='default: NCHW with a GPU, NHWC without')
    g.add_argument('--logdir', help='run folder; default: train_log/ and a name made of the configuration')
    g.add_argument('-a', '--action', choices=tuple(ACTIONS), help='what to do with an existing run folder: '
                   + ', '.join(f'{key} {text}' for key, text in ACTIONS.items()))
    g = p.add_argument_group('evaluation')
    g.add_argument('--eval', action='store_true')
    g.add_argument('-ec', '--eval_checkpoint', metavar='CKPT',
                   help='run folder, checkpoint prefix, or published checkpoint folder')
    g.add_argument('-es', '--eval_scale', type=int, nargs='+', metavar='PIXELS',
                   help='sizes to test; default: those it was trained at')
    g.add_argument('-eos', '--eval_original_scale', type=int, metavar='PIXELS', help="use this size's normalisation")
    g.add_argument('--untrained', choices=UNTRAINED, help='what serves sizes without statistics: those of the nearest '
                   "size (proxy), with san's own kernels (ideal), or between the neighbours (interpolate)")
    g.add_argument('-ep', '--eval_epoch', type=int, metavar='EPOCH', help='checkpoint of this epoch; default: the last')
    g.add_argument('--fix_mean_var', action='store_true', help='with -eos: moving mean and variance of the '
                   'checkpoint whose path has the tested size in place of the -eos size')
    return p


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parsed flags, with dashes in their names taken for underscores."""
    def canonical(arg: str) -> str:
        name, equals, value = arg.partition('=')
        name = name[2:].replace('-', '_')
        return f'--{"no-" + name[3:] if name.startswith("no_") else name}{equals}{value}' if arg[:2] == '--' else arg
    args = parser().parse_args([canonical(arg) for arg in argv])
    if args.preset is not None and args.preset not in PRESETS:
        raise UsageError(f'--preset {args.preset}: unknown; there are {", ".join(PRESETS)}')
    if args.fake and args.data not in (None, 'fake'):
        raise UsageError(f'--fake with --data {args.data}: give one of them')
    return args


def explicit(args: argparse.Namespace) -> dict[str, Any]:
    """Fields of Config that flags set."""
    fields = {field.name for field in dataclasses.fields(Config)}
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
        given['gpu'] = _gpu_ids(given['gpu'])
    return {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}


def _gpu_ids(text: str) -> tuple[int, ...]:
    try:
        ids = tuple(int(part) for part in text.split(','))
    except ValueError:
        raise UsageError(f'--gpu {text}: expected ids such as 0 or 0,1,2,3') from None
    if len(set(ids)) < len(ids) or min(ids) < 0:
        raise UsageError(f'--gpu {text}: every id must be there once and not be negative')
    return ids


def resolve(given: dict[str, Any]) -> tuple[Config, Dataset, list[str]]:
    """Config, data set, and what a user should know about how they came about.

    Later wins: defaults of Config, of the network, of the data set, the preset, the flags.
    """
    preset, notes = PRESETS.get(given.get('preset', '')), []
    values = {**(preset.values if preset else {}), **given}
    check_sizes(tuple(values.get('sizes', Config.sizes)))
    if 'data' not in values and preset:
        raise UsageError(f'--preset {given["preset"]}: is a recipe for ImageNet; give --data DIR')
    if 'data' not in values:
        wanted = values.get('sizes')
        values |= _embedded(values)
        sizes = tuple(values['sizes'])
        divided = '' if wanted and sizes == tuple(wanted) else ' (the published ones divided by 8)'
        notes.append(f'no --data: the embedded set animals28 at sizes {" ".join(map(str, sizes))}{divided}, '
                     f'{values["arch"]}')
    if values.get('image_size', 1) < 1:
        raise UsageError(f'--image_size {values["image_size"]}: must be at least 1')
    dataset = open_dataset(values['data'], size=values.get('image_size'))
    # A folder may bear the name of a data set; its images decide.
    of_data = DATA_DEFAULTS[dataset.name] if dataset.augment == 'shift' else {}
    arch = {**of_data, **values}.get('arch', Config.arch)
    values = {**network_defaults(values.get('net', Config.net), arch), **of_data, **values}
    if 'mode' not in values:
        values['mode'] = 'preact' if values.get('qa', 32) < 32 else 'resnet'
        notes.append(f'mode {values["mode"]}: the default is preact with --qa below 32, else resnet')
    sizes = tuple(sorted(values.get('sizes', Config.sizes), reverse=True))
    values = {'image_size': max(dataset.size, *sizes), 'classes': len(dataset.classes), **values, 'sizes': sizes}
    batch = values.get('batch_size', Config.batch_size)
    values.setdefault('steps_per_epoch', max(1, len(dataset.train) // max(batch, 1)))
    config = Config(**values)
    config.check()
    if preset:
        notes.append(f'preset {config.preset}, expected: {preset.expect}')
    return config, dataset, notes


def _embedded(values: dict[str, Any]) -> dict[str, Any]:
    """What is trained without ``--data``: the CIFAR-style net, at an eighth of sizes that are meant for ImageNet."""
    defaults = DATA_DEFAULTS['animals28']
    sizes = tuple(values.get('sizes', defaults['sizes']))
    if max(sizes) > 32:
        if any(size % 8 or size < 64 for size in sizes):
            raise UsageError(f'--sizes {" ".join(map(str, sizes))}: without --data, sizes are divided by 8; '
                             'give multiples of 8 from 64 on, or sizes up to 32')
        sizes = tuple(size // 8 for size in sizes)
    return {'data': 'animals28', 'sizes': sizes, 'arch': values.get('arch', defaults['arch'])}


def machine(config: Config, args: argparse.Namespace, dataset: Dataset) -> tuple[str, int]:
    """Data format and number of decoding threads. Chooses the visible GPUs, so nothing may have touched one before."""
    if args.gpu is not None:
        os.environ['CUDA_VISIBLE_DEVICES'] = ','.join(map(str, config.gpu))
    from quant.backend import tf
    gpus = len(tf.config.list_physical_devices('GPU'))
    if args.data_format == 'NCHW' and not gpus:
        raise UsageError('--data_format NCHW: convolutions on the CPU need NHWC, and no GPU was found')
    if 0 < gpus < len(config.gpu):
        raise UsageError(f'--gpu {args.gpu}: {gpus} of these GPUs found')
    if not gpus and len(config.gpu) > 1:
        print(f'no GPU found: {len(config.gpu)} towers share the CPU')
    if args.workers is not None and args.workers < 0:
        raise UsageError(f'--workers {args.workers}: must be at least 0')
    threads = args.workers if args.workers is not None else 1 if dataset.augment == 'shift' else os.cpu_count() or 1
    return args.data_format or ('NCHW' if gpus else 'NHWC'), threads


def run_training(args: argparse.Namespace) -> None:
    if wrong := [flag for flag, value in _evaluation_flags(args).items() if value is not None and value is not False]:
        raise UsageError(f'{wrong[0]}: is about evaluation; add --eval')
    config, dataset, notes = resolve(explicit(args))
    config.refuse_foreign(explicit(args))
    if config.batch_size > len(dataset.train):
        raise UsageError(f'--batch_size {config.batch_size}: there are only {len(dataset.train)} training images')
    print('\n'.join(notes), flush=True)
    from engine import train
    data_format, workers = machine(config, args, dataset)
    values = train.starting_values(config)
    run = open_run(config, Path(args.logdir or Path('train_log') / config.name), args.action)
    if run.step >= config.epochs * config.steps_per_epoch:
        print(f'{run.path} is complete ({config.epochs} epochs); -a n starts a new run')
        return
    print(f'run folder {run.path}' + (f', resuming at step {run.step}' if run.step else ''), flush=True)
    train.train(config, dataset, run, values=values, data_format=data_format, workers=workers)


def _evaluation_flags(args: argparse.Namespace) -> dict[str, Any]:
    return {'--draws': args.draws, '--gate_noise': args.gate_noise,
            '-ec': args.eval_checkpoint, '-es': args.eval_scale, '-eos': args.eval_original_scale,
            '-ep': args.eval_epoch, '--untrained': args.untrained, '--fix_mean_var': args.fix_mean_var}


def run_evaluation(args: argparse.Namespace) -> None:
    if not args.eval_checkpoint:
        raise UsageError('--eval needs -ec: a run folder, a checkpoint prefix, or the folder of a published checkpoint')
    for flag, value, instead in (('--sizes', args.sizes, '-es'), ('--load', args.load, '-ec')):
        if value is not None:
            raise UsageError(f'{flag} with --eval: give {instead}')
    from engine import checkpoint, evaluate, gates, model
    given = explicit(args)
    prefix = checkpoint.find(args.eval_checkpoint, args.eval_epoch, '-ec')
    recorded = Path(prefix).parent / 'config.json'
    if recorded.exists():
        # What belongs to the machine or to the data set is settled anew.
        of_run = {key: value for key, value in vars(read_config(recorded)).items() if key not in ('gpu', 'classes')}
        given = {**of_run, **given}
    source = checkpoint.read(prefix, flag='-ec')
    if not source.sizes:
        raise UsageError(f'-ec {prefix}: holds no network of ours (no normalisation statistics of any size)')
    if not given.get('data'):
        known = 'was imported without a data set; give --data' if recorded.exists() else (
            'no config.json there; give --data, and --arch and --mode')
        raise UsageError(f'-ec {prefix}: {known}')
    for key, bits in (('qw', source.bits('weight')), ('qa', source.bits('activation'))):
        given.setdefault(key, bits)
    config, dataset, notes = resolve({**given, 'sizes': source.trained})
    config.refuse_foreign(explicit(args))
    if args.draws is not None and (args.draws < 1 or not config.gate_noise):
        raise UsageError(f'--draws {args.draws}: needs --gate_noise, and a number of at least 1')
    print('\n'.join(notes))
    if source.classes != config.classes:
        raise UsageError(f'--data {config.data}: has {config.classes} classes; {prefix} knows {source.classes}')
    config = evaluate.evaluated(config, source, args.eval_scale)
    borrowed = evaluate.borrow(source, config, untrained=args.untrained, eos=args.eval_original_scale,
                               fix_mean_var=args.fix_mean_var, epoch=args.eval_epoch)
    data_format, workers = machine(config, args, dataset)
    network = model.Model(config, data_format=data_format)
    if network.net.generated and borrowed.encode:
        network.net = network.net.encoded_as({size: lenders[0] for size, lenders in borrowed.lenders.items()})
    variables, layers = network.inspect()
    values = evaluate.variable_values(source, variables, borrowed)
    folder = evaluate.record_folder(config, source, Path(args.logdir) if args.logdir else None)
    passes = evaluate.evaluate(network, values, dataset, workers=workers,
                               passes=(args.draws or DRAWS) if config.gate_noise else 1)
    scored = [evaluate.records(network.names, counts, images, seconds, data=config.data, prefix=source.prefix,
                               bn=borrowed.names()) for (counts, *_), images, seconds in passes]
    found = evaluate.sampled(scored) if config.gate_noise else scored[0]
    evaluate.write_records(folder, found)
    evaluate.merge_layers(folder, layers)
    print(evaluate.table(found))
    if network.net.tally_names and not config.gate_noise:
        print(gates.report(network, layers, passes[0][0][1:], values, dataset, folder))
    print(f'{len(found)} records in {folder / "eval"}')


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 bad input, 130 interrupted."""
    try:
        args = parse(sys.argv[1:] if argv is None else argv)
        (run_evaluation if args.eval else run_training)(args)
    except UsageError as error:
        print(f'imagenet_tf.py: error: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('interrupted' if args.eval else 'interrupted; the same command resumes from the last finished epoch',
              file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
