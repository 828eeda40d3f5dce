"""Cost from layer records: published multiply-adds, memory by hand, plain data."""

import dataclasses
import json
import subprocess
import sys

import pytest

import nets
from engine.schema import checked
from nets import cost
from nets.cost import LayerRecord
from tests.conftest import bare_blocks

MADDS = {224: 1814073344, 192: 1332924416, 160: 925798400, 128: 592695296, 96: 333615104}
NET = [
    LayerRecord('conv0', 'stem', (3, 3, 3, 4), (8, 8)),
    LayerRecord('conv1', 'body', (3, 3, 4, 5), (4, 4), weight_bits=2, basis=10),
    LayerRecord('depth', 'depthwise', (3, 3, 1, 5), (4, 4), weight_bits=1, basis=5),
    LayerRecord('linear', 'head', (1, 1, 5, 3), (1, 1), bias=3),
]


@pytest.mark.parametrize('mode', ['resnet', 'preact', 'pytorch'])
def test_madds_of_resnet18(mode):
    from quant.backend import new_graph, tf

    net = nets.create('rsnet', arch='resnet18', mode=mode, sizes=list(MADDS), classes=1000)
    blocks = bare_blocks(net.points)
    with new_graph():
        net.outputs({size: tf.zeros([1, size, size, 3]) for size in MADDS}, blocks)
    counted = {point: cost.madds(layers) for point, layers in blocks.layers.items()}
    assert counted == {f's{size}': madds for size, madds in MADDS.items()}


def test_madds_by_hand():
    assert [layer.madds for layer in NET] == [108 * 64, 180 * 16, 45 * 16, 15]
    assert cost.madds(NET) == 6912 + 2880 + 720 + 15


def test_weight_bytes_by_hand():
    assert [layer.memory_bits for layer in NET] == [108 * 32, 180 * 2 + 320, 45 + 160, 15 * 32 + 96]
    assert cost.weight_bytes(NET) == 615  # 4917 bits; the last byte is begun
    assert cost.weight_bytes([]) == cost.madds([]) == 0


def test_bit_operations_and_activations_by_hand():
    net = [
        dataclasses.replace(NET[0], inputs=192),
        dataclasses.replace(NET[1], activation_bits=3, inputs=256),
        NET[3],
    ]
    assert cost.bit_ops(net) == 6912 * 32 * 32 + 2880 * 2 * 3 + 15 * 32 * 32
    assert cost.activation_bytes(net) == 4 * (192 + 8 * 8 * 4)
    assert cost.activation_bytes([]) == 0
    assert cost.parameters(net) == 108 + 180 + 15 + 3


def test_generated_kernels_cost_an_image_what_stored_ones_do():
    generated = [dataclasses.replace(layer, generated=True) for layer in NET[:2]]
    assert cost.madds(generated) == cost.madds(NET[:2])
    assert cost.weight_bytes(generated) == cost.weight_bytes(NET[:2])


def test_records_survive_json():
    layers = {'s28': NET, 's20': [dataclasses.replace(NET[0], generated=True)]}
    plain = json.loads(json.dumps(cost.to_json(layers)))
    assert checked(plain, dict[str, list[cost.LayerRecord]]) == layers


def test_records_without_tensorflow():
    program = 'import sys, nets.cost\nprint(sorted({"tensorflow", "numpy"} & set(sys.modules)))'
    assert subprocess.check_output([sys.executable, '-c', program]) == b'[]\n'
