"""RS-Nets: recipes and published tables of the quantized and of the float code."""

from collections.abc import Mapping, Sequence
from typing import Any

from engine.families.family import Config, Family, LowBits, Preset
from engine.families.recipes import IMAGENET_SIZES, MEASURED, MOBILE, PYTORCH, SMALL
from quant.recipe import RSNETS_COURSE

_QUANTIZED = (
    'top-1 at 224/192/160/128/96 in the quantization table of the RS-Nets README (yikaiw/RS-Nets)'
)
_FLOAT = 'top-1 at 224/192/160/128/96 in the README of RS-Nets (yikaiw/RS-Nets)'

_TENSORFLOW: dict[str, Any] = {
    'sizes': IMAGENET_SIZES,
    'kd': True,
    'batch_size': 256,
    'steps_per_epoch': 5000,
    **RSNETS_COURSE,
    'wd': 5e-5,
    'warmup': 0.0,
    'resize': 'nearest',
}
_PYTORCH: dict[str, Any] = {
    **PYTORCH,
    'sizes': IMAGENET_SIZES,
    'kd': True,
    'kd_type': 'ens_topdown',
}


def _quantized(arch: str, top1: str, **values: Any) -> Preset:
    return Preset({**_TENSORFLOW, 'arch': arch, **values}, f'{top1}; {_QUANTIZED}')


def _float(arch: str, top1: str, **values: Any) -> Preset:
    return Preset({**_PYTORCH, **values, 'arch': arch}, f'{top1}; {_FLOAT}')


class RSNetFamily(Family):
    """Networks of several input sizes that share their kernels."""

    published_tables = ('rs-float', 'rs-quant')
    reader_path = 'engine.importers.rsnet.read'
    importer_path = 'engine.importers.rsnet.RSNetImporter'

    presets = {
        'rs18_w2a32': _quantized('resnet18', '68.8/67.6/66.0/63.1/56.6', mode='resnet', qw=2),
        'rs18_w2a2': _quantized('resnet18', '65.8/64.8/62.9/59.3/52.5', mode='preact', qw=2, qa=2),
        'rs50_w2a32': _quantized('resnet50', '76.0/75.1/73.8/71.7/67.3', mode='resnet', qw=2),
        'rs50_w2a2': _quantized('resnet50', '74.0/73.1/71.4/68.9/63.4', mode='preact', qw=2, qa=2),
        'rsnet18': _float('resnet18', '73.1/72.2/71.1/68.7/64.1'),
        'rsnet50': _float('resnet50', '79.3/78.8/77.9/76.3/72.7'),
        'rsnet_mobilenetv2': _float('mobilenetv2', '73.0/72.2/71.1/68.8/63.9', **MOBILE),
        'demo': Preset(
            {**SMALL, 'mode': 'preact', 'epochs': 4},
            '92 at 12 pixels to 95 in float; measured table in the README',
        ),
        'study': Preset(
            {**SMALL, 'mode': 'preact', 'epochs': 15},
            'about 97 at every size in float; measured table in the README',
        ),
        'demo-mobilenet': Preset(
            {
                **SMALL,
                'arch': 'mobilenetv2_small',
                'mode': 'pytorch',
                'width': 0.5,
                'inputs': 'unit_rgb',
                'epochs': 4,
            },
            MEASURED,
            low_bits=(LowBits(4, 4),),
        ),
    }

    def defaults(self, arch: str) -> dict[str, Any]:
        """The PyTorch recipe for architectures that only the PyTorch code defines."""
        if arch.startswith('mobilenet'):
            return {**PYTORCH, **MOBILE}
        return PYTORCH if arch.startswith('resnext') else {}

    def folder_start(self, config: Config) -> str:
        """As the published code names its folders, where the network is one of its own."""
        if config.mode == 'pytorch':
            return super().folder_start(config)
        return config.mode + config.arch.removeprefix('resnet')

    def published(self, config: Mapping[str, Any]) -> tuple[str, Sequence[str]]:
        """The tables of networks of one size, of PyTorch, or of both codes."""
        arch = str(config.get('arch'))
        if len(config['sizes']) == 1:
            return arch, ('san-individual', 'lq-nets', 'lsq', 'n2uq')
        if config.get('mode') == 'pytorch':
            return arch, ('rs-float',)
        return arch, self.published_tables
