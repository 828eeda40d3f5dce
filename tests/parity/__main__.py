"""Command line: one line per fixture."""

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence

from engine.entry import quiet
from engine.errors import UsageError
from quant import native
from quant.backend import exact
from tests.parity.fixtures import Fixture, Result, load

# (start of the name, a key that the JSON must have or '', runner). The first row that fits is
# taken.
RUNNERS = (
    ('quant_', 'cases', 'tests.parity.quantizers.cases'),
    ('rsq_quantizers', 'cases', 'tests.parity.rsq_quant.quantizers'),
    ('rsq_train_kd', 'training', 'tests.parity.rsq_train.distilled'),
    ('rsq_train_', 'training', 'tests.parity.rsq_train.trajectory'),
    ('rsq_resize_idx', '', 'tests.parity.rsq.resize'),
    ('rsq_ckpt_names', 'names', 'tests.parity.rsq_names.checkpoint_names'),
    ('rsq_', 'tensors', 'tests.parity.rsq.forward'),
    ('rsf_parallel_', 'tensors', 'tests.parity.rsf.forward'),
    ('rsf_meta_', 'tensors', 'tests.parity.rsf.forward'),
    ('rsf_losses', 'cases', 'tests.parity.rsf_losses.cases'),
    ('rsf_train_', 'param_names', 'tests.parity.rsf_train.step'),
    ('rsf_transforms', 'val', 'tests.parity.rsf_transforms.transforms'),
    ('madds_rs_san', 'models', 'tests.parity.madds.rs_san'),
    ('madds_aig', 'networks', 'tests.parity.aig.madds'),
    ('aig_loss', 'cases', 'tests.parity.aig.loss_cases'),
    ('aig_', 'tensors', 'tests.parity.aig.forward'),
    ('dsnet_loss', 'cases', 'tests.parity.dsnet.loss_cases'),
    ('dsnet_madds', 'rows', 'tests.parity.dsnet.madds'),
    ('dsnet_', 'noise', 'tests.parity.dsnet.gate'),
    ('dsnet_', 'tensors', 'tests.parity.dsnet.supernet'),
    ('msd_dynamic', 'cases', 'tests.parity.msd_dynamic.budgets'),
    ('msd_lazy', 'models', 'tests.parity.msd.lazy'),
    ('msd_', 'training', 'tests.parity.msd_train.steps'),
    ('msd_', 'grad_names', 'tests.parity.msd_train.step'),
    ('msd_', 'tensors', 'tests.parity.msd.forward'),
)


def runner(fixture: Fixture) -> Callable[[Fixture], Result] | None:
    """The function that judges ``fixture``, or None."""
    for start, key, path in RUNNERS:
        if fixture.name.startswith(start) and (not key or key in fixture.data):
            module, _, function = path.rpartition('.')
            return getattr(importlib.import_module(module), function)
    return None


def judge(fixture: Fixture) -> Result:
    """The verdict on one fixture; what goes wrong in it must not hide those on the others."""
    run = runner(fixture)
    if run is None:
        return Result(fixture.name, problems=['no runner yet'])
    try:
        return run(fixture)
    except Exception as error:
        first_line = str(error).partition('\n')[0]
        return Result(fixture.name, problems=[f'{type(error).__name__}: {first_line}'])


def main(argv: Sequence[str] | None = None) -> int:
    """Judges the named files and returns the exit status."""
    parser = argparse.ArgumentParser(prog='python -m tests.parity', description=__doc__)
    parser.add_argument('files', nargs='+', metavar='FILE', help='NAME.json, or a bare NAME.npz')
    parser.add_argument(
        '--native', action='store_true', help='quantizers as operations of quant.native'
    )
    args = parser.parse_args(argv)
    quiet()
    # On an H100 errors of 0.69 deviations without.
    exact()
    os.environ.setdefault('TF_FORCE_GPU_ALLOW_GROWTH', 'true')
    try:
        fixtures = [load(file) for file in args.files]
    except UsageError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    passed = True
    for fixture in fixtures:
        with native.using(args.native):
            result = judge(fixture)
        print(result.line(), flush=True)
        passed &= result.passed
    return 0 if passed else 1


if __name__ == '__main__':
    sys.exit(main())
