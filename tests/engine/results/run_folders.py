"""Run folders made by hand, for tests of what reads them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nets import cost
from nets.cost import LayerRecord

# A W2A2 RS-Net on ImageNet, as runs before datasets were recorded.
RS_NET: dict[str, Any] = {
    'net': 'rsnet',
    'mode': 'preact',
    'arch': 'resnet18',
    'width': 1.0,
    'qw': 2,
    'qa': 2,
    'sizes': [224, 192],
    'kd': True,
    'kd_type': 'ens_topdown',
    'data': '/data/imagenet',
    'classes': 1000,
    'preset': None,
}
FLOAT = {'qw': 32, 'qa': 32, 'mode': 'pytorch'}

# Top-1 of a made-up run, and as RS-Nets published it (ResNet-18, W2A2).
ACCURACY = {224: (66.1, 65.8), 160: (63.2, 62.9), 96: (52.0, 52.5)}

# Multiply-adds of the two exits of the fixture ``exits``.
FIRST_EXIT, SECOND_EXIT = 1_234_564, 2_345_679


def layer(name: str, madds: int, **options: Any) -> LayerRecord:
    """A layer of one weight: its multiply-adds are the size of its output."""
    return LayerRecord(name, 'body', (1, 1, 1, 1), (madds, 1), **options)


def score(point: str, top1: float, top5: float = 85.0, **more: Any) -> dict[str, Any]:
    """An evaluation record."""
    return {'point': point, 'bn': point, 'top1': top1, 'top5': top5, 'images': 50000, **more}


def write_run(
    folder: Path,
    config: Mapping[str, Any],
    layers: Mapping[str, Sequence[LayerRecord]],
    scores: Sequence[Mapping[str, Any]],
    times: Mapping[str, float] | None = None,
) -> Path:
    """Writes a run folder.

    Args:
        folder: To make.
        config: Fields of ``config.json``.
        layers: Layer records by operating point.
        scores: Evaluation records.
        times: Milliseconds by operating point, as ``scripts.profile`` measures them.
    """
    (folder / 'eval').mkdir(parents=True)
    (folder / 'config.json').write_text(json.dumps(config))
    (folder / 'layers.json').write_text(json.dumps(cost.to_json(layers)))
    (folder / 'model-5.index').write_text('')
    for record in scores:
        own = record['bn'] == record['point']
        name = record['point'] if own else f'{record["point"]}@{record["bn"]}'
        (folder / 'eval' / f'{name}.json').write_text(json.dumps(record))
    if times:
        points = {point: {'batch1_ms': ms} for point, ms in times.items()}
        (folder / 'profile.json').write_text(json.dumps({'points': points}))
    return folder


def rs_layers(size: int) -> list[LayerRecord]:
    """A float stem and a 2-bit layer of a ResNet at an input size in pixels."""
    half, quarter = size // 2, size // 4
    stem = LayerRecord('conv0', 'stem', (7, 7, 3, 64), (half, half))
    body = LayerRecord(
        'conv1', 'body', (3, 3, 64, 64), (quarter, quarter), weight_bits=2, basis=128
    )
    return [stem, body]


def rs_run(folder: Path, scores: Sequence[Mapping[str, Any]], **changes: Any) -> Path:
    """An RS-Net; ``changes`` are of its configuration."""
    config = {**RS_NET, **changes}
    layers = {f's{size}': rs_layers(size) for size in config['sizes']}
    return write_run(folder, config, layers, scores)


def plotted_run(
    folder: Path, more: Sequence[Mapping[str, Any]] = (), data: str = '/data/imagenet'
) -> Path:
    """An RS-Net of one layer with the accuracies of ``ACCURACY``; ``more`` are further scores."""
    layers = {}
    scores = []
    for size, (own, _) in ACCURACY.items():
        quarter = size // 4
        layers[f's{size}'] = [LayerRecord('conv', 'body', (3, 3, 64, 64), (quarter, quarter))]
        scores.append(score(f's{size}', own))
    config = {**RS_NET, 'sizes': list(ACCURACY), 'data': data}
    return write_run(folder, config, layers, [*scores, *more])
