"""Where records of an evaluation go when the run, or the named place, cannot be written."""

from types import SimpleNamespace

import pytest

from engine.errors import UsageError
from engine.evaluation import records
from engine.runs.folder import open_run
from tests.engine.runs.test_folder import CONFIG, add_checkpoint


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A checkpoint in a folder that is read-only, as is any of the name ``full``."""
    run = open_run(CONFIG, tmp_path / 'run', None).path
    add_checkpoint(run, 50)

    def refuse(folder, flag):
        if {'run', 'full'} & {folder.name, folder.parent.name}:
            raise UsageError(f'{flag}: {folder} cannot be written')

    monkeypatch.setattr(records, 'check_writable', refuse)
    monkeypatch.chdir(tmp_path)
    return SimpleNamespace(prefix=str(run / 'model-50'), config=CONFIG)


def test_a_read_only_run_has_its_records_in_the_current_folder(source, tmp_path, capsys):
    found = records.record_folder(CONFIG, source, None)
    assert found.parts[0] == 'train_log' and found.name.endswith('model-50')
    assert f'Records go to {found} in the current folder' in capsys.readouterr().out
    assert (tmp_path / found / 'config.json').exists()


@pytest.mark.parametrize('name', ['run', 'full', 'full/new'])
def test_a_named_folder_is_refused_before_it_is_made(name, source, tmp_path):
    with pytest.raises(UsageError, match='cannot be written'):
        records.record_folder(CONFIG, source, tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ['run']
