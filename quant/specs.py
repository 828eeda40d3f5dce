"""Specs that select quantizers by name, such as ``lq(bits=4, private=True)``."""

import ast
import dataclasses
import functools
import importlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quant.quantizer import FLOAT_BITS, Quantizer
from quant.spelling import suggestion, unknown

FLOAT = 'float'

# Characters of a spec: far more than any options need.
_LONGEST = 1000

# Name in a spec -> class, imported when first used. One line per quantizer.
_QUANTIZERS = {
    'adabits': 'quant.adabits.AdaBits',
    'affine': 'quant.affine.Affine',
    'anyprecision': 'quant.anyprecision.AnyPrecision',
    'apot': 'quant.apot.APoT',
    'bireal': 'quant.bireal.BiReal',
    'dorefa': 'quant.dorefa.DoReFa',
    'ewgs': 'quant.ewgs.EWGS',
    'lq': 'quant.lq.quantizer.LQ',
    'lsq': 'quant.lsq.LSQ',
    'lsqplus': 'quant.lsqplus.LSQPlus',
    'n2uq': 'quant.n2uq.N2UQ',
    'pact': 'quant.pact.PACT',
    'reactnet': 'quant.reactnet.ReActNet',
    'sawb': 'quant.sawb.SAWB',
    'ttq': 'quant.ttq.TTQ',
    'twn': 'quant.twn.TWN',
    'xnor': 'quant.xnor.XNOR',
}


def names() -> list[str]:
    """Names that a spec can use."""
    return sorted(_QUANTIZERS)


def register(name: str, place: str) -> None:
    """Makes a quantizer that is no part of this package known to this process.

    Args:
        name: That specs can use from now on.
        place: Module and class, such as ``own.MaxAbs``.

    Raises:
        ValueError: Another quantizer has the name.
    """
    if _QUANTIZERS.get(name, place) != place:
        raise ValueError(f'{name!r} is the quantizer {_QUANTIZERS[name]}')
    _QUANTIZERS[name] = place


def summary(name: str) -> str:
    """First line of the docstring of a quantizer, read without importing TensorFlow."""
    module, _, cls = _QUANTIZERS[name].rpartition('.')
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return ''
    for node in ast.parse(Path(spec.origin).read_text()).body:
        if isinstance(node, ast.ClassDef) and node.name == cls:
            return (ast.get_docstring(node) or '').partition('\n')[0].rstrip('.')
    return ''


def split(spec: str) -> tuple[str, dict[str, Any]]:
    """Name and options of a spec.

    Args:
        spec: a name, or a name with literal keyword arguments, such as ``lq(bits=2)``.

    Raises:
        ValueError: the spec is not of that form.

    >>> split('lq(bits=4, private=True)')
    ('lq', {'bits': 4, 'private': True})
    """
    if len(spec) > _LONGEST:
        raise ValueError(f'quantizer spec {spec[:40]!r}...: longer than {_LONGEST} characters')
    try:
        call = ast.parse(spec, mode='eval').body
        if isinstance(call, ast.Name):
            return call.id, {}
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
            raise ValueError('not a name with keyword arguments')
        options = {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
        if len(options) < len(call.keywords):
            raise ValueError('an option is repeated')
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(
            f'quantizer spec {spec!r}: expected {FLOAT!r} or a form such as "lq(bits=2)"'
        ) from error
    return call.func.id, options


def with_options(spec: str, options: Mapping[str, Any]) -> str:
    """A spec with these options in place of its own.

    >>> with_options('lq(decay=0.5)', {'bits': 2})
    'lq(bits=2, decay=0.5)'
    """
    name, own = split(spec)
    merged = {**own, **options}
    ordered = sorted(merged, key=lambda option: option != 'bits')
    return f'{name}({", ".join(f"{option}={merged[option]!r}" for option in ordered)})'


def spelled(quantizer: Quantizer) -> str:
    """The spec of a quantizer: its bits, and what differs from its defaults.

    >>> spelled(parse('lsq(centred=True, delta=0.0)'))
    'lsq(bits=2, centred=True)'
    """
    cls: Any = type(quantizer)
    places = {place: name for name, place in _QUANTIZERS.items()}
    name = places[f'{cls.__module__}.{cls.__qualname__}']
    values: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        value = getattr(quantizer, field.name)
        if field.name == 'bits' or value != field.default:
            values[field.name] = value
    return with_options(name, values)


def bits_in(spec: str) -> int | None:
    """Bits that a spec names: 32 for ``float``, None where it does not say.

    Raises:
        ValueError: the spec is not of the form of one.
    """
    if spec == FLOAT:
        return FLOAT_BITS
    if not spec:
        return None
    _, options = split(spec)
    bits = options.get('bits')
    if isinstance(bits, int):
        return bits
    return None


def precisions_in(spec: str) -> tuple[str, ...]:
    """Bits of several precisions that a spec names, as ``--bits`` has them; none if it does not.

    >>> precisions_in('lq(bits=(4, 2), nested=True)'), precisions_in('lq(bits=4)')
    (('4', '2'), ())

    Raises:
        ValueError: the spec is not of the form of one.
    """
    if spec in ('', FLOAT):
        return ()
    _, given = split(spec)
    bits = given.get('bits')
    if isinstance(bits, (tuple, list)):
        return tuple(map(str, bits))
    return ()


def shares_codes(spec: str | None) -> bool:
    """Whether the codes of weights follow from all precisions of a network, as a spec says.

    >>> shares_codes('lq(bits=2, nested=True, precisions=(4, 2))'), shares_codes('lq(bits=2)')
    (True, False)
    """
    return spec is not None and 'precisions' in split(spec)[1]


def options(name: str) -> list[str]:
    """Names of the options of a quantizer.

    Raises:
        ValueError: there is no quantizer of this name.
    """
    return [field.name for field in dataclasses.fields(kind(name))]


def recipe(name: str) -> Any:
    """How a method is trained as published, of its own class; None without.

    Raises:
        ValueError: there is no quantizer of this name.
    """
    return vars(kind(name)).get('recipe')


def kind(name: str) -> Any:
    """The class of the quantizer of this name.

    Raises:
        ValueError: there is none.
    """
    if name not in _QUANTIZERS:
        raise ValueError(f'{name!r} is {unknown(name, [FLOAT, *names()])}')
    module, _, cls = _QUANTIZERS[name].rpartition('.')
    return getattr(importlib.import_module(module), cls)


@functools.cache
def parse(spec: str) -> Quantizer | None:
    """The quantizer that a spec names, or None for ``float``.

    Args:
        spec: ``float``, a name, or a name with literal keyword arguments, such as ``lq(bits=2)``.

    Raises:
        ValueError: the spec is not of that form, or names no registered quantizer or option.
    """
    if spec == FLOAT:
        return None
    name, values = split(spec)
    try:
        cls = kind(name)
        foreign = sorted(set(values) - set(options(name)))
        if foreign:
            guess = suggestion(foreign[0], options(name))
            known = f'it has {", ".join(options(name))}'
            text = f'{guess} {known}'.strip()
            raise ValueError(f'{name} has no option {foreign[0]!r}; {text}')
        return cls(**values)
    except ValueError as error:
        raise ValueError(f'quantizer spec {spec!r}: {error}') from error
