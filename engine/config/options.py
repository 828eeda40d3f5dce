"""Options of a run by group: what each is, what it can be, and what it is by default.

A network's own options stand beside its class, those of quantizers in ``quant.policy_options``.
Defaults are the published RS-Nets quantization recipe on ImageNet; networks, data sets and presets
change them, see ``engine.config.resolve``.
"""

import dataclasses

from engine.data import augment, datasets, inputs
from engine.data.balance import BY_WEIGHT, SAMPLER
from engine.data.preprocessing import RESIZES
from engine.optimization.averages import WEIGHTS
from quant import native
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
TRAINERS = ('replicated', 'parameter-server')

# Pixels of a side: a crop of this size takes 200 MB as floats.
LARGEST_SIZE = 4096
SMALLEST_SIZE = 8


def _networks() -> list[str]:
    import nets

    return nets.names()


def _activations() -> tuple[str, ...]:
    from nets.layers.activation import ACTIVATIONS

    return ACTIVATIONS


def gpu_ids(text: str) -> tuple[int, ...]:
    """Ids of GPUs, as ``0,1,2,3`` names them.

    Raises:
        ValueError: the text is no such list.
    """
    try:
        ids = tuple(int(part) for part in text.split(','))
    except ValueError:
        raise ValueError('expected ids such as 0 or 0,1,2,3') from None
    if len(set(ids)) < len(ids) or min(ids) < 0:
        raise ValueError('every id must be there once and not be negative')
    return ids


@dataclasses.dataclass(frozen=True)
class Architecture:
    """The options that all networks have.

    Attributes:
        classes: follows from the data.
    """

    net: str = option('rsnet', 'kind of network, see --list nets', choices=_networks)
    arch: str = option(
        'resnet18',
        'resnet18 ... resnet152, resnet8 ... resnet110 (CIFAR form), resnext50_32x4d, '
        'resnext101_32x8d, mobilenetv2, mobilenetv2_small; of dsnet: mobilenetv1, '
        'mobilenetv1_small; of msdnet: msdnet',
    )
    mode: str = option(
        'resnet',
        'resnet | preact | preact_typeA (TensorFlow definitions) | pytorch; default: pytorch where '
        'there is no other, preact if --qa is below 32, else resnet',
    )
    activation: str = option(
        'relu',
        'relu: as the blocks have it; rprelu: a learned bias, PReLU and bias per channel before '
        'every quantizer, as recipes of ReActNet and N2UQ have it; relu6 and hswish: in place of '
        'a ReLU there, such as hswish before lsqplus',
        choices=_activations,
    )
    width: float = option(1.0, 'factor on all channel counts', above=0, high=64)
    sizes: tuple[int, ...] = option(
        (224, 192, 160, 128, 96),
        'input sizes',
        low=SMALLEST_SIZE,
        high=LARGEST_SIZE,
        count=1,
        metavar='PIXELS',
        short=('-s',),
    )
    classes: int = option(1000, 'number of classes', low=1, flag=False)


@dataclasses.dataclass(frozen=True)
class DataOptions:
    """The images of a run.

    Attributes:
        dataset: which data set that is (``imagenet``, ``cifar10``, ..., ``folder`` for any other
            folder); follows from it.
    """

    data: str = option(
        '',
        f'{datasets.choices()}; animals28 is embedded, and the default',
    )
    dataset: str = option('', 'name of the data set', flag=False)
    val_split: float = option(
        0.0,
        'share of every class to validate on, of data without validation images; equal images '
        'stay on one side',
        low=0,
        below=1,
        metavar='SHARE',
    )
    split_seed: int = option(0, 'of --val-split', low=0, high=2**31 - 1)
    balance: str = option(
        'none',
        'of classes that have more or fewer training images: sampler draws images alike from '
        'every class, weights has every class count alike in the losses; without a value: sampler',
        choices=('none', SAMPLER, BY_WEIGHT),
        alone=SAMPLER,
    )
    class_weights: tuple[float, ...] = option(
        (), 'what an image of each class counts in the losses; of --balance weights', flag=False
    )
    holdout: int = option(
        0,
        'training images to set aside, to choose exit thresholds or a recipe by',
        low=0,
        high=10**9,
        metavar='IMAGES',
    )
    score_holdout: bool = option(
        False, 'score these images, not the validation images: to choose a recipe by'
    )
    skip_list: str = option(
        '', 'images to go without, as scripts.check_data writes it', metavar='FILE'
    )
    max_bad: float = option(
        0.001,
        'share of the images of a pass that may be undecodable',
        low=0,
        high=1,
        metavar='SHARE',
    )


@dataclasses.dataclass(frozen=True)
class ViewOptions:
    """How images become inputs of the network, and what training does to them.

    Attributes:
        resize: ``nearest`` and ``area`` make all sizes in the graph from one crop; ``antialias``
            makes them while loading, by Pillow's antialiased filter, from a shared crop with an own
            flip per size; ``antialias_cubic`` likewise as DS-Net does, with a bicubic filter (in
            training bilinear or bicubic by chance).
        inputs: see ``engine.data.inputs``.
    """

    augmentation: str = option(
        'area_crop',
        f'how training views are drawn, and which views of evaluation belong to them: '
        f'{", ".join(augment.AUGMENTATIONS)} (imagenet is area_crop, cifar is shift)',
        parse=augment.parse,
        short=('--augment',),
    )
    image_size: int = option(
        224,
        'side of the crop that all sizes are made from; default: that of the data',
        low=1,
        high=LARGEST_SIZE,
        metavar='PIXELS',
    )
    resize: str = option('nearest', 'how sizes are made from the crop', choices=RESIZES)
    inputs: str = option(
        'normalized_bgr',
        f'colour order and range of the images: {", ".join(inputs.RULES)}, or {inputs.SPELLING}',
    )
    randaugment: str = option(
        '', 'RandAugment in training, such as rand-m9-mstd0.5; empty for none', metavar='SPEC'
    )
    erasing: float = option(
        0.0, 'probability of random erasing in training', low=0, high=1, metavar='P'
    )


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """Further options that a training follows from."""

    preset: str | None = option(
        None, 'a whole recipe, which explicit flags beat, see --list presets', metavar='NAME'
    )
    batch_size: int = option(256, 'images of a step over all GPUs', low=1, high=10**7)
    val_interval: int = option(
        1,
        'epochs from one scoring of the validation images to the next; the last one is scored',
        low=1,
        high=10**6,
        metavar='EPOCHS',
    )
    seed: int = option(0, 'of initial values, shuffling and augmentation', low=0, high=2**31 - 1)
    load: str | None = option(
        None,
        'start from the weights of this run folder, checkpoint, or file of PyTorch, safetensors or '
        'Torch7',
        metavar='CKPT',
    )
    stages: tuple[str, ...] = option((), 'bits of the --progressive chain it is of', flag=False)


@dataclasses.dataclass(frozen=True)
class MachineOptions:
    """Devices that share a step, and how.

    Attributes:
        gpu: one tower each; a single 0 without a GPU means the CPU.
        operation_threads, rewriting: see ``engine.graph.sessions``, which settles them.
        native: likewise; ``auto`` becomes one of the others.
    """

    gpu: tuple[int, ...] = option(
        (0,), 'comma-separated ids, one tower each', count=1, parse=gpu_ids, metavar='IDS'
    )
    trainer: str = option('replicated', 'where variables of several towers live', choices=TRAINERS)
    bf16: bool = option(False, 'train with activations in bfloat16; everything else stays float32')
    xla: str = option(
        'auto',
        'LQ quantizers of a training step as programs of XLA: auto where there is a GPU',
        choices=('auto', 'on', 'off'),
    )
    operation_threads: int = option(
        0, 'threads within an operation; 0 until the machine is known', low=0, flag=False
    )
    rewriting: str = option(
        'auto',
        'whether TensorFlow rewrites the graph',
        choices=('auto', 'on', 'off'),
        flag=False,
    )
    native: str = option(
        'auto',
        'quantizers on the CPU as operations of one pass (python -m quant.native.build): auto '
        'where they are built; require: without them it is an error',
        choices=native.CHOICES,
    )
    recompute: str = option(
        'none',
        'what a training step computes a second time to take less memory: activations, the layers '
        'between two convolutions; blocks, all layers of a block; with equal loss and gradients',
        choices=('none', 'activations', 'blocks'),
    )
    sync_bn: bool = option(
        False, 'batch statistics of all towers together; else of each tower, as published'
    )


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
