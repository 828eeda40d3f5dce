"""The configuration of a run.

One frozen value that the run folder records and that repeats the run.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import nets
from engine import families
from engine.data import datasets, inputs, randaugment
from engine.data.augment import AUGMENTATIONS
from engine.data.preprocessing import RESIZES, Preprocessing
from engine.errors import UsageError
from quant import Policy, low_bit

SCHEDULES = ('step', 'cosine', 'linear', 'milestones', 'cosine_epochs')
DECAYS = ('kernels', 'all')
TRAINERS = ('replicated', 'parameter-server')
DATA_FORMATS = ('NHWC', 'NCHW')
FLOAT_BITS = 32


@dataclasses.dataclass(frozen=True)
class Config:
    """All that decides what a run computes.

    Defaults are the published RS-Nets quantization recipe on ImageNet.

    Attributes:
        net, arch, mode, width: the network, see ``nets``; ``width`` multiplies all channel counts.
        encoding, init: of SAN: pixels that are encoded as 1, and initial values.
        targets, faithful_gates, rate_loss, rate_factor, temperature, last_temperature, gate_noise,
            train_skip, gate_lr: of AIG.
        nBlocks, stepmode, step, base, nChannels, growthRate, grFactor, bnFactor, prune, bottleneck,
            reduction, stem_bias, exit_weights: of MSDNet, see ``nets.msdnet``; ``init`` too.
        stage, widths, routes, ieb, complexity, target_madds, smoothing, dropout: of DS-Net, see
            ``nets.dsnet``; ``faithful_gates`` and ``gate_noise`` too.
        ema: decay of the moving average of the weights that teaches a DS-Net and is evaluated.
        qw, qa: bits of weights and activations; 32 is float.
        private_basis: an activation basis per operating point instead of one for all.
        fixed_qa: only the largest size updates the activation bases.
        sizes: input sizes in pixels, largest first.
        sized: of DS-Net: whether operating points spell their size although there is one, see
            ``narrowed``.
        kd, kd_type: learn an ensemble of the sizes and distil from it (SAN: larger sizes teach
            smaller ones).
        data, dataset, classes: what ``--data`` names, a folder of CIFAR batches as ``cifar10:DIR``;
            which data set it is (``imagenet``, ``cifar10``, ..., ``folder`` for any other folder);
            its number of classes.
        skip_list, max_bad: file that names images to go without, and the largest share of a pass
            that may be undecodable beside.
        holdout: training images that are set aside to choose exit thresholds by.
        augmentation: how training views are drawn and which views of evaluation belong to them, see
            ``engine.data.augment``; with the next three the ``preprocessing``.
        image_size: side of the crop that all sizes are resized from.
        resize: how sizes are made: ``nearest`` and ``area`` in the graph from one crop;
            ``antialias`` while loading, by Pillow's antialiased filter, from a shared crop with an
            own flip per size; ``antialias_cubic`` likewise as DS-Net does, with a bicubic filter
            (in training bilinear or bicubic by chance).
        inputs: ``normalized_bgr``, ``normalized_rgb`` (ImageNet mean and deviation), ``cifar_rgb``
            (as ConvNet-AIG has it), ``cifar10_rgb``, ``cifar100_rgb`` (as MSDNet), ``unit_rgb``
            ([0, 1]), or the numbers themselves, see ``engine.data.inputs``.
        batch_size: images of one step over all towers.
        lr, schedule, warmup, milestones, gamma, epochs, steps_per_epoch: learning rate, its course
            (see ``learning_rate``), epochs of linear warm-up, length.
        min_lr, cooldown: of ``cosine_epochs``: lowest rate, and epochs at it at the end.
        randaugment, erasing: augmentation of training views: RandAugment such as
            ``rand-m9-mstd0.5``, empty for none, and the probability of random erasing.
        wd, decay: weight decay, of ``kernels`` or of ``all`` trained variables.
        nesterov: look-ahead form of the momentum.
        seed: of initial values, shuffling and augmentation.
        load: checkpoint that training starts from, or None.
        gpu: ids of the GPUs, one tower each; a single 0 without a GPU means the CPU.
        trainer: ``replicated`` or ``parameter-server`` variables for several towers.
        sync_bn: normalise by the statistics of all towers together instead of each tower's own.
        bf16: train with activations in bfloat16; variables, statistics, losses and evaluation stay
            float32.
        preset: name of the preset it came from, or None.
    """

    net: str = 'rsnet'
    arch: str = 'resnet18'
    mode: str = 'resnet'
    width: float = 1.0
    encoding: float = 320.0
    init: str = 'published'
    targets: tuple[float, ...] = (0.7,)
    faithful_gates: bool = False
    rate_loss: str = 'batch'
    rate_factor: float = 1.0
    temperature: float = 1.0
    last_temperature: float = 1.0
    gate_noise: bool = False
    train_skip: bool = False
    gate_lr: float = 1.0
    nBlocks: int = 5
    stepmode: str = 'even'
    step: int = 4
    base: int = 4
    nChannels: int = 32
    growthRate: int = 16
    grFactor: tuple[int, ...] = (1, 2, 4, 4)
    bnFactor: tuple[int, ...] = (1, 2, 4, 4)
    prune: str = 'max'
    bottleneck: bool = True
    reduction: float = 0.5
    stem_bias: bool = False
    exit_weights: tuple[float, ...] = ()
    stage: str = 'supernet'
    widths: tuple[int, ...] = ()
    routes: tuple[int, ...] = (0, 1, 2, 3)
    ieb: bool = True
    complexity: float = 0.5
    target_madds: float = 0.0
    smoothing: float = 0.1
    dropout: float = 0.2
    ema: float = 0.997
    qw: int = FLOAT_BITS
    qa: int = FLOAT_BITS
    private_basis: bool = False
    fixed_qa: bool = False
    sizes: tuple[int, ...] = (224, 192, 160, 128, 96)
    sized: bool = False
    kd: bool = False
    kd_type: str = 'ens_topdown'
    data: str = ''
    dataset: str = ''
    classes: int = 1000
    holdout: int = 0
    skip_list: str = ''
    max_bad: float = 0.001
    augmentation: str = 'area_crop'
    image_size: int = 224
    resize: str = 'nearest'
    inputs: str = 'normalized_bgr'
    batch_size: int = 256
    lr: float = 0.1
    schedule: str = 'step'
    warmup: float = 0.0
    milestones: tuple[int, ...] = (30, 60, 85, 95, 105)
    gamma: float = 0.1
    min_lr: float = 0.0
    cooldown: int = 0
    epochs: int = 120
    steps_per_epoch: int = 5000
    wd: float = 5e-5
    decay: str = 'kernels'
    nesterov: bool = True
    randaugment: str = ''
    erasing: float = 0.0
    seed: int = 0
    load: str | None = None
    gpu: tuple[int, ...] = (0,)
    trainer: str = 'replicated'
    sync_bn: bool = False
    bf16: bool = False
    preset: str | None = None

    @property
    def policy(self) -> Policy:
        """The quantization policy that ``qw`` and ``qa`` stand for."""
        options = (', private=True' if self.private_basis else '') + (
            ", update='strongest'" if self.fixed_qa else ''
        )
        weight = 'float' if self.qw == FLOAT_BITS else f'lq(bits={self.qw})'
        activation = 'float' if self.qa == FLOAT_BITS else f'lq(bits={self.qa}{options})'
        return low_bit(weight, activation)

    @property
    def name(self) -> str:
        """Name of the run folder, as the published code forms it, plus what it lacks."""
        family = families.get(self.net)
        parts = [family.folder_start(self), str(self.qw), str(self.qa), *map(str, self.sizes)]
        parts += [
            text
            for used, text in (
                (self.kd, 'distill'),
                (self.fixed_qa, 'fixed_qa'),
                (self.private_basis, 'private'),
                (self.width != 1, f'width{self.width:g}'),
                (self.sync_bn, 'sync'),
                (self.bf16, 'bf16'),
                *((True, part) for part in family.folder_parts(self)),
                (self.seed, f'seed{self.seed}'),
                (self.load, 'finetune'),
                (True, Path(self.data.replace(':', '-')).name),
            )
            if used
        ]
        return '-'.join(parts)

    @property
    def preprocessing(self) -> Preprocessing:
        """How images become what the network takes, in training, evaluation and use."""
        return Preprocessing(
            self.augmentation, self.image_size, self.sizes, self.resize, self.inputs
        )

    def narrowed(self, sizes: Iterable[int]) -> 'Config':
        """The same at these input sizes alone; what the run calls its operating points stays.

        Raises:
            UsageError: a size is too small.
        """
        chosen = tuple(sorted(set(sizes), reverse=True))
        check_sizes(chosen, '-es')
        return dataclasses.replace(
            self,
            sizes=chosen,
            image_size=max(self.image_size, *chosen),
            sized=self.sized or len(self.sizes) > 1,
        )

    def network(self) -> Any:
        """A new network: its constructor gets the fields that it names.

        Raises:
            ValueError: the network refuses a field.
        """
        network = nets.get(self.net)
        options = network.Options(**{name: getattr(self, name) for name in nets.options(self.net)})
        return network(
            arch=self.arch,
            mode=self.mode,
            sizes=self.sizes,
            classes=self.classes,
            width=self.width,
            options=options,
        )

    def refuse_foreign(self, given: Iterable[str]) -> None:
        """Raises UsageError if a field in ``given`` is an option of other networks.

        And would be ignored.
        """
        others = {option for net in nets.names() for option in nets.options(net)} - set(
            nets.options(self.net)
        )
        for name in sorted(others & set(given)):
            raise UsageError(f'--{name}: --net {self.net} has no such option')

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any], source: str) -> 'Config':
        """The configuration in ``data``, which was read from ``source``.

        Raises:
            UsageError: unknown fields.
        """
        data = datasets.completed(data)
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := set(data) - known:
            raise UsageError(
                f'{source}: unknown field {sorted(unknown)[0]!r}; it was written by another version'
            )
        values: dict[str, Any] = {
            key: tuple(v) if isinstance(v, list) else v for key, v in data.items()
        }
        for key, value in values.items():
            kind = type(getattr(cls, key))
            accepted = {float: (int, float), type(None): (str, type(None))}.get(kind, kind)
            if not isinstance(value, accepted):
                raise UsageError(f'{source}: field {key!r} holds {value!r}, not a {kind.__name__}')
        return cls(**values)

    def check(self) -> None:
        """Raises UsageError, naming the flag, if the fields cannot work together."""
        check_sizes(self.sizes)
        if self.image_size < max(self.sizes):
            raise UsageError(
                f'--image_size {self.image_size}: smaller than the largest size, {max(self.sizes)}'
            )
        if self.qa < FLOAT_BITS and self.mode == 'resnet':
            raise UsageError(
                f'--qa {self.qa} with --mode resnet: its activations stay float; '
                'use --mode preact or --mode preact_typeA'
            )
        for flag, bits in (('--qw', self.qw), ('--qa', self.qa)):
            if bits != FLOAT_BITS and not 1 <= bits <= 8:
                raise UsageError(f'{flag} {bits}: bits must be 1 to 8, or 32 for float')
        if self.batch_size % len(self.gpu):
            raise UsageError(
                f'--batch_size {self.batch_size}: not divisible by the {len(self.gpu)} towers '
                'of --gpu'
            )
        if self.fixed_qa and self.private_basis:
            raise UsageError(
                '--fixed_qa with --private_basis: with a basis of its own, every size must '
                'update it'
            )
        for flag, number in (
            ('--batch_size', self.batch_size),
            ('--epochs', self.epochs),
            ('--width', self.width),
            ('--steps_per_epoch', self.steps_per_epoch),
            ('--lr', self.lr),
            ('--gamma', self.gamma),
            ('--gate_lr', self.gate_lr),
        ):
            if not 0 < number < math.inf:
                raise UsageError(f'{flag} {number}: must be a number greater than 0')
        for flag, number in (
            ('--wd', self.wd),
            ('--warmup', self.warmup),
            ('--seed', self.seed),
            ('--holdout', self.holdout),
        ):
            if not 0 <= number < math.inf:
                raise UsageError(f'{flag} {number}: must be a number of at least 0')
        for flag, value, known in (
            ('--resize', self.resize, RESIZES),
            ('--schedule', self.schedule, SCHEDULES),
            ('--augmentation', self.augmentation, tuple(AUGMENTATIONS)),
            ('--decay', self.decay, DECAYS),
            ('--trainer', self.trainer, TRAINERS),
        ):
            if value not in known:
                raise UsageError(f'{flag} {value}: unknown; there are {", ".join(known)}')
        inputs.parse(self.inputs)
        self._check_recipe()
        try:
            self.network()
        except ValueError as error:
            raise UsageError(
                f'--net {self.net} --arch {self.arch} --mode {self.mode}: {error}'
            ) from error
        families.get(self.net).check(self)

    def _check_recipe(self) -> None:
        for flag, value in (('--min_lr', self.min_lr), ('--cooldown', self.cooldown)):
            if value and self.schedule != 'cosine_epochs':
                raise UsageError(
                    f'{flag} {value} with --schedule {self.schedule}: only cosine_epochs has it'
                )
        if not 0 <= self.min_lr <= self.lr:
            raise UsageError(f'--min_lr {self.min_lr}: must be 0 to --lr {self.lr}')
        if not 0 <= self.cooldown < self.epochs:
            raise UsageError(
                f'--cooldown {self.cooldown}: must be 0 to {self.epochs - 1}, since --epochs '
                f'{self.epochs} counts these epochs too'
            )
        for flag, value in (
            ('--erasing', self.erasing),
            ('--max_bad', self.max_bad),
            ('--ema', self.ema),
        ):
            if not 0 <= value <= 1:
                raise UsageError(f'{flag} {value}: must lie between 0 and 1')
        if self.randaugment:
            try:
                randaugment.parse(self.randaugment)
            except ValueError as error:
                raise UsageError(f'--randaugment {error}') from error


def check_sizes(sizes: tuple[int, ...], flag: str = '--sizes') -> None:
    """Raises UsageError, naming ``flag``, if a size is too small or repeated."""
    text = ' '.join(map(str, sizes))
    if not sizes or min(sizes) < 8:
        raise UsageError(f'{flag} {text}: every size must be at least 8 pixels')
    if len(set(sizes)) < len(sizes):
        raise UsageError(f'{flag} {text}: a size is repeated; give each once')


def read_config(path: Path) -> Config:
    """The configuration recorded in a file.

    Raises:
        UsageError: the file cannot be read as one.
    """
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f'{path}: no readable run configuration ({error})') from error
    if not isinstance(data, dict):
        raise UsageError(f'{path}: no run configuration (it holds {data!r:.40})')
    return Config.from_json(data, str(path))


def learning_rate(config: Config) -> Callable[[int], float]:
    """Learning rate as a function of the step: a linear warm-up from 0 to ``lr``, then

    ``step``: ``lr`` until epoch 30 of 120, then 1e-2, from 60 on 1e-3, 85 1e-4, 95 1e-5, 105 1e-6 -
        absolute values, as
    the RS-Nets quantization code; the epochs scale with ``--epochs``. ``milestones``: times
    ``gamma`` at each of these epochs. ``cosine``, ``linear``: half a cosine, or a straight line,
    from ``lr`` to 0 over the rest.

    ``cosine_epochs``, as timm: constant within an epoch; half a cosine from ``lr`` to ``min_lr``,
        with a straight line
    from ``min_lr`` in place of its first ``warmup`` epochs; then ``cooldown`` epochs at ``min_lr``.
    ``epochs`` counts all of them.
    """
    if config.schedule == 'cosine_epochs':
        return lambda step: _cosine_epochs(config, step // config.steps_per_epoch)
    total, warm = config.epochs * config.steps_per_epoch, config.warmup * config.steps_per_epoch
    marks = ((105, 1e-6), (95, 1e-5), (85, 1e-4), (60, 1e-3), (30, 1e-2))

    def at(step: int) -> float:
        if step < warm:
            return config.lr * step / warm
        done = (step - warm) / max(total - warm, 1)
        if config.schedule == 'cosine':
            return config.lr * 0.5 * (1 + math.cos(math.pi * done))
        if config.schedule == 'linear':
            return config.lr * (1 - done)
        if config.schedule == 'milestones':
            return config.lr * config.gamma ** sum(
                step >= m * config.steps_per_epoch for m in config.milestones
            )
        return next((rate for epoch, rate in marks if 120 * step >= epoch * total), config.lr)

    return at


def _cosine_epochs(config: Config, epoch: int) -> float:
    length = config.epochs - config.cooldown
    if epoch < config.warmup:
        done = epoch / config.warmup
    else:
        done = 0.5 * (1 + math.cos(math.pi * epoch / length)) if epoch < length else 0.0
    return config.min_lr + done * (config.lr - config.min_lr)
