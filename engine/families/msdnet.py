"""MSDNet: recipes, published table and evaluator of networks with exits."""

from collections.abc import Mapping, Sequence
from typing import Any

from engine.data.spec import DatasetSpec
from engine.families.family import Family, LowBits, Preset
from engine.families.recipes import MEASURED, PYTORCH

# The original code's epochs count from 1 and its learning rate falls one epoch early on CIFAR.
_RECIPE: dict[str, Any] = {
    **PYTORCH,
    'arch': 'msdnet',
    'sizes': (224,),
    'inputs': 'normalized_rgb',
    'epochs': 90,
    'schedule': 'milestones',
    'milestones': (30, 60),
    'nesterov': True,
    'init': 'original',
    'kd_type': 'topdown',
}
_SMALL: dict[str, Any] = {
    'arch': 'msdnet',
    'stepmode': 'even',
    'step': 2,
    'base': 4,
    'nChannels': 16,
    'growthRate': 6,
    'grFactor': (1, 2, 4),
    'bnFactor': (1, 2, 4),
}
_CIFAR: dict[str, Any] = {
    **_RECIPE,
    **_SMALL,
    'net': 'msdnet',
    'sizes': (32,),
    'resize': 'area',
    'epochs': 300,
    'batch_size': 64,
    'warmup': 0.0,
    'milestones': (150, 225),
}
_GROWING: dict[str, Any] = {'stepmode': 'lin_grow', 'step': 1, 'base': 1}
_NO_NUMBER = (
    'no number in the READMEs of MSDNet (gaohuang/MSDNet, kalviny/MSDNet-PyTorch), only figures'
)


def _imagenet(step: int, expect: str = _NO_NUMBER) -> Preset:
    values = {**_RECIPE, 'net': 'msdnet', 'step': step, 'base': step, 'holdout': 50000}
    return Preset(values, expect)


def _cifar(inputs: str, blocks: int, **values: Any) -> Preset:
    return Preset({**_CIFAR, **values, 'inputs': inputs, 'nBlocks': blocks}, _NO_NUMBER)


class MSDNetFamily(Family):
    """Multi-scale networks with a classifier after every block."""

    evaluator_paths = ('engine.evaluation.evaluators.exits.Exits',)
    benchmark = 'exits'
    published_tables = ('msdnet-port',)
    importer_path = 'engine.importers.msdnet.MSDNetImporter'

    presets = {
        'msd_cifar10_anytime': _cifar('cifar10_rgb', 10),
        'msd_cifar10_batch': _cifar('cifar10_rgb', 7, **_GROWING, holdout=5000),
        'msd_cifar100_anytime': _cifar('cifar100_rgb', 7),
        'msd_cifar100_batch': _cifar('cifar100_rgb', 5, **_GROWING, holdout=5000),
        'msd_imagenet4': _imagenet(4),
        'msd_imagenet6': _imagenet(6),
        'msd_imagenet7': _imagenet(
            7,
            '62.9/70.3/73.0/73.6/74.6 at the exits; the released model in '
            'kalviny/MSDNet-PyTorch #10',
        ),
        'demo-msdnet': Preset(
            {
                'net': 'msdnet',
                **_SMALL,
                'mode': 'pytorch',
                'sizes': (28,),
                'data': 'animals28',
                **_GROWING,
                'nBlocks': 4,
                'nChannels': 8,
                'growthRate': 4,
                'holdout': 1000,
                'epochs': 6,
            },
            MEASURED,
            low_bits=(LowBits(2, 2),),
            scored=('',),
        ),
    }

    def defaults(self, arch: str) -> dict[str, Any]:
        """The published recipe on ImageNet."""
        return _RECIPE

    def data_defaults(self, spec: DatasetSpec) -> dict[str, Any]:
        """The published form for CIFAR, at one size, for small images."""
        return self.at_one_size(spec, _SMALL)

    def published(self, config: Mapping[str, Any]) -> tuple[str, Sequence[str]]:
        """Networks of equal blocks are spelled by number and length of these."""
        if config.get('base') != config.get('step'):
            return str(config.get('arch')), ()
        form = f'{config.get("nBlocks")}x{config.get("step")}'
        return f'{config.get("arch")}{form}', self.published_tables
