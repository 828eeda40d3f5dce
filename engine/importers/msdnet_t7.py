"""The original MSDNet (Torch7): its modules by the names of the PyTorch code."""

from collections.abc import Iterator
from pathlib import Path
from pickle import UnpicklingError

import numpy as np

from engine.errors import UsageError
from engine.importers.t7_file import ROOM, Instance, read_t7
from engine.pickles.budget import Budget

# Bytes that a module without numbers counts as.
_MODULE = 400

_LEAVES = ('weight', 'bias', 'running_mean', 'running_var')


def read_original(path: str) -> dict[str, np.ndarray]:
    """The tensors of a ``model.t7`` by PyTorch names, float32.

    Raises:
        UsageError: it cannot be read, or is no MSDNet.
    """
    tree = read_t7(Path(path))
    tensors = {}
    # Tables can share their parts: a few of them spell any number of modules.
    budget = Budget(2 * Path(path).stat().st_size + ROOM, 'its modules are repeated too often')
    try:
        for name, module in _modules(tree):
            budget.charge(_MODULE)
            for leaf, value in _variables(module).items():
                budget.charge(value.nbytes)
                tensors[f'{name}.{leaf}'] = value
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
        UnpicklingError,
    ) as error:
        raise UsageError(
            f'{path}: holds no MSDNet ({type(error).__name__}: {error}); give model.t7 or '
            'model_best.t7, not latest.t7 or optimState.t7'
        ) from error
    return tensors


def _items(module: Instance) -> list[Instance]:
    """Modules of a container in order."""
    table = module.fields['modules']
    return [table[k] for k in range(1, len(table) + 1)]


def _modules(tree: Instance) -> Iterator[tuple[str, Instance]]:
    """Modules with their PyTorch names; those without variables among them.

    The first half are blocks, then heads.
    """
    joint = tree if tree.name == 'nn.JointTrainModule' else _items(tree)[0]
    parts = _items(joint)
    half = len(parts) // 2
    for b, (block, head) in enumerate(zip(parts[:half], parts[half:], strict=True)):
        for j, item in enumerate(_items(block)):
            yield from _layer(f'blocks.{b}.{j}', item)
        *convs, linear = _items(head)
        for i, module in enumerate(convs):
            yield f'classifier.{b}.m.{i // 3}.net.{i % 3}', module
        yield f'classifier.{b}.linear', linear


def _layer(name: str, item: Instance) -> Iterator[tuple[str, Instance]]:
    """Modules of the stem, of a layer or of a transition."""
    for scale, part in enumerate(_items(item)):
        if item.name == 'nn.MSDNet_Layer_first':
            plain = scale == 0 and _items(part)[0].fields['kW'] == 7
            suffix = '' if plain else '.net'
            yield from _sequence(f'{name}.layers.{scale}{suffix}', part)
        elif item.name == 'nn.MSDNet_Layer':
            _, *branches = _items(_items(part)[0])
            kinds = ('down', 'normal')[-len(branches) :]
            for kind, branch in zip(kinds, branches, strict=True):
                yield from _sequence(f'{name}.layers.{scale}.conv_{kind}.net', branch)
        else:
            yield from _sequence(f'{name}.m.{scale}.net', part)


def _sequence(name: str, sequence: Instance) -> Iterator[tuple[str, Instance]]:
    for i, module in enumerate(_items(sequence)):
        yield f'{name}.{i}', module


def _variables(module: Instance) -> dict[str, np.ndarray]:
    """Variables of a module.

    Old normalisations store the inverse deviation; old kernels are flat.
    """
    fields = module.fields
    found = {leaf: fields.get(leaf) for leaf in _LEAVES}
    if fields.get('running_std') is not None:
        eps = fields.get('eps', 1e-5)
        variance = fields['running_std'].astype(np.float64) ** -2 - eps
        # What float32 has lost of a variance of zero.
        found['running_var'] = np.where(abs(variance) < 1e-6 * eps, 0, variance)
    variables = {}
    for leaf, value in found.items():
        if value is None or not value.size:
            continue
        shape = value.shape
        if leaf == 'weight' and value.ndim == 2 and 'kW' in fields:
            shape = (len(value), -1, fields['kH'], fields['kW'])
        variables[leaf] = value.reshape(shape).astype(np.float32, copy=False)
    return variables
