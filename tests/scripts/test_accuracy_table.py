"""scripts.accuracy_table: every format, side by side, published tables, and what is refused."""

import csv
import io
import json
import re
import subprocess
import sys

import pytest

from engine.errors import UsageError
from engine.files import output_file
from engine.results import formats, published, rendering
from scripts import accuracy_table
from tests.engine.results.run_folders import rs_run, score
from tests.engine.results.test_tables import WEIGHT_BYTES
from tests.paths import ROOT


@pytest.mark.parametrize(
    ('value', 'text'),
    [
        (512_000, '0.5'),
        (9_940_000, '9.9'),
        (10_400_000, '10'),
        (1_814_073_344, '1814'),
        (None, '-'),
    ],
)
def test_format_madds(value, text):
    assert rendering.format_madds(value) == text


def cells(line):
    return [cell.strip() for cell in line.strip('|').split('|')]


def test_markdown(rs_net, capsys):
    assert accuracy_table.main([str(rs_net), '--format', 'markdown']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert cells(lines[0]) == list(rendering.HEADERS)
    first = 'rs-kd 2/2 224 234 47.4_kB 66.10 86.40 65.80 86.40 +0.30 rs-quant'
    assert cells(lines[2]) == [cell.replace('_', ' ') for cell in first.split()]
    foreign = ['192 (BN 224)', '172', '47.4 kB', '60.25', '80.00']
    assert cells(lines[4])[2:] == [*foreign, '-', '-', '-', '-']
    assert lines[-1].startswith('- rs-quant: Wang et al.')


def test_part_of_the_images_is_said(tmp_path, capsys):
    run = rs_run(tmp_path / 'run', [score('s224', 60.0, images=128)])
    assert accuracy_table.main([str(run)]) == 0
    assert 'run, 224: measured on 128 of 50000 images' in capsys.readouterr().out


def test_latex(rs_net, capsys):
    assert accuracy_table.main([str(rs_net), '--format', 'latex']) == 0
    out = capsys.readouterr().out
    assert out.startswith('\\begin{tabular}') and '\\toprule' in out
    assert ' 66.10 ' in out and '\n% rs-quant: Wang' in out


def test_csv(rs_net, capsys):
    assert accuracy_table.main([str(rs_net), '--format', 'csv']) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert tuple(rows[0]) == rendering.FIELDS
    assert (rows[0]['madds'], rows[0]['difference']) == ('233619456', '0.3')
    assert (rows[2]['bn'], rows[2]['source']) == ('s224', '')


def test_json_to_file(rs_net, tmp_path):
    output = tmp_path / 'table.json'
    output.write_text('old')
    assert accuracy_table.main([str(rs_net), '--format', 'json', '--output', str(output)]) == 0
    data = json.loads(output.read_text())
    assert data['rows'][1]['published_top1'] == 64.8
    assert data['rows'][1]['weight_bytes'] == WEIGHT_BYTES
    assert list(data['sources']) == ['rs-quant'] and 'compare' not in data
    assert not list(tmp_path.glob('.*tmp'))


def test_side_by_side(rs_net, tmp_path, capsys):
    folders = []
    for size, top1 in ((192, 63.0), (224, 65.0)):
        folders.append(
            str(rs_run(tmp_path / f'one{size}', [score(f's{size}', top1)], sizes=[size]))
        )
    folders.append(str(rs_net))
    assert accuracy_table.main([*folders, '--format', 'markdown']) == 0
    blocks = capsys.readouterr().out.split('\n\n')
    assert [cells(line) for line in blocks[0].splitlines() if '---' not in line] == [
        ['Size', 'individual resnet18 (2/2)', 'rs-kd (2/2)'],
        ['224', '65.00', '66.10'],
        ['192', '63.00', '64.50'],
        ['192 (BN 224)', '-', '60.25'],
        ['ensemble', '-', '67.00'],
    ]
    assert len(blocks[1].splitlines()) == 2 + 6
    assert accuracy_table.main([*folders, '--format', 'csv', '--compare']) == 0
    assert capsys.readouterr().out.splitlines()[1] == '224,65.0,66.1'
    assert accuracy_table.main([*folders, '--no-compare']) == 0
    assert 'individual resnet18' not in capsys.readouterr().out


def test_published(capsys):
    assert accuracy_table.main(['--published', 'ds-net', '--format', 'markdown']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith('**DS-Net: ') and cells(lines[2])[2] == 'Point'
    assert cells(lines[4]) == ['mobilenetv1', '32/32', 'w00', '133', '70.10', '89.40', 'ds-net']
    assert accuracy_table.main(['--published', 'nothing']) == 2
    known = capsys.readouterr().err
    for system in ('DS-Net', 'LQ-Nets', 'LSQ', 'MSDNet', 'N2UQ', 'RS-Nets', 'SAN', 'APoT'):
        assert re.search(f'[ ,]{system}[,\n]', known)


def test_published_quantizers_side_by_side(capsys):
    """By network, with bits in columns, what is float, and who teaches."""
    flags = ['--published', '--compare', 'quantizers', '--format', 'markdown']
    assert accuracy_table.main(flags) == 0
    text = capsys.readouterr().out
    blocks = dict(re.findall(r'(?s)\*\*(\w+), top-1 at 224\*\*\n\n(.*?)\n\n', text))
    assert list(blocks) == ['resnet18', 'resnet50', 'mobilenetv2', 'resnet34', 'alexnet']
    header, _, *lines = blocks['resnet18'].splitlines()
    found = {}
    for line in lines:
        row = dict(zip(cells(header), cells(line)))
        found[row['source']] = row
    assert cells(header)[2:6] == ['W1A1', 'W1A2', 'W2A2', 'W3A2']
    wanted = {
        'n2uq': ('n2uq', '-', '69.40', 'float', 'float', 'quantized', 'ResNet-101'),
        'pact': ('dorefa, pact', '-', '64.40', 'float', 'float', '?', '?'),
        'lsq': ('lsq', '-', '67.60', '8 bits', '8 bits', '?', 'none'),
        'reactnet': ('reactnet', '65.90', '-', 'float', 'float', 'float', 'ResNet-34'),
        'rs-quant': ('lq', '-', '65.80', 'float', 'float', 'quantized', 'its own ensemble'),
    }
    names = ('Quantizer', 'W1A1', 'W2A2', 'stem', 'head', 'shortcuts', 'teacher')
    for table, expected in wanted.items():
        assert tuple(found[table][name] for name in names) == expected
    for table in found:
        assert f'\n- {table}: ' in text
    low = [row for row in published.rows() if row.point == 's224' and min(row.qw, row.qa) < 32]
    numbers = re.findall(r'(?m)\d\d\.\d\d(?= +\|)', text)
    assert len(numbers) == len(low)


@pytest.mark.parametrize('style', ['csv', 'json'])
def test_published_quantizers_as_data(style, capsys):
    flags = ['--published', 'lsq', '--compare', 'quantizers', '--format', style]
    assert accuracy_table.main(flags) == 0
    text = capsys.readouterr().out
    rows = list(csv.DictReader(io.StringIO(text)))
    if style == 'json':
        rows = json.loads(text)['rows']
    assert {row['system'].partition(',')[0] for row in rows} == {'LSQ'}
    assert {row['table'] for row in rows} > {'lsq', 'lsq-cls'}


@pytest.mark.parametrize('style', ['text', 'markdown', 'latex'])
def test_published_quantizers_of_one_system(style, capsys):
    flags = ['--published', 'pact', '--compare', 'quantizers', '--format', style]
    assert accuracy_table.main(flags) == 0
    text = capsys.readouterr().out
    assert '64.40' in text and '67.60' not in text


@pytest.mark.parametrize(
    'flags, part',
    [
        (['--published', '--compare'], 'give --compare quantizers'),
        (['--published', '--compare', 'runs'], 'give --compare quantizers'),
        (['--published', 'quantizers'], 'no published table'),
        (['--published', 'SAN', '--compare', 'quantizers'], 'no published quantizer; known are RS'),
    ],
)
def test_published_comparisons_that_are_none(flags, part, capsys):
    try:
        status = accuracy_table.main(flags)
    except SystemExit as end:
        status = end.code
    assert status == 2 and part in capsys.readouterr().err


@pytest.mark.parametrize('style', formats.FORMATS)
def test_all_published(style, capsys):
    """Every number of every table and, but for csv, every source; what has no table is said."""
    assert accuracy_table.main(['--published', '--format', style]) == 0
    text = capsys.readouterr().out
    if style == 'json':
        found = json.loads(text)['rows']
    elif style == 'csv':
        found = list(csv.DictReader(io.StringIO(text)))
    else:
        found = re.findall(r'(?m)^(?:\| | |)\w.* (32|\d)/(32|\d) +[|&\w]', text)
    assert len(found) == len(published.rows())
    if style in ('json', 'csv'):
        tables = {row['table'] for row in found if row['quantizer'] == 'lsq'}
        assert all(re.match('lsq(-|$)', table) for table in tables) and 'lsq' in tables
    if style != 'csv':
        assert 'ConvNet-AIG: the README has no accuracies' in text and 'MSDNet-PyTorch #10' in text


def test_missing_run_records_and_output_folder(rs_net, tmp_path, capsys):
    assert accuracy_table.main([str(tmp_path / 'none')]) == 2
    assert f'{tmp_path / "none"}: no such run folder' in capsys.readouterr().err
    empty = rs_run(tmp_path / 'empty', [])
    assert accuracy_table.main([str(empty)]) == 2
    assert f'imagenet_tf.py --eval -ec {empty}' in capsys.readouterr().err
    assert accuracy_table.main([str(rs_net), '--output', str(tmp_path / 'no' / 'x.md')]) == 2
    assert 'no folder' in capsys.readouterr().err


def test_failed_write_leaves_the_old_file(tmp_path):
    output = tmp_path / 'x.md'
    output.write_text('old')
    with pytest.raises(UsageError), output_file(str(output)) as temporary:
        temporary.write_text('half')
        raise UsageError('stop')
    assert output.read_text() == 'old' and list(tmp_path.iterdir()) == [output]


def test_arguments():
    with pytest.raises(SystemExit) as stop:
        accuracy_table.main([])
    assert stop.value.code == 2


LIGHT = ['accuracy_table', 'plot', 'choose', 'thresholds', 'report', 'runs', 'summary']
# What each script loads of other projects, one after the other in one process.
EACH = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(f'scripts.{name}')
    loaded = {module.split('.')[0] for module in sys.modules}
    assert not loaded & {'tensorflow', 'matplotlib'}, name
"""


def test_imports_no_tensorflow():
    subprocess.run([sys.executable, '-c', EACH, *LIGHT], cwd=ROOT, check=True)
