"""Published numbers, and which of them a run is compared with. Pure Python.

A row of ``resources/published.json`` is about one network, data set, quantization and operating
point; a run whose records say the same stands beside it, and no other.
"""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine import families
from engine.files import read_json
from engine.results.records import Quantization, dataset_of, quantization_of
from quant import specs
from quant.quantizer import FLOAT_BITS

FILE = Path(__file__).parents[1] / 'resources' / 'published.json'


@dataclasses.dataclass(frozen=True)
class Published:
    """One row of a published table.

    Attributes:
        table: Short name of the table.
        system: What the authors call their method.
        title: What the table shows.
        source: Paper, and where the numbers stand.
        dataset: What the numbers were measured on, as runs record it.
        quantizer: Of weights and activations of fewer than 32 bits.
        stem_bits: Bits of the weights of the first layer; None where the source does not say.
        head_bits: Bits of the classifier; None where the source does not say.
        arch: Architecture, as ``--arch`` takes it if we have it.
        qw: Bits of weights.
        qa: Bits of activations.
        point: Operating point.
        top1: Percent.
        top5: Percent; None where the source prints none.
        madds: Multiply-adds of one image; None where the source prints none.
        weight_quantizer: Of weights, where it is another.
        shortcuts: Whether convolutions of shortcuts are ``float`` or ``quantized``; empty where the
            source does not say.
        teacher: What it learned from beside labels, or in their place; ``none``; empty where the
            source does not say.
    """

    table: str
    system: str
    title: str
    source: str
    dataset: str
    quantizer: str
    stem_bits: int | None
    head_bits: int | None
    arch: str
    qw: int
    qa: int
    point: str
    top1: float
    top5: float | None
    madds: int | None
    weight_quantizer: str = ''
    shortcuts: str = ''
    teacher: str = ''

    @property
    def quantizers(self) -> tuple[str, str]:
        """Names of the quantizers of weights and of activations."""
        weight = activation = specs.FLOAT
        if self.qw != FLOAT_BITS:
            weight = self.weight_quantizer or self.quantizer
        if self.qa != FLOAT_BITS:
            activation = self.quantizer
        return weight, activation

    @property
    def quantization(self) -> Quantization | None:
        """Quantizers and bits, to compare with those of a run; None where some are not said."""
        if self.stem_bits is None or self.head_bits is None:
            return None
        return Quantization(*self.quantizers, self.qw, self.qa, self.stem_bits, self.head_bits)


@functools.cache
def _content() -> dict[str, Any]:
    return read_json(FILE, dict[str, Any], 'install the package again')


def notes() -> list[str]:
    """Sentences about all the tables."""
    return _content()['notes']


@functools.cache
def rows() -> tuple[Published, ...]:
    """All published rows, table by table."""
    found = []
    for table in _content()['tables']:
        about = {key: value for key, value in table.items() if key not in ('id', 'rows')}
        found += [Published(table=table['id'], **about, **row) for row in table['rows']]
    return tuple(found)


def find(config: Mapping[str, Any], dataset: str, point: str) -> Published | None:
    """The published row about the same network, data set, quantization and operating point.

    Args:
        config: Fields of the ``config.json`` of a run.
        dataset: Name of the data set that the run was evaluated on.
        point: Operating point, with normalisation statistics of its own.
    """
    if dataset != dataset_of(config) or config.get('width') not in (None, 1):
        return None
    arch, tables = families.get(config['net']).published(config)
    wanted = (arch, dataset, quantization_of(config), point)
    for row in rows():
        about = (row.arch, row.dataset, row.quantization, row.point)
        if row.table in tables and about == wanted:
            return row
    return None
