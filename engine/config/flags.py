"""Flags made of the fields of option dataclasses: name, type, help with default, range, choices."""

import argparse
import dataclasses
import functools
import types
import typing
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from engine.errors import UsageError
from engine.files import read_json
from engine.quantities import amount
from quant.options import Limits, limits
from quant.spelling import suggestion, unknown


class Flag(NamedTuple):
    """A flag, and the options that it sets.

    Attributes:
        name: of the options.
        kind: type of a value, or of one of several.
        several: whether it takes several values.
        known: what each owner says of it; most options have one owner.
        defaults: by owner.
    """

    name: str
    kind: type[Any]
    several: bool
    known: dict[str, Limits]
    defaults: dict[str, Any]

    @property
    def limits(self) -> Limits:
        """Text and range as its first owner gives them."""
        return next(iter(self.known.values()))

    @property
    def choices(self) -> list[Any]:
        """The values that any owner allows; empty if they are not listed."""
        found: dict[Any, None] = {}
        for known in self.known.values():
            found.update(dict.fromkeys(known.allowed() or ()))
        return list(found)


def flags(owners: Iterable[tuple[str, type[Any]]]) -> dict[str, Flag]:
    """The flags of options by name.

    Args:
        owners: names, for the help of what several have, and dataclasses of options.
    """
    found: dict[str, Flag] = {}
    for owner, options in owners:
        hints = typing.get_type_hints(options)
        for field in dataclasses.fields(options):
            known = limits(field)
            if known is None or not known.flag:
                continue
            if field.name not in found:
                kind, several = _kind(hints[field.name])
                found[field.name] = Flag(field.name, kind, several, {}, {})
            found[field.name].known[owner] = known
            found[field.name].defaults[owner] = field.default
    return found


def _kind(hint: Any) -> tuple[type[Any], bool]:
    """Type of one value, and whether an option has several of them."""
    arguments = [kind for kind in typing.get_args(hint) if kind not in (type(None), ...)]
    if not arguments:
        return hint, False
    if typing.get_origin(hint) is tuple:
        return arguments[0], True
    return _kind(arguments[0])


def add(group: Any, flag: Flag, *, switch: bool = False) -> None:
    """Adds a flag to a group of ``argparse``. Not given, its value is None.

    Args:
        group: of a parser.
        flag: what to add.
        switch: whether a truth value has no ``--no-`` form, and is False where it is not given.
    """
    names = [*flag.limits.short, f'--{flag.name}']
    text = help_text(flag).replace('%', '%%')
    if flag.kind is bool:
        if switch:
            group.add_argument(*names, dest=flag.name, action='store_true', help=text)
        else:
            action = argparse.BooleanOptionalAction
            group.add_argument(*names, dest=flag.name, action=action, help=text)
        return
    more: dict[str, Any] = {}
    if flag.several and flag.limits.parse is None and not flag.limits.file:
        more['nargs'] = '+'
    if flag.limits.alone is not None:
        more.update(nargs='?', const=flag.limits.alone)
    metavar = flag.limits.metavar
    if metavar is None and flag.choices:
        metavar = '{' + ','.join(map(str, flag.choices)) + '}'
    if metavar is None:
        metavar = {int: 'N', float: 'X'}.get(flag.kind, 'NAME')
    group.add_argument(
        *names,
        dest=flag.name,
        type=functools.partial(read, flag),
        metavar=metavar,
        help=text,
        **more,
    )


def help_text(flag: Flag) -> str:
    """Help of a flag, with its range and default; by owner where they differ."""
    texts: dict[str, list[str]] = {}
    for owner, known in flag.known.items():
        texts.setdefault(_text(known, flag.defaults[owner]), []).append(owner)
    if len(texts) == 1:
        return next(iter(texts))
    return '; '.join(f'{", ".join(owners)}: {text}' for text, owners in texts.items())


def _text(known: Limits, default: Any) -> str:
    notes = []
    if known.range_text():
        notes.append(known.range_text())
    if default not in (None, '', ()) and 'default' not in known.help:
        notes.append(f'default {_spelled(default)}')
    if not notes:
        return known.help
    return f'{known.help} ({"; ".join(notes)})'


def _spelled(value: Any) -> str:
    if isinstance(value, bool):
        return 'on' if value else 'off'
    if isinstance(value, tuple):
        return ' '.join(map(str, value))
    return str(value)


def read(flag: Flag, text: str) -> Any:
    """The value of the text of a flag.

    Raises:
        ArgumentTypeError: the text is no value of the flag.
    """
    try:
        value = _value(flag, text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    except ValueError as error:
        told = str(error).removeprefix(f'{text!r}: ')
        raise argparse.ArgumentTypeError(f'{text}: {told}') from None
    if flag.choices and value not in flag.choices:
        raise argparse.ArgumentTypeError(f'{text}: {unknown(text, flag.choices)}')
    if len(flag.known) == 1 and not flag.choices:
        fault = flag.limits.fault(value)
        if fault:
            raise argparse.ArgumentTypeError(f'{text}: {fault}')
    return value


def _value(flag: Flag, text: str) -> Any:
    if flag.limits.file:
        shape = types.GenericAlias(list, (flag.kind,))
        rows = read_json(Path(text), shape, f'expected: {flag.limits.help}')
        return tuple(rows)
    if flag.limits.parse is not None:
        return flag.limits.parse(text)
    if flag.limits.unit:
        return amount(flag.limits.unit, text)
    try:
        return flag.kind(text)
    except ValueError:
        words = {int: 'a whole number'}.get(flag.kind, 'a number')
        bounds = flag.limits.range_text()
        raise ValueError(f'must be {words} {bounds}'.rstrip()) from None


class Speller(argparse.ArgumentParser):
    """A parser that names what was probably meant by an unknown flag or value."""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        choices = action.choices
        if choices is not None and value not in choices:
            raise argparse.ArgumentError(action, f'{value}: {unknown(str(value), choices)}')

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        if action.type is Path and not arg_string:  # which would be the current folder
            raise argparse.ArgumentError(action, "'': is empty; give a path")
        return super()._get_value(action, arg_string)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """The values of flags; what is none of them is an error, see ``error``."""
        found, rest = self.parse_known_args(args, namespace)
        if rest:
            self.error(self.foreign(rest))
        return found

    def foreign(self, words: Sequence[str]) -> str:
        """A message about words of a command line that are no flag of this parser."""
        first = words[0].partition('=')[0]
        if not first.startswith('--') or first == '--':
            return f'unrecognized arguments: {" ".join(words)}'
        known: list[str] = []
        for action in self._actions:
            known += [name for name in action.option_strings if name.startswith('--')]
        guess = suggestion(first, known) or '--help lists all'
        return f'{first}: unknown flag; {guess}'


class Parser(Speller):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Raises what the message says.

        Raises:
            UsageError: always.
        """
        message = message.removeprefix('argument ')
        flag, colon, rest = message.partition(': ')
        if colon and flag.startswith('-') and ':' in rest:
            # The value that a reader has refused stands behind the flag.
            raise UsageError(f'{flag} {rest}')
        raise UsageError(message)
