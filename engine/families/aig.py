"""ConvNet-AIG: recipes, target rates and evaluator of networks with gated residual blocks."""

from typing import Any

from engine.errors import UsageError
from engine.families.family import Family, LowBits, Preset
from engine.families.recipes import MEASURED, PYTORCH

# Its loops run one epoch less than they say; here all are run.
_RECIPE: dict[str, Any] = {
    **PYTORCH,
    'inputs': 'normalized_rgb',
    'schedule': 'milestones',
    'milestones': (30, 60, 90),
    'epochs': 100,
}
_CIFAR: dict[str, Any] = {
    **_RECIPE,
    'inputs': 'cifar_rgb',
    'milestones': (150, 250),
    'epochs': 350,
    'wd': 5e-4,
    'rate_factor': 2.0,
    'targets': (0.6,),
}
_NO_NUMBER = 'no table in the README of ConvNet-AIG (andreasveit/convnet-aig)'

# Target execution rates of the blocks, as the published README lists them; None stands for the rate
# of the preset.
SCHEDULES: dict[str, tuple[float | None, ...]] = {
    'aig50': (1, 1, 0.8, 1, None, None, None, 1, None, None, None, None, None, 1, 0.7, 1),
    'aig101': (1,) * 8 + (None,) * 25,
}


def schedule(name: str, rate: float) -> tuple[float, ...]:
    """Target rates of a published schedule with ``rate`` where it leaves the choice.

    >>> schedule('aig50', 0.4)[:5]
    (1.0, 1.0, 0.8, 1.0, 0.4)
    """
    return tuple(rate if entry is None else float(entry) for entry in SCHEDULES[name])


def _imagenet(name: str, arch: str, rate: float) -> Preset:
    values = {
        **_RECIPE,
        'net': 'aig',
        'sizes': (224,),
        'arch': arch,
        'targets': schedule(name, rate),
    }
    return Preset(values, f'{_NO_NUMBER}, whose schedule of target rates this is')


class AIGFamily(Family):
    """Residual networks with gates."""

    evaluator_paths = ('engine.evaluation.evaluators.gates.Gates',)
    benchmark = 'gates'
    importer_path = 'engine.importers.aig.AIGImporter'

    presets = {
        'aig50_t0.4': _imagenet('aig50', 'resnet50', 0.4),
        'aig50_t0.5': _imagenet('aig50', 'resnet50', 0.5),
        'aig50_t0.6': _imagenet('aig50', 'resnet50', 0.6),
        'aig50_t0.7': _imagenet('aig50', 'resnet50', 0.7),
        'aig101_t0.3': _imagenet('aig101', 'resnet101', 0.3),
        'aig101_t0.5': _imagenet('aig101', 'resnet101', 0.5),
        'aig110_cifar10': Preset(
            {**_CIFAR, 'net': 'aig', 'arch': 'resnet110', 'sizes': (32,)}, _NO_NUMBER
        ),
        'demo-aig': Preset(
            {
                'net': 'aig',
                'arch': 'resnet20',
                'mode': 'pytorch',
                'sizes': (28,),
                'data': 'animals28',
                'targets': (0.6,),
                'rate_factor': 2.0,
                'epochs': 8,
            },
            MEASURED,
            low_bits=(LowBits(2, 2),),
        ),
    }

    def defaults(self, arch: str) -> dict[str, Any]:
        """The published recipe on ImageNet."""
        return _RECIPE

    def check(self, config: Any) -> None:
        """Checks that towers that share batch statistics have the same images in every layer.

        Raises:
            UsageError: bodies are skipped in training.
        """
        if config.sync_bn and config.train_skip:
            raise UsageError(
                '--sync_bn with --train_skip: bodies see another number of images in every '
                'tower; leave one of them out'
            )
