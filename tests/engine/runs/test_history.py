"""The history of a run: rows, the best epoch, and what is made of damage."""

import json

import pytest

from engine.errors import UsageError
from engine.runs import history
from engine.runs.history import Best


def row(epoch: int, top1: float | None = None) -> history.Row:
    found: history.Row = {'train/loss': 0.5, 'epoch_num': epoch, 'global_step': 10 * epoch}
    if top1 is not None:
        found['val/top1/mean'] = top1
    return found


def test_rows_survive_the_file(tmp_path):
    rows = [row(1, 40.5), row(2, 61.25), row(3)]
    history.write(tmp_path, rows)
    assert history.read(tmp_path, '') == history.recorded(tmp_path) == rows
    history.write(tmp_path, history.read(tmp_path, '')[:2])
    assert history.read(tmp_path, '') == rows[:2]


@pytest.mark.parametrize(
    ('rows', 'expected'),
    [
        ([], None),
        ([row(1)], None),
        ([row(1, 40), row(2, 50), row(3, 50), row(4, 45)], Best(50, 20, 2)),
    ],
)
def test_the_best_epoch_is_the_first_of_the_highest(rows, expected):
    assert history.best(rows) == expected


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ('[{"epoch_num": "1"}]', '"row 1.epoch_num": \'1\', a number'),
        ('[{"epoch_num": 1.5}]', '"row 1.epoch_num": 1.5, a whole number above 0'),
        ('[{"loss": 1}]', '"row 1.epoch_num": None'),
        ('[{"epoch_num": 2}, {"epoch_num": 2}]', '"row 2.epoch_num": 2, a whole number above 2'),
        ('{"epoch_num": 1}', 'a list expected'),
    ],
)
def test_what_is_no_history(content, message, tmp_path, capsys):
    (tmp_path / 'stats.json').write_text(content)
    with pytest.raises(UsageError) as caught:
        history.read(tmp_path, 'a run is needed')
    assert message in str(caught.value) and str(caught.value).endswith('; a run is needed')
    assert history.recorded(tmp_path) == []
    assert 'stats.json: damaged' in capsys.readouterr().out
    (aside,) = tmp_path.iterdir()
    assert aside.read_text() == content


def test_earlier_versions_wrote_no_checksum(tmp_path):
    (tmp_path / 'stats.json').write_text(json.dumps([row(1, 40), row(2, 50)]))
    assert history.best(history.read(tmp_path, '')) == Best(50, 20, 2)


def test_names_of_an_earlier_version_are_read_as_ours(tmp_path):
    earlier = {'loss': 0.5, 'loss/s28': 0.25, 'val/s28/top1': 40.0, 'val/mean/top1': 41.0}
    history.write(tmp_path, [{'epoch_num': 1, 'global_step': 10, 'learning_rate': 0.1, **earlier}])
    (row,) = history.read(tmp_path, '')
    expected = {'train/loss': 0.5, 'train/loss/s28': 0.25, 'val/top1/s28': 40.0, 'lr': 0.1}
    assert expected.items() <= row.items()
    assert history.scores(row) == {'s28': 40.0}
    assert history.best([row]).mean_top1 == 41
