"""scripts.choose: what it prints over several runs, and what it refuses."""

import pytest

from scripts import choose


def test_the_script_chooses_over_runs(static, gated, routed, capsys):
    runs = list(map(str, (static, gated, routed)))
    assert choose.main([*runs, '--madds', '2M']) == 0
    first, command = capsys.readouterr().out.splitlines()
    assert first.startswith(f'{routed} at dynamic, top-1 87.00 %, 1.20 M multiply-adds')
    assert command == f'    python imagenet_tf.py --eval -ec {routed}'
    for flags, expected in (
        (['--latency', '5ms'], f'{static} at s28'),
        (['--min-top1', '80'], f'{routed} at dynamic'),
        (['--memory', '20B'], f'{static} at s28'),
        (['--memory', '3B', '--madds', '9M'], None),
    ):
        assert choose.main([*runs, *flags]) == (0 if expected else 2)
        shown = capsys.readouterr()
        assert shown.out.startswith(expected or '') and ('nearest is' in shown.err) != bool(
            expected
        )


def test_the_script_shows_the_front(static, gated, routed, exits, capsys):
    assert choose.main(list(map(str, (static, gated, routed)))) == 0
    lines = capsys.readouterr().out.splitlines()[2:]
    assert [line.split()[:2] for line in lines] == [
        [str(routed), 'w00'],
        [str(routed), 'dynamic'],
        [str(routed), 'w03'],
        [str(static), 's28'],
    ]
    assert choose.main([str(exits[0])]) == 0
    assert 'thresholds' in capsys.readouterr().out


@pytest.mark.parametrize(
    'flags, message',
    [
        (['--madds', '3ms'], '--madds 3ms: expected multiply-adds'),
        (['--latency', '3'], '--latency 3: expected a time'),
        (['--memory', 'x'], '--memory x: expected a size'),
        (['--madds', '1'], 'the nearest is'),
        (['--min-top1', '99'], 'the nearest is'),
    ],
)
def test_the_script_refuses(flags, message, static, capsys):
    assert choose.main([str(static), *flags]) == 2
    assert message in capsys.readouterr().err


def test_the_script_refuses_what_is_no_run(tmp_path, static, capsys):
    assert choose.main([str(tmp_path / 'none')]) == 2
    assert 'no such run folder' in capsys.readouterr().err
    for path in (static / 'eval').iterdir():
        path.unlink()
    assert choose.main([str(static)]) == 2
    assert 'no evaluation records' in capsys.readouterr().err
    with pytest.raises(SystemExit, match='2'):
        choose.main([])
