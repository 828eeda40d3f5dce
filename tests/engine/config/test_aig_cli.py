"""ConvNet-AIG on the command line: what is refused, and what is not an option of other networks."""

import pytest

from tests.engine.command_line import accepted

pytestmark = pytest.mark.usefixtures('here')

AIG = '--net aig --arch resnet8 --data animals28'


@pytest.mark.parametrize(
    'line, parts',
    [
        (f'{AIG} --target 1.5', ['--targets 1.5: must be at least 0 and at most 1']),
        (f'{AIG} --target -0.1', ['targets -0.1']),
        (f'{AIG} --target nan', ['targets nan']),
        (f'{AIG} --targets 0.5 0.5', ['2 target rates for the 3 blocks of resnet8']),
        (f'{AIG} --targets 1 1 1', ['all targets are 1', '--net rsnet']),
        (f'{AIG} --target 0.5 --targets 0.5', ['--target 0.5', '--targets', 'one of them']),
        (f'{AIG} --kd', ['--kd', '--net aig has no such option']),
        (f'{AIG} --encoding 40', ['--encoding', '--net aig has no such option']),
        (
            '--arch resnet8 --data animals28 --target 0.5',
            ['--targets', '--net rsnet has no such option'],
        ),
        (f'{AIG} --temperature 0', ['--temperature 0: must be greater than 0']),
        (f'{AIG} --gate-lr 0', ['--gate_lr 0: must be greater than 0']),
        (f'{AIG} --mode preact', ['mode', 'pytorch']),
        (f'{AIG} --gate-noise', ['--gate_noise', '--eval']),
        (f'{AIG} --draws 3', ['--draws', '--eval']),
        ('--eval -ec run --draws 3', ['--draws 3', '--gate_noise']),
        ('--eval -ec run --gate-noise', ['--gate_noise', '--net rsnet has no such option']),
    ],
)
def test_bad_input(line, parts, refused):
    message = refused(line)
    assert [part for part in parts if part not in message] == []


def test_what_a_line_means():
    config = accepted(f'{AIG} --sizes 28 20 --target 0.6 --gate-lr 0.5 --no-faithful-gates')
    assert (config.net, config.mode, config.targets, config.sizes, config.gate_lr) == (
        'aig',
        'pytorch',
        (0.6,),
        (28, 20),
        0.5,
    )
    assert accepted(f'{AIG} --targets 1 0.5 0').targets == (1.0, 0.5, 0.0)
