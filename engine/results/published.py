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
from engine.results.records import FLOAT_BITS, Quantization, dataset_of, quantization_of
from quant import quantizer

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
        stem_bits: Bits of the weights of the first layer.
        head_bits: Bits of the classifier.
        arch: Architecture, as ``--arch`` takes it.
        qw: Bits of weights.
        qa: Bits of activations.
        point: Operating point.
        top1: Percent.
        top5: Percent; None where the source prints none.
        madds: Multiply-adds of one image; None where the source prints none.
    """

    table: str
    system: str
    title: str
    source: str
    dataset: str
    quantizer: str
    stem_bits: int
    head_bits: int
    arch: str
    qw: int
    qa: int
    point: str
    top1: float
    top5: float | None
    madds: int | None

    @property
    def quantization(self) -> Quantization:
        """Quantizers and bits, to compare with those of a run."""
        weight = self.quantizer if self.qw != FLOAT_BITS else quantizer.FLOAT
        activation = self.quantizer if self.qa != FLOAT_BITS else quantizer.FLOAT
        return Quantization(weight, activation, self.qw, self.qa, self.stem_bits, self.head_bits)


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
