"""The reference of the command line has every flag and every script."""

from engine.config import cli
from scripts import reference


def dashed(text):
    return text.replace('_', '-')


def test_all_flags_and_scripts_are_there(tmp_path):
    reference.write(tmp_path / 'reference')
    text = (tmp_path / 'reference' / 'cli.md').read_text()
    for action in cli.parser()._actions:
        for flag in action.option_strings:
            assert dashed(flag) in dashed(text)
    for name in reference.scripts():
        assert f'### {name.partition(".")[0]}\n' in text
    assert '--madds' in text and 'usage: python -m scripts.choose' in text
    assert '%(default)s' not in text
