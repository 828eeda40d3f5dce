"""Published checkpoints of RS-Nets: float ones (PyTorch) and quantized ones (TensorFlow).

Plain ResNets, as torchvision has them, are RS-Nets of one size. The files of the quantization code
say nothing about their network but names and shapes, from which bits and classes follow; those of
our own code without a run folder are read by the same rules.
"""

import collections
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from engine.config.options import Architecture
from engine.errors import UsageError
from engine.families.recipes import PYTORCH
from engine.importers.checks import check_lengths, check_numbers, is_part
from engine.importers.importer import Importer, Published, Tensors
from engine.runs.checkpoint import Checkpoint
from nets.backbones import mobilenet, resnet

# Start of the published names.
_ROOT = 'imagenet/'

# Published name -> ours, applied in order. The moving-average shadows carry their whole scope
# twice.
_RENAMES: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (r'^(?:.*/)?imagenet/', ''),
    (r'/bn-(preact|last)(\d+)/bn/', lambda m: f'/bn_{m[1]}/s{int(m[2])}/'),
    (r'/bn(\d+)/', lambda m: f'/bn/s{int(m[1])}/'),
    (r'/ActivationQuantization/', '/'),
)


def from_published(name: str) -> str | None:
    """Our name of a variable of the published code; None for what is no part of the network.

    >>> from_published('imagenet/group0/block1/bn-preact096/bn/mean/EMA')
    'group0/block1/bn_preact/s96/mean/EMA'
    """
    if not name.startswith((_ROOT, 'alpha')):
        return None
    for pattern, ours in _RENAMES:
        name = re.sub(pattern, ours, name)
    return name


def read(prefix: str, values: Mapping[str, np.ndarray]) -> Checkpoint:
    """A checkpoint that has no configuration beside it.

    Args:
        prefix: where it was read.
        values: by the names in the file.

    Raises:
        UsageError: they are no numbers of a trained network, or two are the same variable.
    """
    ours = dict(values)
    if any(name.startswith(_ROOT) for name in values):
        ours = {}
        for published, value in values.items():
            name = from_published(published)
            if name in ours:
                raise UsageError(f'{prefix}: {published} and another variable are both {name}')
            if name is not None:
                ours[name] = value
    check_lengths(prefix, ours)
    check_numbers(prefix, {name: name for name in ours if is_part(name)}, ours)
    weights, activations = _bits(ours)
    return Checkpoint(prefix, ours, None, weights, activations, _classes(ours))


def _bits(values: Mapping[str, np.ndarray]) -> tuple[int, int]:
    """Bits of the bases of weights and of activations; 32 where there are none, or several."""
    weights, activations = set(), set()
    for name, value in values.items():
        if name.endswith('/weight_quant/basis'):
            weights.add(_length(value))
        elif name.endswith('/basis'):
            activations.add(_length(value))
    return _only(weights), _only(activations)


def _length(value: np.ndarray) -> int:
    """Of the first dimension; 0 for a single number."""
    return len(value) if value.ndim else 0


def _only(bits: set[int]) -> int:
    return bits.pop() if len(bits) == 1 else 32


def _classes(values: Mapping[str, np.ndarray]) -> int:
    """Number of classes of the classifiers; 0 if there is none."""
    for name, value in values.items():
        if name.split('/')[-2:] == ['linear', 'b']:
            return _length(value)
    return 0


_IMAGENET: dict[str, Any] = {'inputs': 'normalized_rgb', 'augmentation': 'area_crop'}
_CIFAR: dict[str, Any] = {'inputs': 'cifar_rgb', 'augmentation': 'shift'}


class RSNetImporter(Importer):
    """RS-Nets of several sizes, and plain ResNets."""

    holds = 'RS-Net or SAN (normalisations bn_0, bn_1 ...)'
    tensorflow = True

    def recognizes(self, tensors: Tensors) -> bool:
        """Whether normalisations are numbered and no kernel is generated, or it is a ResNet."""
        if switchable(tensors):
            return not generated(tensors)
        return residual(tensors) and not gated(tensors)

    def fields(self, published: Published) -> dict[str, Any]:
        """Fields of ``Config``.

        Raises:
            UsageError: the sizes do not fit, or the architecture is not known.
        """
        if not switchable(published.tensors):
            return {**PYTORCH, **one_size_fields(published, _head_bias(published.tensors))}
        return {
            **switchable_fields(published),
            'kd': 'alpha' in published.tensors,
            'kd_type': 'ens_topdown',
            **published.told,
        }

    def tensorflow_fields(self, names: Sequence[str]) -> dict[str, Any]:
        """Architecture, form of the blocks and distillation of a quantized network.

        Raises:
            ValueError: no ResNet has these blocks.
        """
        # A group of one block has no normalisation before a block.
        if not any('bn_preact' in name or 'bn_last' in name for name in names):
            mode = 'resnet'
        elif any('convshortcut' in name for name in names):
            mode = 'preact'
        else:
            mode = 'preact_typeA'
        arch = resnet_of(names, r'group(\d)/block(\d+)/')
        return {'arch': arch, 'mode': mode, 'kd': 'alpha' in names}


def _head_bias(tensors: Tensors) -> np.ndarray | None:
    """[classes] of the classifier of a plain ResNet; None without one."""
    for name in ('fc.bias', 'linear.bias'):
        if name in tensors:
            return tensors[name]
    return None


def switchable(tensors: Tensors) -> bool:
    """Whether there is a normalisation for each of several sizes."""
    return any('.bn_' in name for name in tensors)


def generated(tensors: Tensors) -> bool:
    """Whether kernels are made from one number, by fully connected layers of one input."""
    for name, value in tensors.items():
        if re.search(r'\.fc\d?\.weight$', name) and value.ndim == 2 and value.shape[1] == 1:
            return True
    return False


def gated(tensors: Tensors) -> bool:
    """Whether residual blocks have gates."""
    return any('.fc1bn.' in name for name in tensors)


def residual(tensors: Tensors) -> bool:
    """Whether there is a first residual block."""
    return any(name.startswith('layer1.0.conv1.') for name in tensors)


def switchable_fields(published: Published) -> dict[str, Any]:
    """Fields of ``Config`` of a network with a normalisation for each of several sizes.

    Raises:
        UsageError: the sizes do not fit, or the architecture is not known.
    """
    sizes = _positions(published)
    stored = re.sub(r'^(parallel|meta)_', '', published.stored_arch)
    arch = published.arch or stored
    if not arch:
        known = ', '.join((*resnet.ARCHS, *mobilenet.ARCHS))
        raise UsageError(
            f'{published.path}: does not say its architecture; give --arch, one of {known}'
        )
    fields: dict[str, Any] = {
        **PYTORCH,
        'arch': arch,
        'sizes': sizes,
        'image_size': max(sizes),
    }
    for name, value in published.tensors.items():
        if re.fullmatch(r'(fc|classifier)\.module\.(weight|bias)', name):
            fields['classes'] = len(value)
    if arch.startswith('mobilenet'):
        fields['width'] = _stem_channels(published.tensors) / 32
    return fields


def _stem_channels(tensors: Tensors) -> int:
    """Output channels of the first convolution of a MobileNetV2, stored or generated (flat)."""
    for name, value in tensors.items():
        if re.fullmatch(r'features\.0\.0\.module\.weight', name):
            return value.shape[0]
        if re.fullmatch(r'features\.0\.fc\.weight', name):
            return value.shape[0] // 27
    return 32


def _positions(published: Published) -> tuple[int, ...]:
    """Input sizes by position.

    Raises:
        UsageError: the given sizes are of another number or order.
    """
    numbers = [-1]
    for name in published.tensors:
        if found := re.search(r'\.bn_(\d+)\.', name):
            numbers.append(int(found[1]))
    count = max(numbers) + 1
    sizes = published.sizes or tuple(Architecture.sizes)
    if len(sizes) != count or list(sizes) != sorted(set(sizes), reverse=True):
        raise UsageError(
            f'{published.path}: has {count} input sizes, got --sizes {" ".join(map(str, sizes))}; '
            'give them in the order they were trained in, largest first'
        )
    return sizes


def one_size_fields(published: Published, bias: np.ndarray | None) -> dict[str, Any]:
    """Fields of ``Config`` of a ResNet of one size.

    Args:
        published: the file.
        bias: [classes] of its classifier; None where it has none.

    Raises:
        UsageError: several sizes were given, or no ResNet has these blocks.
    """
    arch = published.arch
    if arch is None:
        kernel = published.tensors.get('layer1.0.conv2.weight')  # [out, in / groups, 3, 3]
        groups = 1
        if kernel is not None and kernel.ndim == 4:
            groups = len(kernel) // kernel.shape[1]
        try:
            arch = resnet_of(published.tensors, r'layer(\d+)\.(\d+)\.', groups)
        except ValueError as error:
            raise UsageError(f'{published.path}: {error}') from error
    recipe, usual = _IMAGENET, 224
    if arch in resnet.FORMS and resnet.FORMS[arch].small:
        recipe, usual = _CIFAR, 32
    sizes = published.one_size(usual)
    fields: dict[str, Any] = {
        **recipe,
        'resize': 'antialias',
        'arch': arch,
        'sizes': sizes,
        'image_size': sizes[0],
    }
    if bias is not None:
        fields['classes'] = len(bias)
    return fields


def resnet_of(names: Iterable[str], pattern: str, groups: int = 1) -> str:
    """The ResNet whose names of layers these are.

    Args:
        names: of tensors or variables.
        pattern: regular expression with the numbers of the group and of the block.
        groups: of the grouped convolutions.

    Raises:
        ValueError: no ResNet has so many blocks in its groups.
    """
    blocks, bottleneck = set(), False
    for name in names:
        if found := re.match(pattern, name):
            blocks.add((int(found[1]), int(found[2])))
        bottleneck = bottleneck or re.search(r'\bconv3\b', name) is not None
    counter = collections.Counter(group for group, _ in sorted(blocks))
    counts = tuple(counter.values())
    for arch, form in resnet.FORMS.items():
        if (form.blocks, form.bottleneck, form.groups) == (counts, bottleneck, groups):
            return arch
    raise ValueError(f'no ResNet has {" ".join(map(str, counts))} blocks')
