"""Options of a run by group: what each is, what it can be, and what it is by default.

A run records them; flags that it does not record are in ``engine.config.unrecorded``. Options of a
network stand beside its class, those of quantizers in ``quant.policy_options``. Defaults are the
published RS-Nets quantization recipe on ImageNet; networks, data sets and presets change them, see
``engine.config.resolve``.
"""

import dataclasses

from engine.data import augment, datasets, inputs
from engine.data.balance import BY_WEIGHT, SAMPLER
from engine.data.preprocessing import RESIZES
from quant import native
from quant.options import option

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
            flip per size; ``antialias_cubic`` is the same with a bicubic filter, as DS-Net has
            it (in training bilinear or bicubic by chance).
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
        operation_threads, rewriting, native: see ``engine.graph.sessions``, which settles them:
            of ``native``, ``auto`` becomes one of the others.
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
