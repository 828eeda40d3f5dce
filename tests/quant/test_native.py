"""Quantizers as operations of one pass: numpy says what they give, plain operations what else."""

import numpy as np
import pytest

from engine.config import hardware
from engine.config.config import Config
from engine.errors import UsageError
from quant import native
from quant import specs as registry
from quant.backend import tf
from quant.lq import levels as lq
from quant.native import build
from quant.updates import refit
from tests.quant.towers import activate, quantization, weigh

built = pytest.mark.skipif(
    not native.is_built(), reason='not built; python -m quant.native.build does it'
)
SETS = ('avx512', 'avx2', 'generic')
TINY = np.finfo('float32').tiny
HARD = [0, -0.0, 1e-40, -1e-40, TINY, -TINY, 0.25, -0.25, 1, -1, 40, -40, np.inf, -np.inf, np.nan]


@pytest.fixture(params=SETS)
def kernels(request, monkeypatch):
    monkeypatch.setenv('SWITCHABLE_ISA', request.param)


def values_of(shape, seed, hard=HARD):
    """Quarters, many of which are ties, and hard values at the front."""
    x = np.random.default_rng(seed).integers(-9, 10, size=shape) / 4
    x.flat[: min(len(hard), x.size)] = hard[: x.size]
    return x.astype('float32')


def tables_of(count, channels):
    """Thresholds [count, C] with ties and one that all but -inf and NaN lie above, and levels."""
    rng = np.random.default_rng([count, channels])
    thresholds = np.sort(rng.integers(-8, 9, size=(count, channels)) / 4, axis=0)
    thresholds[0] = -np.inf
    levels = np.sort(rng.normal(size=(count + 1, channels)), axis=0)
    return thresholds.astype('float32'), levels.astype('float32')


def cells_of(x, thresholds):
    """How many thresholds lie below each value; denormal numbers are zero."""
    columns = thresholds.shape[1]
    flushed = np.where(np.abs(x) < TINY, 0, x).reshape(-1, 1, columns)
    return (flushed > thresholds).sum(1).reshape(x.shape)


def table_of(x, cells, count, relu):
    """Counts and sums of each column [n, C] above each threshold, after those of all."""
    summed = np.maximum(x, 0) if relu else x
    summed = summed.astype('float64')
    rows = [np.full(x.shape[1], len(x)), None]
    rows += [(cells > k).sum(0) for k in range(count)]
    sums = [np.where(cells > k, summed, 0).sum(0) for k in range(count)]
    rows[1] = sums[0] if relu else summed.sum(0)
    return np.array(rows + sums)


@built
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_levels_and_statistics(dtype, kernels, run):
    fetched, expected = [], []
    for count in (1, 2, 3, 7, 12, 15, 31, 100, 255, 511):
        for shape, channels in (([3, 7, 5, 41], 41), ([9, 11, 3], 1)):
            if channels > 1 and dtype == 'bfloat16':
                continue
            x = values_of(shape, count)
            thresholds, levels = tables_of(count, channels)
            if dtype == 'bfloat16':
                levels = levels.astype(tf.bfloat16.as_numpy_dtype).astype('float32')
            clean = np.where(np.isfinite(x), x, 0.5)
            relu = count % 2 == 0
            for values, collect in ((x, False), (clean, True)):
                found = native.encode(
                    tf.cast(values, dtype), levels, thresholds, relu=relu, collect=collect
                )
                fetched.append([tf.cast(found.y, tf.float32), found.table])
                cells = cells_of(values, thresholds)
                columns = np.arange(values.size).reshape(values.shape) % channels
                table = np.zeros([0, channels])
                if collect:
                    flat = [part.reshape(-1, channels) for part in (values, cells)]
                    table = table_of(*flat, count, relu)
                expected.append((levels[cells, columns], table))
    for (y, table), (levels, rows) in zip(run(fetched), expected):
        np.testing.assert_array_equal(y, levels)
        count = len(rows) // 2
        np.testing.assert_array_equal(table[2 : count + 1], rows[2 : count + 1])
        np.testing.assert_allclose(table, rows, rtol=1e-6, atol=1e-5)


@built
@pytest.mark.parametrize('count', [15, 31, 255])
def test_rows_beyond_what_float_numbers_count_at_once(count, kernels, run):
    """Channels that are turned into rows for a while, the last of them not full."""
    x = np.random.default_rng(count).normal(size=[1200, 19]).astype('float32')
    thresholds, levels = tables_of(count, 19)
    found = native.encode(tf.constant(x), levels, thresholds, collect=True)
    y, table = run(list(found))
    cells = cells_of(x, thresholds)
    np.testing.assert_array_equal(y, levels[cells, np.arange(19)])
    expected = table_of(x, cells, count, relu=False)
    np.testing.assert_array_equal(table[2 : count + 2], expected[2 : count + 2])
    summed = np.abs(x).sum(0).max()
    np.testing.assert_allclose(table, expected, rtol=0, atol=1e-6 * summed)


def bases_of(bits, channels):
    """Ordinary ones, and: all zero, equal vectors, one negative, one that swallows the others."""
    rng = np.random.default_rng([bits, channels])
    basis = rng.normal(size=(bits, channels)).astype('float32')
    for channel, hard in enumerate((0.0, 0.5, None, None)[: channels - 1]):
        if hard is not None:
            basis[:, channel] = hard
    if channels > 3:
        basis[:, 2] = -np.abs(basis[:, 2])
        basis[-1, 3] = 1e30
    return basis


def sorted_sums(basis, low):
    """Levels [L, C] and the numbers of their codes [C, L], the larger first among equals."""
    bits = len(basis)
    numbers = np.arange(2**bits)
    sums = np.zeros([2**bits, basis.shape[1]], 'float32')
    for bit in range(bits):
        code = np.where(numbers >> bit & 1, 1, low).astype('float32')
        sums = sums + code[:, None] * basis[bit]
    order = [np.lexsort([-numbers, column]) for column in sums.T]
    return np.take_along_axis(sums, np.transpose(order), axis=0), np.array(order)


@built
@pytest.mark.parametrize('low', [0, -1])
def test_sums_of_bases_are_sorted_as_by_plain_operations(low, run):
    fetched, expected = [], []
    for bits in range(1, 9):
        for channels in (1, 5, 37):
            basis = bases_of(bits, channels)
            with native.using(True):
                ours = lq.grid(tf.constant(basis), low)
            plain = lq.grid(tf.constant(basis), low)
            for grid in (ours, plain):
                fetched.append([grid.levels, grid.thresholds, grid.numbers])
                expected.append(sorted_sums(basis, low))
    for (values, thresholds, numbers), (sums, order) in zip(run(fetched), expected):
        np.testing.assert_array_equal(values, sums)
        half = np.float32(0.5)
        np.testing.assert_array_equal(thresholds, half * sums[:-1] + half * sums[1:])
        np.testing.assert_array_equal(numbers, order)


@built
@pytest.mark.parametrize('bits', [1, 2, 5, 8])
def test_normal_equations_of_several_bases(bits, run):
    tables, numbers, lows, expected = [], [], [-1, 0, -1], []
    rng = np.random.default_rng(bits)
    for low, channels in zip(lows, (19, 1, 3)):
        x = rng.normal(size=[400, channels]).astype('float32')
        _, order = sorted_sums(bases_of(bits, channels), low)
        thresholds = np.sort(rng.normal(size=[2**bits - 1, channels]), axis=0)
        cells = (x[:, None] > thresholds).sum(1)
        tables.append(table_of(x, cells, 2**bits - 1, relu=False))
        numbers.append(order.astype('int32'))
        for channel in range(channels):
            codes = lq.code_table(bits, low)[order[channel]][cells[:, channel]]
            codes = codes.astype('float64')
            expected.append((codes.T @ codes, codes.T @ x[:, channel], 400))
    found = run(list(native.normal_equations(tables, numbers, lows, bits)))
    gram, right, counts = (np.stack(part) for part in zip(*expected))
    np.testing.assert_array_equal(found[0], gram)
    np.testing.assert_allclose(found[1], right, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(found[2], counts)


@built
@pytest.mark.parametrize('wrong', [-1, 4])
def test_codes_that_no_level_has_are_refused(wrong, run):
    codes = np.array([[0, 1, 2, wrong]], 'int32')
    found = native.normal_equations([tf.zeros([8, 1], tf.float64)], [codes], [0], 2)
    with pytest.raises(tf.errors.InvalidArgumentError, match='codes are from 0 to L - 1'):
        run(list(found))


@built
@pytest.mark.parametrize('inside', ['below', 'positive', 'symmetric'])
def test_where_a_gradient_passes(inside, kernels, run):
    thresholds, levels = tables_of(3, 1)
    largest = levels[-1, 0]
    fetched, expected = [], []
    for size in (0, 1, 7, 8, 16, 31, 33, 40000):
        x = values_of([size], size)
        flushed = np.where(np.abs(x) < TINY, 0, x)
        passes = flushed <= largest
        if inside == 'positive':
            passes &= flushed > 0
        elif inside == 'symmetric':
            passes &= flushed >= -largest
        read = tf.constant(x)
        y = native.encode(read, levels, thresholds, inside=inside).y
        upstream = np.arange(1, size + 1, dtype='float32')
        fetched += tf.gradients(y, read, upstream)
        expected.append(np.where(passes, upstream, 0))
    for found, wanted in zip(run(fetched), expected):
        np.testing.assert_array_equal(found, wanted)


@built
def test_what_is_no_number_stays_where_it_shall_and_spoils_sums(kernels, run):
    x = values_of([40, 3], 1, hard=[np.nan])
    for count in (3, 31):
        thresholds, levels = tables_of(count, 3)
        found = native.encode(tf.constant(x), levels, thresholds, keeps_nan=True, collect=True)
        y, table = run(list(found))
        np.testing.assert_array_equal(np.isnan(y), np.isnan(x))
        is_sum = np.arange(len(table)) > count + 1
        is_sum[1] = True
        np.testing.assert_array_equal(np.isnan(table[:, 0]), is_sum)
        assert np.isfinite(table[:, 1:]).all()


@built
def test_sums_are_the_same_with_any_number_of_threads():
    x = np.random.default_rng(3).normal(size=200001).astype('float32')
    thresholds, levels = tables_of(15, 1)
    tables = []
    for threads in (1, 4):
        config = tf.ConfigProto(intra_op_parallelism_threads=threads)
        config.use_per_session_threads = True
        with tf.Graph().as_default(), tf.Session(config=config) as session:
            found = native.encode(tf.constant(x), levels, thresholds, collect=True)
            tables.append(session.run(found.table))
    np.testing.assert_array_equal(*tables)


KINDS = {'relu': (True, 0.0), 'swish': (False, -0.25), 'signed': (False, -np.inf)}


def both_ways(spec, half, x, kind, session):
    """What a quantizer gives in plain operations and in these: y, gradients, statistics."""
    halves = []
    for number, on in enumerate((False, True)):
        with native.using(on):
            q = quantization(spec, half=half)
        read = tf.placeholder_with_default(x, x.shape)
        with tf.variable_scope(f'q{number}'):
            if half == 'weight':
                y = weigh(q, read, first=lambda: tf.constant(np.nan_to_num(x, posinf=1)))
            else:
                relu, lower = KINDS[kind]
                y = activate(q, read, relu=relu, lower=lower)
        upstream = tf.cos(tf.range(x.size, dtype=tf.float32))
        upstream = tf.reshape(upstream, x.shape)
        learned = tf.trainable_variables(f'q{number}/')
        gradients = tf.gradients(y, [read, *learned], upstream)
        tables = []
        for row in q.collected.values():
            tables += [one.table for one in row.statistics]
        refits = refit([q])
        assert bool(refits) == bool(tables)
        halves.append([y, gradients[0], *[g for g in gradients[1:] if g is not None], *tables])
    session.run(tf.global_variables_initializer())
    return session.run(halves)


def check_alike(spec, half, kind, session):
    shape = [3, 3, 16, 21] if half == 'weight' else [5, 7, 9, 11]
    x = values_of(shape, 5)
    plain, ours = both_ways(spec, half, x, kind, session)
    for number, (theirs, own) in enumerate(zip(plain, ours, strict=True)):
        if number < 2:  # values and their gradients
            np.testing.assert_array_equal(own, theirs)
            known = ~np.isnan(own)
            np.testing.assert_array_equal(np.signbit(own[known]), np.signbit(theirs[known]))
        else:
            finite = np.isfinite(theirs)
            np.testing.assert_allclose(own[finite], theirs[finite], rtol=1e-5, atol=1e-3)


def ways(bits):
    """Specs, halves and inputs of all quantizers at these bits."""
    found = []
    for name in registry.names():
        try:
            one = registry.parse(f'{name}(bits={bits})')
        except ValueError:
            continue
        if not one.refuses('body', weights=True):
            found.append((f'{name}(bits={bits})', 'weight', ''))
        if not one.refuses('body', weights=False):
            kinds = [kind for kind in KINDS if bits > 1 or kind != 'signed' or name == 'lq']
            found += [(f'{name}(bits={bits})', 'activation', kind) for kind in kinds]
    return found


QUICK = [
    ('lq(bits=2)', 'weight', ''),
    ('lq(bits=2)', 'activation', 'relu'),
    ('lq(bits=5)', 'activation', 'signed'),
    ('lsq(bits=2, per_channel=True, centred=True, delta=0.5)', 'weight', ''),
    ('lsq(bits=4)', 'activation', 'relu'),
    ('lsqplus(bits=3, open_ends=True)', 'activation', 'signed'),
    ('n2uq(bits=2)', 'activation', 'swish'),
    ('n2uq(bits=4)', 'activation', 'relu'),
    ('affine(bits=2)', 'weight', ''),
    ('affine(bits=4, per_channel=False, narrow=False, through=True)', 'weight', ''),
    ('affine(bits=3, delta=0.5)', 'activation', 'signed'),
    ('affine(bits=2, learned=True, delta=0.5)', 'activation', 'relu'),
    ('ewgs(bits=2, delta=0.5)', 'weight', ''),
    ('ewgs(bits=3, delta=0.5)', 'activation', 'relu'),
    ('ewgs(bits=4, delta=0)', 'activation', 'signed'),
    ('apot(bits=3)', 'weight', ''),
    ('apot(bits=4)', 'activation', 'relu'),
    ("apot(bits=2, variant='cifar')", 'activation', 'signed'),
    ('apot(bits=5, equal_steps=True, delta=0.5)', 'activation', 'swish'),
]


@built
@pytest.mark.parametrize(('spec', 'half', 'kind'), QUICK)
def test_quantizers_are_as_of_plain_operations(spec, half, kind, run):
    check_alike(spec, half, kind, run.session)


@built
@pytest.mark.parametrize(
    'spec', ['n2uq(bits=2)', 'n2uq(bits=7)', 'apot(bits=4)', 'ewgs(bits=3)', 'lsq(bits=2)']
)
def test_gradients_of_several_parts_of_a_tensor(spec, kernels, run):
    """More values than are added up as float numbers; the last vector is not full."""
    x = np.random.default_rng(2).normal(size=[50, 1003]).astype('float32')
    plain, ours = both_ways(spec, 'activation', x, 'relu', run.session)
    for number, (theirs, own) in enumerate(zip(plain, ours, strict=True)):
        if number < 2:  # values and their gradients
            np.testing.assert_array_equal(own, theirs)
        else:
            np.testing.assert_allclose(own, theirs, rtol=1e-4, atol=1e-3)
    assert len(plain) > 2


@built
@pytest.mark.slow
@pytest.mark.parametrize('bits', range(1, 9))
def test_all_quantizers_are_as_of_plain_operations(bits, kernels):
    for spec, half, kind in ways(bits):
        with tf.Graph().as_default(), tf.Session() as session:
            check_alike(spec, half, kind, session)


def operations(on):
    """Types of the operations of a quantizer's graph."""
    with tf.Graph().as_default() as graph:
        q = quantization('lq(bits=2)')
        q.native = on
        activate(q, tf.zeros([4, 8]))
        return {op.type for op in graph.get_operations()}


@built
def test_towers_say_whether_they_use_them():
    assert 'SwitchableEncode' in operations(True)
    assert not any(name.startswith('Switchable') for name in operations(False))


ASKED = ('auto', 'off', 'require')


def test_require_without_a_library_says_how_to_build_it(monkeypatch, tmp_path):
    monkeypatch.setattr(native, 'library', lambda: tmp_path / 'none.so')
    config = Config.from_values(native='require')
    with pytest.raises(UsageError, match='python -m quant.native.build'):
        hardware.check_native(config)
    hardware.check_native(Config.from_values())
    assert not hardware.takes_native(Config.from_values())
    said = {asked: hardware.quantizer_line(Config.from_values(native=asked)) for asked in ASKED}
    assert all('plain' in line and 'python -m quant.native.build' in line for line in said.values())
    assert 'rounded otherwise' in said['require'] and said['off'] == said['auto']


def test_off_is_off():
    assert not hardware.takes_native(Config.from_values(native='off'))


def test_building_without_a_compiler_is_no_failure(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(native, 'library', lambda: tmp_path / 'none.so')
    monkeypatch.setattr(build, 'compiler', lambda: None)
    assert build.main() == 0
    said = capsys.readouterr().out
    assert f'no C++ compiler found ({build.REMEDY})' in said and said.count('\n') == 1


@pytest.mark.slow
@pytest.mark.skipif(build.compiler() is None, reason='no C++ compiler')
def test_it_builds_and_takes_the_place_of_older_libraries(monkeypatch, tmp_path, capfd):
    made = tmp_path / 'quantizers-2.21.0-new.so'
    others = [tmp_path / 'quantizers-2.21.0-old.so', tmp_path / 'quantizers-2.20.0-old.so']
    for other in others:
        other.touch()
    monkeypatch.setattr(native, 'library', lambda: made)
    assert build.build() == made
    assert capfd.readouterr() == ('', '')
    assert sorted(tmp_path.iterdir()) == sorted([made, others[1]])
