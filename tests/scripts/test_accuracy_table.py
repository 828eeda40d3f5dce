"""scripts.accuracy_table and engine.results.tables over run folders built by hand."""

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.errors import UsageError
from engine.results import tables as records
from nets import cost
from scripts import accuracy_table
from tests.paths import ROOT

CONFIG = {
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
MADDS = {
    's224': 233_619_456,
    's192': 171_638_784,
}  # 9408*112^2 + 36864*56^2; 9408*96^2 + 36864*48^2
WEIGHT_BYTES = 47_360  # 9408*4 + (36864*2 bits + 128*32 bits)/8


def layers_at(size: int) -> list[cost.LayerRecord]:
    return [
        cost.LayerRecord('conv0', 'stem', (7, 7, 3, 64), (size // 2, size // 2)),
        cost.LayerRecord(
            'conv1', 'body', (3, 3, 64, 64), (size // 4, size // 4), weight_bits=2, basis=128
        ),
    ]


def record(point: str, top1: float, top5: float, **more: Any) -> dict[str, Any]:
    return {
        'point': point,
        'bn': point,
        'top1': top1,
        'top5': top5,
        'images': 50000,
        'seconds': 1.0,
        'data': '/data/imagenet',
        'checkpoint': 'model-1',
        **more,
    }


def make_run(folder: Path, evals: list[dict[str, Any]], **changes: Any) -> Path:
    config = {**CONFIG, **changes}
    (folder / 'eval').mkdir(parents=True)
    (folder / 'config.json').write_text(json.dumps(config))
    layers = {f's{size}': layers_at(size) for size in config['sizes']}
    (folder / 'layers.json').write_text(json.dumps(cost.to_json(layers)))
    for row in evals:
        name = row['point'] if row['bn'] == row['point'] else f'{row["point"]}@{row["bn"]}'
        (folder / 'eval' / f'{name}.json').write_text(json.dumps(row))
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    evals = [
        record('s192', 64.5, 85.9),
        record('s224', 66.1, 86.4),
        record('s192', 60.25, 80.0, bn='s224'),
        record('ensemble', 67.0, 87.0),
    ]
    return make_run(tmp_path / 'rs-kd', evals)


def first_row(folder: Path) -> records.Row:
    return records.read_run(folder, 'run').rows[0]


# Transcribed from the sources by hand: table, arch, W, A, point, top-1, top-5, MAdds.
SPOT_CHECKS = [
    ('rs-float', 'resnet18', 32, 32, 's224', 73.1, 91.0, None),
    ('rs-float', 'resnet50', 32, 32, 's128', 76.3, 93.0, None),
    ('rs-float', 'mobilenetv2', 32, 32, 's96', 63.9, 84.9, None),
    ('rs-quant', 'resnet18', 2, 32, 's224', 68.8, 88.4, None),
    ('rs-quant', 'resnet50', 2, 32, 's160', 73.8, 91.6, None),
    ('rs-quant', 'resnet18', 2, 2, 's96', 52.5, 76.7, None),
    ('rs-quant', 'resnet50', 2, 2, 's192', 73.1, 91.0, None),
    ('san-individual', 'resnet18', 32, 32, 's224', 70.974, None, None),
    ('san-individual', 'resnet50', 32, 32, 's96', 70.61, None, None),
    ('san-mobilenetv2', 'mobilenetv2', 32, 32, 's224', 72.86, None, 300_000_000),
    ('san-mobilenetv2', 'mobilenetv2', 32, 32, 's208', 72.42, None, 270_000_000),
    ('san-mobilenetv2', 'mobilenetv2', 32, 32, 's96', 65.07, None, 56_000_000),
    ('lq-nets', 'resnet18', 2, 32, 's224', 68.0, 88.0, None),
    ('lq-nets', 'resnet18', 2, 2, 's224', 64.9, 85.9, None),
    ('lq-nets', 'resnet50', 2, 32, 's224', 75.1, 92.3, None),
    ('lq-nets', 'resnet50', 2, 2, 's224', 71.5, 90.3, None),
    ('lq-nets', 'resnet18', 1, 2, 's224', 62.6, None, None),
    ('lq-nets', 'resnet50', 4, 4, 's224', 75.1, 92.4, None),
    ('lsq', 'resnet18', 2, 2, 's224', 67.6, 87.6, None),
    ('lsq', 'resnet34', 3, 3, 's224', 73.4, None, None),
    ('n2uq', 'resnet18', 4, 4, 's224', 72.9, 90.9, None),
    ('n2uq', 'resnet50', 2, 2, 's224', 75.8, None, None),
    ('msdnet-port', 'msdnet5x7', 32, 32, 's224-x0', 62.896, 84.706, 615_693_000),
    ('msdnet-port', 'msdnet5x7', 32, 32, 's224-x4', 74.592, 92.066, 3_253_794_000),
    ('ds-net', 'mobilenetv1', 32, 32, 'w00', 70.1, 89.4, 133_000_000),
    ('ds-net', 'mobilenetv1', 32, 32, 'w07', 72.7, 91.0, 319_000_000),
    ('ds-net', 'mobilenetv1', 32, 32, 'w13', 74.6, 92.0, 565_000_000),
]


@pytest.mark.parametrize('expected', SPOT_CHECKS)
def test_published_values(expected: tuple[Any, ...]) -> None:
    found = [
        (r.table, r.arch, r.qw, r.qa, r.point, r.top1, r.top5, r.madds)
        for r in records.published_rows()
    ]
    assert found.count(expected) == 1


def test_published_tables_are_complete() -> None:
    tables = [row.table for row in records.published_rows()]
    assert {table: tables.count(table) for table in tables} == {
        'rs-float': 15,
        'rs-quant': 20,
        'san-individual': 10,
        'san-mobilenetv2': 9,
        'lq-nets': 16,
        'ds-net': 14,
        'msdnet-port': 5,
        'lsq': 9,
        'n2uq': 9,
    }
    keys = [(row.table, row.arch, row.qw, row.qa, row.point) for row in records.published_rows()]
    assert len(set(keys)) == len(keys)
    column = [
        row.top1
        for row in records.published_rows()
        if (row.table, row.arch, row.qa) == ('rs-quant', 'resnet50', 2)
    ]
    assert column == [74.0, 73.1, 71.4, 68.9, 63.4]


def test_rows_cost_and_order(run: Path) -> None:
    rows = records.read_run(run, 'rs-kd').rows
    assert [row.label for row in rows] == ['224', '192', '192 (BN 224)', 'ensemble']
    assert [row.madds for row in rows] == [MADDS['s224'], MADDS['s192'], MADDS['s192'], 405_258_240]
    assert [row.weight_bytes for row in rows] == [WEIGHT_BYTES] * 4
    assert [row.published and row.published.top1 for row in rows] == [65.8, 64.8, None, None]
    assert [row.difference for row in rows] == [0.3, -0.3, None, None]


def test_points_are_strongest_first() -> None:
    points = [('w03', 'w03'), ('ensemble', 'ensemble'), ('w13', 'w13'), ('w03', 'w13')]
    assert sorted(points, key=lambda p: records.point_key(*p)) == [
        points[2],
        points[0],
        points[3],
        points[1],
    ]


@pytest.mark.parametrize(
    ('changes', 'table', 'top1'),
    [
        ({'sizes': [224]}, 'lq-nets', 64.9),
        ({'sizes': [224], 'qa': 32, 'mode': 'resnet'}, 'lq-nets', 68.0),
        ({'sizes': [224], 'qw': None, 'qa': None}, 'san-individual', 70.974),
        (
            {'sizes': [224], 'qw': 32, 'qa': 32, 'mode': 'pytorch', 'arch': 'resnet50'},
            'san-individual',
            77.15,
        ),
        ({'arch': 'resnet50', 'qa': 32}, 'rs-quant', 76.0),
        ({'qw': 32, 'qa': 32, 'mode': 'resnet'}, 'rs-float', 73.1),
        ({**FLOAT, 'arch': 'resnet50'}, 'rs-float', 79.3),
        ({**FLOAT, 'arch': 'mobilenetv2'}, 'rs-float', 73.0),
        ({**FLOAT, 'net': 'san', 'arch': 'mobilenetv2'}, 'san-mobilenetv2', 72.86),
    ],
)
def test_matches_by_kind_of_training(
    tmp_path: Path, changes: dict[str, Any], table: str, top1: float
) -> None:
    row = first_row(make_run(tmp_path / 'run', [record('s224', 60.0, 80.0)], **changes))
    assert row.published is not None
    assert (row.published.table, row.published.top1) == (table, top1)


MSDNET = {**FLOAT, 'net': 'msdnet', 'arch': 'msdnet', 'nBlocks': 5, 'sizes': [224]}


@pytest.mark.parametrize(
    ('changes', 'point', 'top1'),
    [
        ({**FLOAT, 'net': 'dsnet', 'arch': 'mobilenetv1'}, 'w13', 74.6),
        ({**FLOAT, 'net': 'dsnet', 'arch': 'resnet50'}, 'w13', None),
        ({**MSDNET, 'step': 7, 'base': 7}, 's224-x4', 74.592),
        ({**MSDNET, 'step': 7, 'base': 4}, 's224-x4', None),
        ({**MSDNET, 'step': 4, 'base': 4}, 's224-x4', None),
        ({**FLOAT, 'net': 'aig', 'arch': 'resnet50', 'sizes': [224]}, 's224', None),
    ],
)
def test_other_points(changes: dict[str, Any], point: str, top1: float | None) -> None:
    found = records.find_published({**CONFIG, **changes}, point, point)
    assert (found and found.top1) == top1


@pytest.mark.parametrize(
    'changes',
    [
        {'data': 'animals28'},
        {'data': 'fake'},
        {'data': '/data/cifar10'},
        {'classes': 28},
        {'classes': None},
        {'width': 0.5},
        {'arch': 'resnext50_32x4d'},
        {'qw': 3},
        {**FLOAT, 'arch': 'mobilenetv2', 'sizes': [224]},
        {'mode': 'pytorch'},
        {**FLOAT, 'net': 'san'},
        {'net': 'san', 'arch': 'mobilenetv2', 'mode': 'pytorch'},
        {**FLOAT, 'arch': 'mobilenetv2_small'},
        {**FLOAT, 'net': 'other', 'arch': 'mobilenetv2'},
    ],
)
def test_matches_nothing_else(tmp_path: Path, changes: dict[str, Any]) -> None:
    row = first_row(make_run(tmp_path / 'run', [record('s224', 60.0, 80.0)], **changes))
    assert row.published is None
    assert row.difference is None


@pytest.mark.parametrize(('size', 'top1'), [(208, 72.42), (176, 71.63), (144, 69.8), (112, 66.59)])
def test_sizes_between_those_trained(tmp_path: Path, size: int, top1: float) -> None:
    """SAN was tested at them; with statistics of their own they are compared, with borrowed ones not."""
    for bn, expected in ((f's{size}', top1), ('s224', None), (f's{size + 16}+s{size - 16}', None)):
        folder = make_run(
            tmp_path / bn,
            [record(f's{size}', 60.0, 80.0, bn=bn)],
            **FLOAT,
            net='san',
            arch='mobilenetv2',
            sizes=[size],
        )
        row = first_row(folder)
        assert (row.published and row.published.top1) == expected


def test_evaluation_on_other_data_matches_nothing(tmp_path: Path) -> None:
    assert (
        first_row(
            make_run(tmp_path / 'run', [record('s224', 60.0, 80.0, data='animals28')])
        ).published
        is None
    )


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
def test_format_madds(value: int | None, text: str) -> None:
    assert accuracy_table.format_madds(value) == text


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip('|').split('|')]


def test_github(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert accuracy_table.main([str(run)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert cells(lines[0]) == list(accuracy_table.HEADERS)
    assert cells(lines[2]) == [
        'rs-kd',
        '2/2',
        '224',
        '234',
        '47.4 kB',
        '66.10',
        '86.40',
        '65.80',
        '86.40',
        '+0.30',
        'rs-quant',
    ]
    assert cells(lines[4])[2:] == [
        '192 (BN 224)',
        '172',
        '47.4 kB',
        '60.25',
        '80.00',
        '-',
        '-',
        '-',
        '-',
    ]
    assert lines[-1].startswith('- rs-quant: Wang et al.')


def test_part_of_the_images_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path / 'run', [record('s224', 60.0, 80.0, images=128)])
    assert accuracy_table.main([str(run)]) == 0
    assert '- run, 224: measured on 128 of 50000 images' in capsys.readouterr().out


def test_latex(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert accuracy_table.main([str(run), '--format', 'latex']) == 0
    out = capsys.readouterr().out
    assert out.startswith('\\begin{tabular}') and '\\toprule' in out
    assert ' 66.10 ' in out and '\n% rs-quant: Wang' in out


def test_csv(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert accuracy_table.main([str(run), '--format', 'csv']) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert tuple(rows[0]) == accuracy_table.FIELDS
    assert (rows[0]['madds'], rows[0]['difference'], rows[2]['bn'], rows[2]['source']) == (
        '233619456',
        '0.3',
        's224',
        '',
    )


def test_json_to_file(run: Path, tmp_path: Path) -> None:
    output = tmp_path / 'table.json'
    output.write_text('old')
    assert accuracy_table.main([str(run), '--format', 'json', '--output', str(output)]) == 0
    data = json.loads(output.read_text())
    assert (
        data['rows'][1]['published_top1'] == 64.8
        and data['rows'][1]['weight_bytes'] == WEIGHT_BYTES
    )
    assert list(data['sources']) == ['rs-quant'] and 'compare' not in data
    assert not list(tmp_path.glob('.*tmp'))


def test_side_by_side(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    single = [
        make_run(tmp_path / f'one{size}', [record(f's{size}', top1, 85.0)], sizes=[size])
        for size, top1 in ((192, 63.0), (224, 65.0))
    ]
    folders = [str(path) for path in (*single, run)]
    assert accuracy_table.main(folders) == 0
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


def test_same_base_names_are_told_apart(run: Path, tmp_path: Path) -> None:
    other = make_run(tmp_path / 'b' / 'rs-kd', [record('s224', 60.0, 80.0)])
    assert [r.name for r in records.read_runs([str(run), str(other), f'{run}/'])] == [
        str(run),
        str(other),
    ]


def test_published(capsys: pytest.CaptureFixture[str]) -> None:
    assert accuracy_table.main(['--published', 'ds-net']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith('**DS-Net: ') and cells(lines[2])[2] == 'Point'
    assert cells(lines[4]) == ['mobilenetv1', '32/32', 'w00', '133', '70.10', '89.40', 'ds-net']
    assert accuracy_table.main(['--published', 'nothing']) == 2
    assert 'DS-Net, LQ-Nets, LSQ, MSDNet, N2UQ, RS-Nets, SAN' in capsys.readouterr().err


@pytest.mark.parametrize('style', ['github', 'latex', 'csv', 'json'])
def test_all_published(style: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every number of every table and, but for csv, every source; what has no table is said."""
    assert accuracy_table.main(['--published', '--format', style]) == 0
    text = capsys.readouterr().out
    if style == 'json':
        assert len(json.loads(text)['rows']) == len(records.published_rows())
    elif style == 'csv':
        assert len(list(csv.reader(io.StringIO(text)))) == 1 + len(records.published_rows())
    else:
        assert len(re.findall(r'(?m)^(?:\| | )\w.*\b(32|\d)/(32|\d)\b', text)) == len(
            records.published_rows()
        )
    if style != 'csv':
        assert 'ConvNet-AIG: the README has no accuracies' in text and 'MSDNet-PyTorch #10' in text


def test_every_source_is_a_paper_with_where_its_numbers_stand() -> None:
    for row in records.published_rows():
        assert re.search(r'(ECCV|ICLR|CVPR) 20\d\d[;,]', row.source), row.source
        assert re.search('README of|issue|Table 1', row.source), row.source


@pytest.mark.parametrize(
    ('path', 'text', 'message'),
    [
        ('config.json', None, 'config.json: cannot be read'),
        ('config.json', '{', 'config.json: damaged'),
        ('layers.json', None, '--eval -ec'),
        ('layers.json', '{"s224": [{"name": "x"}]}', 'no layer records'),
        ('layers.json', '{}', 'point ensemble is not in layers.json'),
        ('eval/s224.json', '[]', 's224.json: damaged'),
        ('eval/s224.json', '{"point": "s224", "top1": NaN, "top5": 1}', 'percentages'),
    ],
)
def test_damaged_run(
    run: Path, capsys: pytest.CaptureFixture[str], path: str, text: str | None, message: str
) -> None:
    (run / path).unlink()
    if text is not None:
        (run / path).write_text(text)
    assert accuracy_table.main([str(run)]) == 2
    error = capsys.readouterr().err
    assert message in error and str(run) in error


def test_missing_run_records_and_output_folder(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert accuracy_table.main([str(tmp_path / 'none')]) == 2
    assert f'{tmp_path / "none"}: no such run folder' in capsys.readouterr().err
    empty = make_run(tmp_path / 'empty', [])
    assert accuracy_table.main([str(empty)]) == 2
    assert f'imagenet_tf.py --eval -ec {empty}' in capsys.readouterr().err
    assert accuracy_table.main([str(run), '--output', str(tmp_path / 'no' / 'x.md')]) == 2
    assert 'no folder' in capsys.readouterr().err


def test_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    output = tmp_path / 'x.md'
    output.write_text('old')
    with pytest.raises(UsageError), records.replacing(str(output)) as temporary:
        temporary.write_text('half')
        raise UsageError('stop')
    assert output.read_text() == 'old' and list(tmp_path.iterdir()) == [output]


def test_arguments() -> None:
    with pytest.raises(SystemExit) as stop:
        accuracy_table.main([])
    assert stop.value.code == 2


@pytest.mark.parametrize('module', ['scripts.accuracy_table', 'scripts.plot'])
def test_imports_no_tensorflow(module: str) -> None:
    code = f'import sys, {module}; sys.exit(any(m.split(".")[0] in ("tensorflow", "matplotlib") for m in sys.modules))'
    assert subprocess.run([sys.executable, '-c', code], cwd=ROOT, check=False).returncode == 0
