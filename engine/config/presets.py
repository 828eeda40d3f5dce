"""Whole recipes by name, with the published number they aim at, and the defaults that follow from the data set."""

import dataclasses
from typing import Any

from nets.schedules import schedule


@dataclasses.dataclass(frozen=True)
class Preset:
    """A named recipe: field values of ``Config``.

    Attributes:
        values: what it sets; an explicit flag beats it.
        expect: the number to expect and where it was read.
        then: name of the preset that goes on from the result, after calibration of all widths; empty for none.
    """

    values: dict[str, Any]
    expect: str
    then: str = ''


_README = (
    'top-1 at 224/192/160/128/96 in the quantization table of the RS-Nets README (yikaiw/RS-Nets)'
)
_RS: dict[str, Any] = {
    'sizes': (224, 192, 160, 128, 96),
    'kd': True,
    'batch_size': 256,
    'steps_per_epoch': 5000,
    'epochs': 120,
    'lr': 0.1,
    'wd': 5e-5,
    'schedule': 'step',
    'warmup': 0.0,
    'resize': 'nearest',
}
_SMALL = {
    'arch': 'resnet8',
    'sizes': (28, 24, 20, 16, 12),
    'kd': True,
    'data': 'animals28',
    'private_basis': True,
}

# Settings of the PyTorch codes (RS-Nets float, SAN) that reach the published numbers; SAN's own defaults do not.
PYTORCH = {
    'mode': 'pytorch',
    'inputs': 'unit_rgb',
    'resize': 'antialias',
    'batch_size': 256,
    'epochs': 120,
    'lr': 0.1,
    'schedule': 'cosine',
    'warmup': 0.0,
    'wd': 1e-4,
    'decay': 'all',
    'nesterov': False,
}
_MOBILE = {'epochs': 150, 'lr': 0.05, 'wd': 4e-5}
_RSF = {**PYTORCH, 'sizes': (224, 192, 160, 128, 96), 'kd': True, 'kd_type': 'ens_topdown'}
_SAN = {
    **PYTORCH,
    'net': 'san',
    'sizes': (224, 192, 160, 128, 96),
    'kd': True,
    'kd_type': 'topdown',
    'encoding': 320.0,
}
_FLOAT = 'top-1 at 224/192/160/128/96 in the README of RS-Nets (yikaiw/RS-Nets)'
_NO_SAN = 'no number in the README of SAN (d-li14/SAN); networks trained at one size reach'

# Settings of ConvNet-AIG. Its loops run one epoch less than they say; here all are run.
_AIG = {
    **PYTORCH,
    'net': 'aig',
    'inputs': 'normalized_rgb',
    'schedule': 'milestones',
    'milestones': (30, 60, 90),
    'epochs': 100,
}
_AIG_CIFAR = {
    **_AIG,
    'inputs': 'cifar_rgb',
    'milestones': (150, 250),
    'epochs': 350,
    'wd': 5e-4,
    'rate_factor': 2.0,
    'targets': (0.6,),
}

# Settings of MSDNet. The original code's epochs count from 1 and its learning rate falls one epoch early on CIFAR.
_MSD = {
    **PYTORCH,
    'net': 'msdnet',
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
_MSD_SMALL = {
    'arch': 'msdnet',
    'stepmode': 'even',
    'step': 2,
    'base': 4,
    'nChannels': 16,
    'growthRate': 6,
    'grFactor': (1, 2, 4),
    'bnFactor': (1, 2, 4),
}
_MSD_CIFAR = {
    **_MSD,
    **_MSD_SMALL,
    'sizes': (32,),
    'resize': 'area',
    'epochs': 300,
    'batch_size': 64,
    'warmup': 0.0,
    'milestones': (150, 225),
}
_MSD_LIN = {'stepmode': 'lin_grow', 'step': 1, 'base': 1}
_NO_MSD = (
    'no number in the READMEs of MSDNet (gaohuang/MSDNet, kalviny/MSDNet-PyTorch), only figures'
)

# Settings of DS-Net, whose published loops run 150 + 10 and 30 + 10 epochs.
_DSNET: dict[str, Any] = {
    **PYTORCH,
    'net': 'dsnet',
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
_DSNET_GATE = {**_DSNET, 'stage': 'gate', 'warmup': 0.0, 'epochs': 40, 'wd': 0.01}
# A short training needs a teacher that follows soon: 0.997 looks back over 333 steps.
_DSNET_SMALL = {
    'arch': 'mobilenetv1_small',
    'ema': 0.97,
    'resize': 'area',
    'randaugment': '',
    'erasing': 0.0,
    'min_lr': 0.0,
    'cooldown': 0,
}

PRESETS = {
    'rs18_w2a32': Preset(
        {**_RS, 'arch': 'resnet18', 'mode': 'resnet', 'qw': 2},
        f'68.8/67.6/66.0/63.1/56.6; {_README}',
    ),
    'rs18_w2a2': Preset(
        {**_RS, 'arch': 'resnet18', 'mode': 'preact', 'qw': 2, 'qa': 2},
        f'65.8/64.8/62.9/59.3/52.5; {_README}',
    ),
    'rs50_w2a32': Preset(
        {**_RS, 'arch': 'resnet50', 'mode': 'resnet', 'qw': 2},
        f'76.0/75.1/73.8/71.7/67.3; {_README}',
    ),
    'rs50_w2a2': Preset(
        {**_RS, 'arch': 'resnet50', 'mode': 'preact', 'qw': 2, 'qa': 2},
        f'74.0/73.1/71.4/68.9/63.4; {_README}',
    ),
    'rsnet18': Preset({**_RSF, 'arch': 'resnet18'}, f'73.1/72.2/71.1/68.7/64.1; {_FLOAT}'),
    'rsnet50': Preset({**_RSF, 'arch': 'resnet50'}, f'79.3/78.8/77.9/76.3/72.7; {_FLOAT}'),
    'rsnet_mobilenetv2': Preset(
        {**_RSF, **_MOBILE, 'arch': 'mobilenetv2'}, f'73.0/72.2/71.1/68.8/63.9; {_FLOAT}'
    ),
    'san18': Preset({**_SAN, 'arch': 'resnet18'}, f'{_NO_SAN} 71.0/69.8/68.5/66.4/62.6'),
    'san50': Preset({**_SAN, 'arch': 'resnet50'}, f'{_NO_SAN} 77.2/76.4/75.3/73.5/70.6'),
    'san_mobilenetv2': Preset(
        {**_SAN, **_MOBILE, 'arch': 'mobilenetv2'},
        '72.9/72.2/71.2/69.1/65.1; top-1 at 224/192/160/128/96 in the README of SAN',
    ),
    'demo': Preset(
        {**_SMALL, 'mode': 'preact', 'epochs': 4},
        'about 95 at every size in float; measured table in the README',
    ),
    'study': Preset(
        {**_SMALL, 'mode': 'preact', 'epochs': 15},
        'about 97 at every size in float; measured table in the README',
    ),
    'demo-san': Preset(
        {
            **_SMALL,
            'net': 'san',
            'kd_type': 'topdown',
            'mode': 'pytorch',
            'inputs': 'unit_rgb',
            'encoding': 40.0,
            'init': 'scaled',
            'epochs': 4,
        },
        'measured table in the README',
    ),
    'demo-mobilenet': Preset(
        {
            **_SMALL,
            'arch': 'mobilenetv2_small',
            'mode': 'pytorch',
            'width': 0.5,
            'inputs': 'unit_rgb',
            'epochs': 4,
        },
        'measured table in the README',
    ),
    'aig110_cifar10': Preset(
        {**_AIG_CIFAR, 'arch': 'resnet110', 'sizes': (32,)},
        'no table in the README of ConvNet-AIG (andreasveit/convnet-aig)',
    ),
    'msd_cifar10_anytime': Preset({**_MSD_CIFAR, 'inputs': 'cifar10_rgb', 'nBlocks': 10}, _NO_MSD),
    'msd_cifar10_batch': Preset(
        {**_MSD_CIFAR, **_MSD_LIN, 'inputs': 'cifar10_rgb', 'nBlocks': 7, 'holdout': 5000}, _NO_MSD
    ),
    'msd_cifar100_anytime': Preset({**_MSD_CIFAR, 'inputs': 'cifar100_rgb', 'nBlocks': 7}, _NO_MSD),
    'msd_cifar100_batch': Preset(
        {**_MSD_CIFAR, **_MSD_LIN, 'inputs': 'cifar100_rgb', 'nBlocks': 5, 'holdout': 5000}, _NO_MSD
    ),
    'msd_imagenet4': Preset({**_MSD, 'holdout': 50000}, _NO_MSD),
    'msd_imagenet6': Preset({**_MSD, 'step': 6, 'base': 6, 'holdout': 50000}, _NO_MSD),
    'msd_imagenet7': Preset(
        {**_MSD, 'step': 7, 'base': 7, 'holdout': 50000},
        '62.9/70.3/73.0/73.6/74.6 at the exits; the released model in kalviny/MSDNet-PyTorch #10',
    ),
    'dsnet_mbv1': Preset(
        _DSNET,
        '70.1/70.4/70.8/71.2/71.6/72.0/72.4/72.7/73.0/73.3/73.6/73.9/74.1/74.6 '
        'at widths 0-13; README of DS-Net (changlin31/DS-Net)',
        then='dsnet_mbv1_gate',
    ),
    'dsnet_mbv1_gate': Preset(
        _DSNET_GATE, 'no number in the README of DS-Net for the gated network'
    ),
    'demo-dsnet': Preset(
        {
            'net': 'dsnet',
            **_DSNET_SMALL,
            'mode': 'pytorch',
            'sizes': (28,),
            'data': 'animals28',
            'width': 0.25,
            'epochs': 5,
            'inputs': 'normalized_rgb',
        },
        'measured table in the README',
        then='demo-dsnet-gate',
    ),
    'demo-dsnet-gate': Preset(
        {
            'net': 'dsnet',
            **_DSNET_SMALL,
            'mode': 'pytorch',
            'sizes': (28,),
            'data': 'animals28',
            'width': 0.25,
            'epochs': 4,
            'lr': 5.0,
            'inputs': 'normalized_rgb',
            'stage': 'gate',
            'routes': (0, 4, 8, 13),
            'target_madds': 2.5e6,
        },
        'measured table in the README',
    ),
    'demo-msdnet': Preset(
        {
            'net': 'msdnet',
            **_MSD_SMALL,
            'mode': 'pytorch',
            'sizes': (28,),
            'data': 'animals28',
            **_MSD_LIN,
            'nBlocks': 4,
            'nChannels': 8,
            'growthRate': 4,
            'holdout': 1000,
            'epochs': 6,
        },
        'measured table in the README',
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
        'measured table in the README',
    ),
}

# What a small data set changes in the defaults of Config. ImageNet-style folders keep the published recipe.
_SMALL_IMAGES = {
    'batch_size': 64,
    'lr': 0.05,
    'schedule': 'cosine',
    'warmup': 0.5,
    'wd': 2e-4,
    'resize': 'area',
}
_CIFAR = {
    **_SMALL_IMAGES,
    'arch': 'resnet20',
    'epochs': 100,
    'lr': 0.1,
    'batch_size': 128,
    'encoding': 45.0,
}
DATA_DEFAULTS: dict[str, dict[str, Any]] = {
    'animals28': {
        **_SMALL_IMAGES,
        'arch': 'resnet8',
        'sizes': (28, 24, 20, 16, 12),
        'epochs': 5,
        'encoding': 40.0,
    },
    'cifar10': {**_CIFAR, 'sizes': (32, 28, 24, 20, 16)},
    'cifar100': {**_CIFAR, 'sizes': (32, 28, 24, 20, 16)},
}


for _name, _arch, _rates in (
    ('aig50', 'resnet50', (0.4, 0.5, 0.6, 0.7)),
    ('aig101', 'resnet101', (0.3, 0.5)),
):
    for _rate in _rates:
        PRESETS[f'{_name}_t{_rate:g}'] = Preset(
            {**_AIG, 'sizes': (224,), 'arch': _arch, 'targets': schedule(_name, _rate)},
            'no table in the README of ConvNet-AIG (andreasveit/convnet-aig), whose schedule of target rates this is',
        )


def data_defaults(net: str, data: str) -> dict[str, Any]:
    """What a data set of small images changes in the defaults, for this network."""
    if net == 'msdnet':
        return {**DATA_DEFAULTS[data], **_MSD_SMALL, 'sizes': DATA_DEFAULTS[data]['sizes'][:1]}
    if net == 'dsnet':
        return {**DATA_DEFAULTS[data], **_DSNET_SMALL, 'sizes': DATA_DEFAULTS[data]['sizes'][:1]}
    return DATA_DEFAULTS[data]


def network_defaults(net: str, arch: str) -> dict[str, Any]:
    """Published settings of a network that was only ever defined in PyTorch or Torch; nothing for the others."""
    published = {'aig': _AIG, 'msdnet': _MSD, 'dsnet': _DSNET}
    if net in published:
        return {key: value for key, value in published[net].items() if key != 'net'}
    if net == 'rsnet' and not arch.startswith(('mobilenet', 'resnext')):
        return {}
    mobile = _MOBILE if arch.startswith('mobilenet') else {}
    return {**PYTORCH, **mobile, **({'kd_type': 'topdown'} if net == 'san' else {})}
