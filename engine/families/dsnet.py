"""DS-Net: recipes of its two stages, published table and evaluator of networks of many widths."""

from collections.abc import Sequence
from typing import Any

from engine.data.spec import DatasetSpec
from engine.errors import UsageError
from engine.families.family import Config, Family, LowBits, Preset
from engine.families.recipes import MEASURED, PYTORCH
from nets.points import Point
from quant import specs

# The published loops run 150 + 10 and 30 + 10 epochs.
_RECIPE: dict[str, Any] = {
    **PYTORCH,
    'arch': 'mobilenetv1',
    'sizes': (224,),
    'inputs': 'normalized_rgb',
    'resize': 'antialias_cubic',
    'batch_size': 512,
    'lr': 0.08,
    'schedule': 'cosine_epochs',
    'warmup': 5.0,
    'min_lr': 1e-5,
    'cooldown': 10,
    'epochs': 160,
    'decay': 'kernels',
    'nesterov': True,
    'randaugment': 'rand-m9-mstd0.5',
    'erasing': 0.2,
}
_GATE: dict[str, Any] = {'stage': 'gate', 'warmup': 0.0, 'epochs': 40, 'wd': 0.01}
# A short training needs a teacher that follows soon: 0.997 looks back over 333 steps.
_SMALL: dict[str, Any] = {
    'arch': 'mobilenetv1_small',
    'ema': 0.97,
    'resize': 'area',
    'randaugment': '',
    'erasing': 0.0,
    'min_lr': 0.0,
    'cooldown': 0,
}
_DEMO: dict[str, Any] = {
    'net': 'dsnet',
    **_SMALL,
    'mode': 'pytorch',
    'sizes': (28,),
    'data': 'animals28',
    'width': 0.25,
    'inputs': 'normalized_rgb',
}

# Fine-tuned to fewer bits. A squeeze-excite leaves nothing near the lower bound of Swish, at which
# levels without a learned offset begin.
_LOW_BITS: dict[str, Any] = {'activation_quantizer': 'lsqplus'}
# At the rate of the weights the steps of activations of the first layers ran away.
_LOWEST_BITS: dict[str, Any] = {'activation_quantizer': 'lsqplus(lr_factor=0.1)'}
_FINE_TUNED: dict[str, Any] = {**_LOW_BITS, 'epochs': 2, 'lr': 0.05, 'warmup': 0.5}
_AT_BITS: dict[str, dict[str, Any]] = {
    'w4a4': {**_FINE_TUNED, 'epochs': 1, 'batch_size': 32, 'lr': 0.02, 'warmup': 0.25},
    'w2a4': {**_FINE_TUNED, 'batch_size': 32},
    'w2a2': {**_LOWEST_BITS, 'epochs': 4, 'lr': 0.02, 'warmup': 1.0},
}


class DSNetFamily(Family):
    """Slimmable networks, with or without a gate that chooses the width."""

    evaluator_paths = ('engine.evaluation.evaluators.widths.Widths',)
    benchmark = 'widths'
    published_tables = ('ds-net',)
    importer_path = 'engine.importers.dsnet.DSNetImporter'

    presets = {
        'dsnet_mbv1': Preset(
            {**_RECIPE, 'net': 'dsnet'},
            '70.1/70.4/70.8/71.2/71.6/72.0/72.4/72.7/73.0/73.3/73.6/73.9/74.1/74.6 '
            'at widths 0-13; README of DS-Net (changlin31/DS-Net)',
            then='dsnet_mbv1_gate',
        ),
        'dsnet_mbv1_gate': Preset(
            {**_RECIPE, **_GATE, 'net': 'dsnet'},
            'no number in the README of DS-Net for the gated network',
        ),
        'demo-dsnet': Preset(
            {**_DEMO, 'epochs': 5},
            MEASURED,
            at_bits=_AT_BITS,
            # At few bits a network is a bad teacher of itself at first.
            with_teacher={'label_weight': 0.0, 'inplace_bootstrap': False},
            then='demo-dsnet-gate',
            low_bits=(LowBits(4, 4), LowBits(2, 4), LowBits(2, 2, start='w2a4')),
            scored=('', '-gate'),
        ),
        'demo-dsnet-gate': Preset(
            {
                **_DEMO,
                'epochs': 4,
                'lr': 5.0,
                'stage': 'gate',
                'routes': (0, 4, 8, 13),
                'target_madds': 2.5e6,
            },
            MEASURED,
            at_bits={'w4a4': _LOW_BITS, 'w2a4': _LOW_BITS, 'w2a2': _LOWEST_BITS},
        ),
    }

    def defaults(self, arch: str) -> dict[str, Any]:
        """The published recipe of the first stage on ImageNet."""
        return _RECIPE

    def data_defaults(self, spec: DatasetSpec) -> dict[str, Any]:
        """Small images at one size, without the heavy augmentation."""
        return self.at_one_size(spec, _SMALL)

    def folder_parts(self, config: Config) -> list[str]:
        """The second stage."""
        return ['gate'] if config.stage == 'gate' else []

    def check(self, config: Config) -> None:
        """Checks that nothing is shared, private or learned that widths do not allow.

        Raises:
            UsageError: towers share batch statistics, operating points have own quantizers, or the
                activation function is learned.
        """
        private = config.private_basis
        for rule in config.quantization.to_policy().rules:
            activation = specs.parse(rule.activation) if rule.activation else None
            private = private or (activation is not None and activation.private)
        if private:
            raise UsageError(
                f'--private_basis with --net {self.net}: quantizers of activations are shared '
                'by all widths; leave it out'
            )
        if config.activation != 'relu':
            raise UsageError(
                f'--activation {config.activation} with --net {self.net}: its blocks have '
                'functions of their own; leave it out'
            )
        if config.sync_bn:
            raise UsageError(
                f'--sync_bn with --net {self.net}: every tower draws widths of its own, so that '
                'their channels differ; leave it out'
            )

    def evaluators(self, config: Config) -> list[Any]:
        """Evaluators of the gate, which only the second stage has."""
        return super().evaluators(config) if config.stage == 'gate' else []

    def evaluated(
        self, config: Config, known: Sequence[Point], widths: Sequence[int] | None
    ) -> Config:
        """``config`` at all widths with statistics, or at those that were asked for.

        Args:
            config: configuration of the run, at the sizes to evaluate.
            known: operating points with statistics.
            widths: that were asked for; None for all.
        """
        there = {point.width for point in known if point.width is not None}
        asked = tuple(widths or sorted(there))
        stage = config.stage
        if not set(config.routes) <= set(asked):
            stage = 'supernet'  # without all of its routes a gate has nothing to choose from
        return config.replacing(widths=asked, stage=stage)

    def calibrated(
        self, config: Config, sizes: Sequence[int] | None, widths: Sequence[int] | None
    ) -> Config:
        """``config`` of the first stage at all widths, or at those that were asked for.

        Args:
            config: configuration of the run.
            sizes: input sizes that were asked for; None for those of the run.
            widths: that were asked for; None for all.
        """
        config = config.narrowed(sizes) if sizes else config
        return config.replacing(widths=tuple(widths or ()), stage='supernet')

    def at_point(self, config: Config, point: Point) -> Config:
        """Without the gate, at one width."""
        config = super().at_point(config, point)
        return config.replacing(widths=(point.width,), stage='supernet')
