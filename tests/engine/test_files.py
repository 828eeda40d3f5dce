"""Records in JSON: what is read, and how what cannot be read is refused."""

import pytest

from engine.errors import UsageError
from engine.files import read_json, read_record
from engine.runs.folder import merge_layers
from nets.cost import LayerRecord

LAYER = LayerRecord('conv', 'body', (1, 1, 1, 1), (1, 1))


def test_a_record_is_read(tmp_path):
    (tmp_path / 'x.json').write_text('{"top1": 1.5}')
    assert read_record(tmp_path / 'x.json', '') == {'top1': 1.5}


@pytest.mark.parametrize(
    ('text', 'message'),
    [(None, 'cannot be read'), ('{', 'damaged'), ('[1]', 'a JSON object expected')],
)
def test_what_is_no_record(text, message, tmp_path):
    path = tmp_path / 'x.json'
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError) as error:
        read_record(path, 'make it again')
    assert str(error.value).startswith(f'{path}: ')
    assert str(error.value).endswith('; make it again')
    assert message in str(error.value)


def test_any_value_is_read(tmp_path):
    (tmp_path / 'x.json').write_text('[1, 2]')
    assert read_json(tmp_path / 'x.json', '') == [1, 2]


def test_damaged_layer_records_are_refused(tmp_path):
    merge_layers(tmp_path, {'s28': [LAYER]})
    merge_layers(tmp_path, {'s20': [LAYER]})
    assert list(read_record(tmp_path / 'layers.json', '')) == ['s28', 's20']
    (tmp_path / 'layers.json').write_text('{"s28": ')
    with pytest.raises(UsageError, match='layers.json: damaged'):
        merge_layers(tmp_path, {'s20': [LAYER]})
