"""Published checkpoints as runs of ours.

Which network they hold, under which names, in which layout.
"""

import collections
import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engine.config.config import Config
from engine.config.options import Architecture
from engine.config.presets import network_defaults
from engine.errors import UsageError
from engine.families.recipes import PYTORCH
from engine.graph.inference import InferenceModel
from engine.importers import dsnet, msdnet, torch_file
from engine.importers.dsnet_names import assemble
from engine.importers.names import convert, from_pytorch
from engine.runs import checkpoint
from engine.runs.folder import merge_layers, open_run
from nets.backbones import mobilenet, resnet
from nets.points import Point
from quant.backend import new_graph, tf

DEFAULT_SIZES = Architecture.sizes

# Encodings of a published SAN by position: it has no others.
_FIRST_CODE, _CODE_STEP = 0.7, 0.1


@dataclasses.dataclass(frozen=True)
class Imported:
    """A published checkpoint by our names.

    Attributes:
        config: what it is.
        values: arrays in our layout; of a slimmable network also ``checkpoint.POINTS``, what has
            statistics.
        skipped: published names that no network uses.
    """

    config: Config
    values: dict[str, np.ndarray]
    skipped: list[str]


def read(
    path: str,
    *,
    sizes: Sequence[int] | None,
    arch: str | None,
    allow: Sequence[str],
    stage: str | None = None,
) -> Imported:
    """Reads a published file.

    PyTorch (RS-Nets float, SAN, ConvNet-AIG, MSDNet, DS-Net, a plain ResNet), Torch7 (MSDNet) or
    TensorFlow (quantized RS-Nets).

    Args:
        path: ``*.pth.tar``, ``*.t7``, or a TensorFlow checkpoint (prefix or folder).
        sizes: input sizes by position, for a PyTorch file that has not the usual five, or the usual
            one.
        arch: architecture, if the file does not say it.
        allow: regular expressions of published or of our names that may lack a counterpart.
        stage: of a DS-Net: ``gate`` takes its gate too; by default it is left out.

    Raises:
        UsageError: it cannot be read, or does not fit a published network on both sides.
    """
    torch = Path(path).is_file() and not Path(f'{path}.index').exists()
    found = _from_pytorch(path, sizes, arch, allow, stage) if torch else _from_tensorflow(path)
    if stage and found.config.net != 'dsnet':
        raise UsageError(
            f'--stage {stage}: {path} is a {found.config.net}, only a DS-Net has stages'
        )
    return found


def write(imported: Imported, out: Path) -> str:
    """Makes a run folder of it, and returns the checkpoint's prefix.

    Raises:
        UsageError: the folder exists.
    """
    if out.exists():
        raise UsageError(f'--out {out}: exists; choose a new folder')
    with new_graph(), tf.Session() as session:
        tf.set_random_seed(imported.config.seed)
        layers = InferenceModel(imported.config, data_format='NHWC').build_inference().layers
        session.run(tf.global_variables_initializer())
        checkpoint.Restore(imported.values).init(session)
        run = open_run(imported.config, out, None)
        prefix = tf.train.Saver().save(
            session, str(run.path / 'model'), global_step=0, write_meta_graph=False
        )
    if checkpoint.POINTS in imported.values:
        checkpoint.write_calibrated(prefix, {checkpoint.POINTS: imported.values[checkpoint.POINTS]})
    merge_layers(run.path, layers)
    return prefix


def _from_pytorch(
    path: str,
    sizes: Sequence[int] | None,
    arch: str | None,
    allow: Sequence[str],
    stage: str | None,
) -> Imported:
    if Path(path).suffix == '.t7':
        stored = torch_file.TorchCheckpoint(None, msdnet.read_original(path))
    else:
        stored = torch_file.read_checkpoint(Path(path))
    tensors = stored.tensors
    if any('.bn_' in name for name in tensors):
        config = _switchable(path, stored, sizes, arch)
    elif any('.aux_bn.' in name for name in tensors):
        config = _slimmable(path, tensors, sizes, arch, stage)
    elif 'classifier.0.linear.bias' in tensors:
        config = _exits(path, tensors, sizes)
    else:
        config = _one_size(path, tensors, sizes, arch)
    _check(path, config)
    names = _our_names(path, tensors, config, allow)
    values = _converted(path, tensors, names, config, allow)
    if config.net == 'dsnet':
        config = config.replacing(widths=dsnet.widths(path, values))
        _check(path, config)
        values[checkpoint.POINTS] = np.array([str(Point(width=width)) for width in config.widths])
    return Imported(config, values, sorted(set(tensors) - set(names)))


def _check(path: str, config: Config) -> None:
    try:
        config.check()
    except UsageError as error:
        raise UsageError(f'{path}: {error}') from error


def _positions(
    path: str, tensors: Mapping[str, np.ndarray], sizes: Sequence[int] | None
) -> tuple[int, ...]:
    """Input sizes by position."""
    found = {int(m[1]) for name in tensors if (m := re.search(r'\.bn_(\d+)\.', name))}
    count = max(found, default=-1) + 1
    sizes = tuple(sizes or DEFAULT_SIZES)
    if len(sizes) != count or list(sizes) != sorted(set(sizes), reverse=True):
        raise UsageError(
            f'{path}: has {count} input sizes, got --sizes {" ".join(map(str, sizes))}; '
            'give them in the order they were trained in, largest first'
        )
    return sizes


def _one_size(
    path: str, tensors: Mapping[str, np.ndarray], sizes: Sequence[int] | None, arch: str | None
) -> Config:
    """Configuration of a ConvNet-AIG, or of a plain ResNet as torchvision has them."""
    gated = any(re.search(r'\.fc1bn\.', name) for name in tensors)
    bias = tensors.get('linear.bias' if gated else 'fc.bias')
    if bias is None or not any(name.startswith('layer1.0.conv1.') for name in tensors):
        raise UsageError(
            f'{path}: holds no RS-Net or SAN (normalisations bn_0, bn_1 ...), ConvNet-AIG, '
            'MSDNet or '
            'plain ResNet'
        )
    if arch is None:
        kernel = tensors.get('layer1.0.conv2.weight')
        groups = len(kernel) // kernel.shape[1] if kernel is not None and kernel.ndim == 4 else 1
        arch = _arch(path, tensors, r'layer(\d+)\.(\d+)\.', groups)
    small = arch in resnet.FORMS and resnet.FORMS[arch].small
    sizes = _one(path, sizes, 32 if small else 224)
    options: dict[str, Any] = {
        **PYTORCH,
        **(network_defaults('aig', arch) if gated else {}),
        'net': 'aig' if gated else 'rsnet',
        'inputs': 'cifar_rgb' if small else 'normalized_rgb',
        'augmentation': 'shift' if small else 'area_crop',
        'resize': 'antialias',
        'arch': arch,
        'sizes': sizes,
        'image_size': sizes[0],
        'classes': len(bias),
    }
    if gated:
        options['faithful_gates'] = True
    return Config.from_values(**options)


def _exits(path: str, tensors: Mapping[str, np.ndarray], sizes: Sequence[int] | None) -> Config:
    """Configuration of an MSDNet."""
    found = msdnet.options(path, tensors)
    large = 'blocks.0.0.layers.0.0.weight' in tensors
    inputs = (
        'normalized_rgb' if large else 'cifar100_rgb' if found['classes'] == 100 else 'cifar10_rgb'
    )
    sizes = _one(path, sizes, 224 if large else 32)
    options: dict[str, Any] = {
        **network_defaults('msdnet', 'msdnet'),
        **found,
        'net': 'msdnet',
        'arch': 'msdnet',
        'inputs': inputs,
        'augmentation': 'area_crop' if large else 'shift',
        'sizes': sizes,
        'image_size': sizes[0],
    }
    return Config.from_values(**options)


def _slimmable(
    path: str,
    tensors: Mapping[str, np.ndarray],
    sizes: Sequence[int] | None,
    arch: str | None,
    stage: str | None,
) -> Config:
    """Configuration of a DS-Net."""
    found = dsnet.options(path, tensors, arch=arch, stage=stage)
    sizes = _one(path, sizes, 224)
    options: dict[str, Any] = {
        **network_defaults('dsnet', found['arch']),
        **found,
        'net': 'dsnet',
        'sizes': sizes,
        'image_size': sizes[0],
    }
    return Config.from_values(**options)


def _one(path: str, sizes: Sequence[int] | None, usual: int) -> tuple[int, ...]:
    """The input size of a network that has one."""
    if sizes and len(sizes) != 1:
        raise UsageError(f'{path}: has one input size, got --sizes {" ".join(map(str, sizes))}')
    return tuple(sizes or (usual,))


def _switchable(
    path: str, stored: torch_file.TorchCheckpoint, sizes: Sequence[int] | None, arch: str | None
) -> Config:
    """Configuration of an RS-Net or SAN."""
    tensors = stored.tensors
    sizes = _positions(path, tensors, sizes)
    san = any(
        re.search(r'\.fc\d?\.weight$', name) and value.ndim == 2 and value.shape[1] == 1
        for name, value in tensors.items()
    )
    arch = arch or re.sub(r'^(parallel|meta)_', '', stored.arch or '') or None
    if arch is None:
        raise UsageError(
            f'{path}: does not say its architecture; give --arch, one of '
            f'{", ".join((*resnet.ARCHS, *mobilenet.ARCHS))}'
        )
    classes = next(
        (
            len(value)
            for name, value in tensors.items()
            if re.fullmatch(r'(fc|classifier)\.module\.(weight|bias)', name)
        ),
        Architecture.classes,
    )
    encoding = sizes[0] / _FIRST_CODE
    if san and any(
        abs(size / encoding - (_FIRST_CODE - _CODE_STEP * j)) > 1e-6 for j, size in enumerate(sizes)
    ):
        raise UsageError(
            f'--sizes {" ".join(map(str, sizes))}: a published SAN encodes its positions as '
            '0.7, 0.6 ..., '
            'to which these sizes are not proportional'
        )
    stem = next(
        (
            value.shape[0] if value.ndim == 4 else value.shape[0] // 27
            for name, value in tensors.items()
            if re.fullmatch(r'features\.0\.(0\.module|fc)\.weight', name)
        ),
        32,
    )
    options: dict[str, Any] = {
        **PYTORCH,
        'net': 'san' if san else 'rsnet',
        'arch': arch,
        'sizes': sizes,
        'classes': classes,
        'width': stem / 32 if arch.startswith('mobilenet') else 1.0,
        'kd': san or 'alpha' in tensors,
        'kd_type': 'topdown' if san else 'ens_topdown',
        'image_size': max(sizes),
    }
    if san:
        options['encoding'] = encoding
    return Config.from_values(**options)


def _our_names(
    path: str, tensors: Mapping[str, np.ndarray], config: Config, allow: Sequence[str]
) -> dict[str, str]:
    """Our name by published name, without what no network uses."""
    names = {}
    for name in tensors:
        try:
            ours = _our_name(name, config)
        except ValueError as error:
            if not _allowed(name, allow):
                raise UsageError(f'{path}: {error}; --allow REGEX skips it') from error
            continue
        if ours is not None:
            names[name] = ours
    return names


def _our_name(name: str, config: Config) -> str | None:
    if config.net == 'dsnet':
        return dsnet.name(name, gate=config.stage == 'gate')
    return from_pytorch(name, arch=config.arch, kind=config.net, sizes=config.sizes)


def _converted(
    path: str,
    tensors: Mapping[str, np.ndarray],
    names: Mapping[str, str],
    config: Config,
    allow: Sequence[str],
) -> dict[str, np.ndarray]:
    """Arrays in our layout by our name."""
    declared, _ = InferenceModel(config, data_format='NHWC').inspect()
    variables = {name: state.shape for name, state in declared.items()}
    surplus = sorted(
        name for name, ours in names.items() if ours not in variables and not _allowed(name, allow)
    )
    missing = sorted(
        name for name in set(variables) - set(names.values()) if not _allowed(name, allow)
    )
    for what, rows in (('has, and a network of this kind has not', surplus), ('lacks', missing)):
        if rows:
            raise UsageError(
                f'{path}: {what}: {rows[0]} (and {len(rows) - 1} more); --arch {config.arch} '
                'may be '
                'wrong; --allow REGEX accepts it'
            )
    try:
        if config.net == 'dsnet':
            return assemble({name: tensors[name] for name in names}, variables)
        return {
            ours: convert(tensors[name], ours, variables[ours])
            for name, ours in names.items()
            if ours in variables
        }
    except ValueError as error:
        raise UsageError(f'{path}: --arch {config.arch}: {error}') from error


def _allowed(name: str, allow: Sequence[str]) -> bool:
    return any(re.search(pattern, name) for pattern in allow)


def _from_tensorflow(path: str) -> Imported:
    source = checkpoint.read(checkpoint.find(path, None, 'FILE'), flag='FILE')
    if source.config is not None or not source.sizes:
        raise UsageError(f'{path}: is no published checkpoint (variables imagenet/...)')
    names = source.values
    mode = (
        'resnet'
        if not any('bn_preact' in name for name in names)
        else ('preact' if any('convshortcut' in name for name in names) else 'preact_typeA')
    )
    config = Config.from_values(
        arch=_arch(path, names, r'group(\d)/block(\d+)/'),
        mode=mode,
        sizes=tuple(source.sizes),
        classes=source.classes,
        kd='alpha' in names,
        qw=source.qw,
        qa=source.qa,
        image_size=max(source.sizes),
    )
    variables, _ = InferenceModel(config, data_format='NHWC').inspect()
    values = checkpoint.select(source, variables, flag='FILE')
    return Imported(config, values, sorted(set(names) - set(values)))


def _arch(path: str, names: Iterable[str], pattern: str, groups: int = 1) -> str:
    """The ResNet whose names of layers these are.

    ``pattern`` finds the numbers of the group and of the block.
    """
    blocks = {(int(m[1]), int(m[2])) for name in names if (m := re.match(pattern, name))}
    counts = tuple(collections.Counter(group for group, _ in sorted(blocks)).values())
    bottleneck = any(re.search(r'\bconv3\b', name) for name in names)
    for arch, form in resnet.FORMS.items():
        if (form.blocks, form.bottleneck, form.groups) == (counts, bottleneck, groups):
            return arch
    raise UsageError(f'{path}: no ResNet has {" ".join(map(str, counts))} blocks')
