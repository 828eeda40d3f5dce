"""Quantizers of the suite against what the published code of each returns: ``quant_NAME.json``."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from quant import Policy, Rule
from quant.backend import tf
from quant.quantizer import Codebook
from quant.scope import Quantization
from quant.updates import starts
from tests.parity.fixtures import Check, Fixture, Result

# Relative error of a start: a mean in float32 against ours.
START = 2e-6

Case = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Form:
    """How the cases of one file are spelled as quantizers of ours.

    Attributes:
        spec: of a case.
        variables: our name of a variable by published name of a parameter.
        starts: makes what the published code computes first, where ours is no variable, of the
            case and the codebook.
        bits: of the entries of parameters that have one for each, of which a case reads its own.
    """

    spec: Callable[[Case], str]
    variables: dict[str, str] = dataclasses.field(default_factory=dict)
    starts: dict[str, Callable[[Case, Codebook], np.ndarray]] = dataclasses.field(
        default_factory=dict
    )
    bits: tuple[int, ...] = ()


def _spelled(name: str, options: dict[str, Any]) -> str:
    return f'{name}({", ".join(f"{option}={value!r}" for option, value in options.items())})'


def _lsq(case: Case) -> str:
    low, high = case['range']
    options = {
        'bits': case['bits'],
        'symmetric': low == -high,
        'per_channel': case['per_channel'],
    }
    return _spelled('lsq', options)


def _apot(case: Case) -> str:
    cifar = case['case'].startswith('cifar_')
    options = {
        'bits': case['bits'],
        'equal_steps': case['case'].startswith('uniform_'),
        'variant': 'cifar' if cifar else 'imagenet',
        'start': 8.0 if cifar else 6.0,
    }
    return _spelled('apot', options)


def _dorefa(case: Case) -> str:
    return f'dorefa(bits={case["bits"]}, stop_max={case["case"].startswith("larq_")})'


def _n2uq(case: Case) -> str:
    if case['case'].startswith('mbv2_pact'):
        return _spelled('pact', {'bits': case['bits'], 'levels': True, 'start': 2.0})
    return f'n2uq(bits={case["bits"]}, divided=True)'


def _binary(case: Case) -> str:
    name = 'reactnet' if 'bias' in case['params'] else 'bireal'
    return f'{name}(zero=0)'


# Larq's names, behind the kind of the input.
LARQ: dict[str, dict[str, Any]] = {
    'ste_sign_unclipped': {'zero': 1, 'gradient': 'identity'},
    'ste_sign': {'zero': 1, 'gradient': 'clipped'},
    'approx_sign': {'zero': 1, 'gradient': 'quadratic'},
    'swish_sign': {'zero': 1, 'gradient': 'swish'},
    'ste_heaviside': {'unsigned': True, 'gradient': 'clipped'},
    'magnitude_aware': {'zero': 1, 'scaled_gradient': True},
    'ste_tern': {},
}


def _larq(case: Case) -> str:
    _, _, named = case['case'].partition('_')
    name = next(name for name in LARQ if named.startswith(name))
    if name == 'ste_tern':
        return _larq_ternary(case)
    options = LARQ[name]
    if case['kind'] == 'weight' and 'scaled_gradient' not in options:
        # Its signs have no scale.
        options = {**options, 'scale': 1.0}
    return _spelled('bireal', options)


def _larq_ternary(case: Case) -> str:
    options = {'scale': 1.0, 'clipped': True}
    if 'twn' not in case['case']:
        options['threshold'] = 0.05
    return _spelled('twn', options)


def _ternary(case: Case) -> str:
    if case['case'].startswith('ttq'):
        return 'ttq'
    if case['case'].startswith('larq_'):
        return _larq_ternary(case)
    return 'twn'


# The constant levels of Brevitas.
BREVITAS = {
    'brevitas_w_binary': "bireal(zero=1, gradient='identity', scale=0.1, scaled_gradient=True)",
    'brevitas_w_ternary': 'twn(threshold=0.05, scale=0.1)',
}


def _affine(case: Case) -> str:
    name = case['case']
    options = {'bits': case['bits']}
    if name in BREVITAS:
        return BREVITAS[name]
    if name.startswith('brevitas_relu'):
        learned = {'method': 'percentile', 'percentile': 99.999, 'learned': True}
        return _spelled('affine', options | learned)
    brevitas = name.startswith('brevitas_')
    options |= {'through': brevitas, 'narrow': brevitas, 'per_channel': case['per_channel']}
    return _spelled('affine', options)


def _step_of(_: Case, book: Codebook) -> np.ndarray:
    # Where zero lies between two levels, or no step is told, the highest level is the scale.
    if book.step is None or len(book.levels) == 2:
        return book.levels[-1]
    return book.step


def _zero_point_of(case: Case, book: Codebook) -> np.ndarray:
    return case['range'][0] - np.round(book.offset / book.step)


def _adabits(case: Case) -> str:
    options = {'bits': case['bits']}
    if case['kind'] == 'weight':
        scheme = case.get('scheme', 'modified').replace('centered', 'centred')
        options |= {'scheme': scheme, 'rescale': case.get('rescale_conv', False)}
        return _spelled('adabits', options)
    return _spelled('adabits', options | {'floor': case['case'].startswith('act_modified')})


def _lsqplus(case: Case) -> str:
    low, _ = case['range']
    options = {'bits': case['bits']}
    if case['kind'] == 'weight':
        options |= {'start': 'lsqplus', 'per_channel': case.get('per_channel', False)}
    else:
        options |= {'zero': False, 'middle': low < 0}
    if case['case'].startswith('ibm_'):
        options |= {'start': 'ibm', 'gradient_scale': 'none', 'open_ends': True}
    return _spelled('lsqplus', options)


def _ewgs(case: Case) -> str:
    return _spelled('ewgs', {'bits': case['bits'], 'delta': case['delta']})


def _pact_sawb(case: Case) -> str:
    kind, *_ = case['case'].split('_')
    options = {'bits': case['bits']}
    if case['kind'] == 'activation':
        zero = 'zero' in kind
        return _spelled('pact', options | {'inner': 'plus' in kind, 'zero': zero})
    options |= {'zero': 'zero' in kind, 'clipped': not kind.startswith('sawbplus')}
    return _spelled('sawb', options | {'per_channel': case['per_channel']})


FORMS = {
    'quant_adabits': Form(_adabits, {'alpha': 'clip'}, bits=(8, 4, 3, 2, 1)),
    'quant_anyprecision': Form(lambda case: f'anyprecision(bits={case["bits"]})'),
    'quant_apot': Form(_apot, {'alpha': 'clip'}),
    'quant_binary': Form(_binary, {'bias': 'shift'}),
    'quant_dorefa': Form(_dorefa),
    'quant_ewgs': Form(_ewgs, {'u': 'upper', 'l': 'lower'}),
    'quant_larq': Form(_larq),
    'quant_lsq': Form(_lsq, {'s': 'step'}),
    'quant_lsqplus': Form(_lsqplus, {'s': 'step', 'beta': 'offset'}),
    'quant_n2uq': Form(
        _n2uq,
        {
            'a': 'interval',
            'clip_val': 'clip',
            'start': 'start',
            'scale1': 'scale1',
            'scale2': 'scale2',
        },
    ),
    'quant_pact_sawb': Form(
        _pact_sawb,
        {'alpha': 'clip', 'alpha_neg': 'low_clip'},
        {'clip': lambda case, book: book.levels[-1]},
    ),
    'quant_ternary': Form(
        _ternary,
        {'Wp': 'positive', 'Wn': 'negative'},
        {'alpha': lambda _, book: book.levels[2], 'delta': lambda _, book: book.thresholds[1]},
    ),
    'quant_uniform': Form(
        _affine, {'value': 'value'}, {'scale': _step_of, 'zero_point': _zero_point_of}
    ),
}


def cases(fixture: Fixture) -> Result:
    """Every case: output, gradients, starts, and the codebook."""
    result = Result(fixture.name, "each tensor's maximum")
    form = FORMS.get(fixture.name)
    if form is None:
        result.problems.append('no quantizer of ours for this file')
        return result
    delicate = 0
    for case in fixture.data['cases']:
        judged = _Judged(fixture, case, form)
        result.checks += judged.checks
        result.problems += judged.problems
        delicate += len(judged.delicate) + len(judged.delicate_gx)
    result.remark = f'{len(fixture.data["cases"])} cases, {delicate} delicate values'
    return result


def _fetched(book: Codebook) -> dict[str, Any]:
    """The parts of a codebook that a session can run."""
    return {name: part for name, part in book._asdict().items() if part is not None}


class _Judged:
    """The verdict on one case.

    Attributes:
        delicate: flat indices of values at a threshold.
        delicate_gx: the same of the gradient, at a bound.
        checks: comparisons of arrays.
        problems: what is wrong beside them.
    """

    def __init__(self, fixture: Fixture, case: Case, form: Form):
        self._case, self._form, self._arrays = case, form, fixture.arrays
        self.delicate: list[int] = case.get('delicate', [])
        self.delicate_gx: list[int] = case.get('delicate_gx', [])
        self.checks: list[Check] = []
        self.problems: list[str] = []
        with tf.Graph().as_default(), tf.Session() as session:
            self._run(session)

    def _stored(self, name: str) -> np.ndarray:
        """An array of the case; of a parameter that has one for each precision its own entry.

        Raises:
            ValueError: there is a gradient of another one.
        """
        found = self._arrays[f'{self._case["case"]}/{name}']
        if not self._form.bits or '_' not in name:
            return found
        own = self._form.bits.index(self._case['bits'])
        if name.startswith('grad_') and np.delete(found, own).any():
            raise ValueError(f'{self._case["case"]}/{name}: gradients of other bits')
        return found[own : own + 1]

    def _run(self, session: tf.Session) -> None:
        case, form = self._case, self._form
        x = self._arrays[case['x']] * np.float32(case.get('x_factor', 1))
        spec = form.spec(case)
        rule = Rule(roles=('body',), **{case['kind']: spec})
        quantization = Quantization(Policy((rule,)), training=True)
        values = tf.constant(x)
        y = self._quantized(quantization, values)
        codebook: dict[str, Any] = {}
        read = values
        # Of 32 bits there is none.
        for scope, make in quantization.codebooks.items():
            codebook = _fetched(make())
            read = quantization.described.get(scope, values)
        variables = {v.op.name.rpartition('/')[2]: v for v in tf.global_variables()}
        # What gets no gradient in the published code is a constant here.
        constants = case.get('no_grad', ())
        names = [name for name in case['params'] if name not in constants]
        learned = {name: variables[form.variables[name]] for name in names}
        graded = {name: learned[name] for name in case['grads']}
        upstream = tf.constant(self._arrays[case['gy']])
        gradients = tf.gradients(y, [values, *graded.values()], upstream)
        session.run(tf.global_variables_initializer())
        for op in starts([quantization]).values():
            session.run(op)
        started = session.run(learned)
        before = session.run(codebook)
        for name in case.get('init', ()):
            if name in form.starts:
                started[name] = form.starts[name](case, Codebook(**before))
            if name in started:
                self._compare(f'init_{name}', started[name], START)
        for name, variable in learned.items():
            value = self._stored(f'param_{name}').reshape(variable.shape.as_list())
            session.run(variable.initializer, {variable.initializer.inputs[1]: value})
        ours, found, parts, seen = session.run([y, gradients, codebook, read])
        agree = self._check_values(ours, parts) & self._check_gradient(found[0])
        if agree:
            for name, value in zip(graded, found[1:]):
                self._compare(f'grad_{name}', value)
        if parts:
            self._check_codebook(seen, ours, Codebook(**parts))

    def _quantized(self, quantization: Quantization, x: tf.Tensor) -> tf.Tensor:
        if self._case['kind'] == 'weight':
            return quantization.weight(x, scope='q', role='body', init_std=1.0)
        low, *_ = self._case.get('range', [0])
        two_sided = 'alpha_neg' in self._case['params'] or self._case['case'].startswith('double')
        signed = low < 0 or two_sided
        return quantization.activation(
            'q',
            x,
            scope='q',
            role='body',
            relu=False,
            lower=-math.inf if signed else 0.0,
            point='',
            strongest=True,
        )

    def _compare(
        self, name: str, ours: np.ndarray, relative: float | None = None, but: Any = ()
    ) -> None:
        """Compares an array with the stored one, all values but those at the flat indices ``but``.

        Where the published code gives no number, ours must be zero.
        """
        theirs = self._stored(name).ravel().astype('float64')
        values = np.asarray(ours, 'float64').ravel()
        what = f'{self._case["case"]}/{name}'
        if theirs.shape != values.shape:
            self.problems.append(f'{what}: {values.size} values, published {theirs.size}')
            return
        theirs = np.where(np.isfinite(theirs), theirs, 0.0)
        scale = float(np.abs(theirs).max(initial=0)) or 1.0
        limit = relative or self._case['tolerance_abs'][name] / scale
        difference = np.delete(np.abs(values - theirs), but)
        self.checks.append(Check(what, float(difference.max(initial=0)) / scale, limit))

    def _check_values(self, ours: np.ndarray, book: dict[str, Any]) -> bool:
        """Checks y; at delicate places a neighbouring level will do. Whether it is theirs there.

        Args:
            ours: what the quantizer gives.
            book: its codebook; empty without levels, where nothing is delicate.
        """
        delicate = np.array(self.delicate, int)
        self._compare('y', ours, but=delicate)
        if not self.delicate:
            return True
        levels = book['levels'].T[delicate % book['levels'].shape[1]]  # [values, L]
        theirs = np.abs(self._stored('y').ravel()[delicate, None] - levels).argmin(1)
        found = np.abs(ours.ravel()[delicate, None] - levels).argmin(1)
        if (np.abs(theirs - found) > 1).any():
            self.problems.append(f'{self._case["case"]}/y: no neighbouring level at a threshold')
        return bool((theirs == found).all())

    def _check_gradient(self, ours: np.ndarray) -> bool:
        """Checks gx; whether it agrees at delicate places, too."""
        if 'gx' not in self._case['tolerance_abs']:
            return True
        delicate = self.delicate_gx
        self._compare('gx', ours, but=delicate)
        limit = self._case['tolerance_abs']['gx']
        difference = np.abs(self._stored('gx').ravel() - ours.ravel())[delicate]
        return bool((difference <= limit).all())

    def _check_codebook(self, x: np.ndarray, ours: np.ndarray, book: Codebook) -> None:
        """The levels and thresholds that are shipped must give what was trained."""
        columns = book.levels.shape[1]
        values, found = x.reshape(-1, columns), ours.reshape(-1, columns)
        shipped = np.empty_like(found)
        for c in range(columns):
            index = np.searchsorted(book.thresholds[:, c], values[:, c])
            shipped[:, c] = book.levels[index, c]
        # A tie takes the lower level there.
        ties = np.isin(values, book.thresholds)
        near = np.abs(values[..., None] - book.thresholds.T) <= 1e-6 * np.abs(values[..., None])
        apart = np.where(ties | near.any(-1), 0.0, np.abs(shipped - found))
        scale = float(np.abs(found).max(initial=0)) or 1.0
        what = f'{self._case["case"]}/codebook'
        self.checks.append(Check(what, float(apart.max(initial=0)) / scale, 1e-6))
