"""Fixtures as stored: reading them, and the verdict on one of them.

The rules that fill tensors and draw inputs are here too.
"""

import dataclasses
import json
import math
import os
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import UsageError

_RANDINT = re.compile(
    r'RandomState\((\d+)\)\.randint\((\d+), ?(\d+), ?\(([\d, ]+)\)\)\.astype\((\w+)\)'
)


@dataclasses.dataclass(frozen=True)
class Fixture:
    """One stored fixture.

    Attributes:
        path: The file that was named.
        data: Contents of NAME.json; empty for a bare NAME.npz.
        arrays: Contents of NAME.npz; empty where there is none.
    """

    path: Path
    data: dict[str, Any]
    arrays: Mapping[str, np.ndarray]

    @property
    def name(self) -> str:
        return self.path.stem

    def tensors(self) -> list[dict[str, Any]]:
        """Rows with name, shape and distribution; follows a reference such as "as OTHER.json"."""
        rows = self.data['tensors']
        if not isinstance(rows, str):
            return rows
        other = re.search(r'[\w.-]+\.json', rows)
        if other is None:
            raise ValueError(f'tensors are neither listed nor found in another fixture: {rows!r}')
        return load(self.path.parent / other[0]).tensors()


def load(path: str | os.PathLike[str]) -> Fixture:
    """Reads a fixture.

    Args:
        path: NAME.json, whose arrays are in NAME.npz beside it, or a bare NAME.npz.

    Raises:
        UsageError: a file is missing or no fixture.
    """
    path = Path(path)
    if path.suffix not in ('.json', '.npz'):
        raise UsageError(f'{path}: expected NAME.json or NAME.npz')
    if not path.is_file():
        raise UsageError(f'{path}: no such file')
    texts, arrays = path.with_suffix('.json'), path.with_suffix('.npz')
    try:
        data = json.loads(texts.read_text()) if texts.is_file() else {}
    except ValueError as error:
        raise UsageError(f'{texts}: not JSON: {error}') from error
    if not arrays.is_file() and ('outputs' in data or 'keys' in data):
        raise UsageError(f'{arrays}: no such file; {texts.name} describes its arrays')
    return Fixture(path, data, dict(np.load(arrays)) if arrays.is_file() else {})


def fill(tensor: Mapping[str, Any]) -> np.ndarray:
    """The float32 value of a tensor, which its name, shape and distribution determine."""
    random = np.random.RandomState(zlib.crc32(tensor['name'].encode('utf-8')) & 0xFFFFFFFF)
    a, b = np.asarray(tensor['a'], 'float64'), np.asarray(tensor['b'], 'float64')
    if tensor['dist'] == 'normal':
        x = a + b * random.standard_normal(tensor['shape'])
    elif tensor['dist'] == 'uniform':
        x = random.uniform(a, b, tensor['shape'])
    else:
        raise ValueError(f'tensor {tensor["name"]}: distribution {tensor["dist"]!r} is unknown')
    return np.asarray(x).astype('float32')


def draw(spec: Mapping[str, Any]) -> np.ndarray:
    """An input by its rule: bytes of one image per seed, a spelled-out ``randint``, or a standard
    normal from one seed.
    """
    if 'seeds' in spec:
        one = (1, *spec['shape'][1:])
        images = [np.random.RandomState(seed).randint(0, 256, one) for seed in spec['seeds']]
        return np.concatenate(images).astype('uint8')
    spelled = _RANDINT.search(spec.get('rule', ''))
    if spelled:
        seed, low, high, shape, dtype = spelled.groups()
        size = [int(n) for n in shape.split(',') if n.strip()]
        return np.random.RandomState(int(seed)).randint(int(low), int(high), size).astype(dtype)
    if 'seed' in spec:
        return np.random.RandomState(spec['seed']).standard_normal(spec['shape']).astype('float32')
    raise ValueError(f'no rule to draw the input {spec!r}')


@dataclasses.dataclass(frozen=True)
class Check:
    """One comparison.

    Attributes:
        what: What was compared.
        error: Relative error; not finite if ours is not, infinite if the shapes differ.
        limit: Largest error that passes.
        sharp: Whether the error counts in the line; a loose check only has to pass.
    """

    what: str
    error: float
    limit: float
    sharp: bool = True

    @property
    def passed(self) -> bool:
        return self.error <= self.limit


def compare(
    what: str, ours: np.ndarray, theirs: np.ndarray, limit: float, *, scale: float | None = None
) -> Check:
    """Largest absolute difference over ``scale``.

    That is by default the largest magnitude of theirs (1 if it is 0).
    """
    ours, theirs = np.asarray(ours, 'float64'), np.asarray(theirs, 'float64')
    if ours.shape != theirs.shape:
        return Check(f'{what} {list(ours.shape)} against {list(theirs.shape)}', math.inf, limit)
    scale = scale or float(np.abs(theirs).max(initial=0)) or 1.0
    return Check(what, float(np.abs(ours - theirs).max(initial=0)) / scale, limit)


@dataclasses.dataclass
class Result:
    """The verdict on one fixture.

    Attributes:
        name: Name of the fixture.
        against: What the errors are measured against.
        checks: All comparisons; there must be one, and all must pass.
        problems: What is wrong beside them, such as missing variables.
        remark: What a reader should know beside the verdict.
    """

    name: str
    against: str = ''
    checks: list[Check] = dataclasses.field(default_factory=list)
    problems: list[str] = dataclasses.field(default_factory=list)
    remark: str = ''

    @property
    def passed(self) -> bool:
        return (
            bool(self.checks) and not self.problems and all(check.passed for check in self.checks)
        )

    def line(self) -> str:
        """Name, largest relative error, its scale, verdict; then reasons and remark."""
        errors = [check.error for check in self.checks if check.sharp]
        worst = f'{np.max(errors):.1e} of {self.against}' if errors else 'not measured'
        reasons = self.problems + [
            f'{check.what}: {check.error:.2e}, limit {check.limit:.0e}'
            for check in sorted(self.checks, key=lambda c: -c.error)
            if not check.passed
        ]
        shown = reasons[:3] + ([f'{len(reasons) - 3} more'] if len(reasons) > 3 else [])
        notes = '; '.join(filter(None, [*shown, self.remark]))
        return f'{self.name:<26} {worst:<34} {"pass" if self.passed else "FAIL"}' + (
            f'  ({notes})' if notes else ''
        )
