"""SAN: recipes and published table of networks whose kernels are generated from the input size."""

from typing import Any

from engine.data.spec import DatasetSpec
from engine.families.family import Family, LowBits, Preset
from engine.families.recipes import IMAGENET_SIZES, MEASURED, MOBILE, PYTORCH, SMALL

_NO_NUMBER = 'no number in the README of SAN (d-li14/SAN); networks trained at one size reach'

_RECIPE: dict[str, Any] = {
    **PYTORCH,
    'net': 'san',
    'sizes': IMAGENET_SIZES,
    'kd': True,
    'kd_type': 'topdown',
    'encoding': 320.0,
}


class SANFamily(Family):
    """Networks of several input sizes whose kernels follow from the size."""

    published_tables = ('san-mobilenetv2',)
    importer_path = 'engine.importers.san.SANImporter'

    presets = {
        'san18': Preset({**_RECIPE, 'arch': 'resnet18'}, f'{_NO_NUMBER} 71.0/69.8/68.5/66.4/62.6'),
        'san50': Preset({**_RECIPE, 'arch': 'resnet50'}, f'{_NO_NUMBER} 77.2/76.4/75.3/73.5/70.6'),
        'san_mobilenetv2': Preset(
            {**_RECIPE, **MOBILE, 'arch': 'mobilenetv2'},
            '72.9/72.2/71.2/69.1/65.1; top-1 at 224/192/160/128/96 in the README of SAN',
        ),
        'demo-san': Preset(
            {
                **SMALL,
                'net': 'san',
                'kd_type': 'topdown',
                'mode': 'pytorch',
                'inputs': 'unit_rgb',
                'encoding': 40.0,
                'init': 'scaled',
                'epochs': 4,
            },
            MEASURED,
            low_bits=(LowBits(2, 2),),
        ),
    }

    def defaults(self, arch: str) -> dict[str, Any]:
        """The PyTorch recipe: there is no other code."""
        mobile = MOBILE if arch.startswith('mobilenet') else {}
        return {**PYTORCH, **mobile, 'kd_type': 'topdown'}

    def data_defaults(self, spec: DatasetSpec) -> dict[str, Any]:
        """An encoding for the sizes of smaller images: the largest is 0.7, as 224 of 320 is."""
        defaults = super().data_defaults(spec)
        if not (spec.small or spec.sizes):
            return defaults
        encoding = 10 * spec.largest // 7  # pixels
        return {**defaults, 'encoding': float(encoding)}

    def lends_kernels(self, untrained: str | None) -> bool:
        """``ideal`` and ``interpolate`` generate the kernels of the size itself."""
        return untrained in (None, 'proxy')
