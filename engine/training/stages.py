"""Chains of trainings in one command: from bits to fewer bits, from a preset to the next one."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.config.config import Config, read_config
from engine.config.presets import PRESETS
from engine.config.resolve import resolve
from engine.config.unrecorded import RESUMING
from engine.errors import UsageError
from engine.runs import resuming
from engine.runs.folder import CONFIG
from engine.training import starting
from quant.quantizer import FLOAT_BITS

# What was said of a stage and does not hold for the next, whose recipe differs.
OF_STAGE = ('lr', 'epochs')

# Bits of a stage: of weights and activations alike, or of each.
_BITS = re.compile(r'(\d{1,2})|w(\d{1,2})a(\d{1,2})')


@dataclasses.dataclass(frozen=True)
class Stage:
    """One training of a chain.

    Attributes:
        given: options by name, but for the weights to start from.
        title: what it is, for the user.
        end: of the name of its folder, behind that of the chain.
        calibrates: whether the one before needs statistics of all widths.
    """

    given: Mapping[str, Any]
    title: str = ''
    end: str = ''
    calibrates: bool = False

    def folder(self, logdir: Path | None) -> Path | None:
        """Its folder beside that of a chain; None where the configuration names it."""
        if logdir is None or not self.end:
            return logdir
        return logdir.with_name(f'{logdir.name}{self.end}')


def chain(given: Mapping[str, Any], progressive: Sequence[str] | None) -> list[Stage]:
    """The trainings that a command stands for, in their order; most are a single one.

    Args:
        given: options by name, as flags set them.
        progressive: bits by stage; None for those of the preset, or for one training.

    Raises:
        UsageError: the bits are none, do not fall, or are given twice.
    """
    preset = PRESETS.get(given.get('preset', ''))
    if progressive is None and preset is not None and given.keys().isdisjoint(('qw', 'qa', 'bits')):
        progressive = preset.stages or None
    found = [Stage(given)]
    if progressive is not None:
        found = _of_bits(given, progressive)
    last = found[-1]
    while preset is not None and preset.then:
        values = {name: value for name, value in last.given.items() if name not in OF_STAGE}
        values['preset'] = preset.then
        last = Stage(values, f'preset {preset.then}', f'{last.end}-gate', calibrates=True)
        found.append(last)
        preset = PRESETS[preset.then]
    return found


def _of_bits(given: Mapping[str, Any], progressive: Sequence[str]) -> list[Stage]:
    """The trainings of ``--progressive``.

    Raises:
        UsageError: the bits are none, do not fall, or are given twice.
    """
    text = ' '.join(progressive)
    for name in ('qw', 'qa', 'bits'):
        if name in given:
            value = given[name]
            if isinstance(value, tuple):
                value = ' '.join(value)
            raise UsageError(f'--{name} {value} with --progressive {text}: give one of them')
    pairs = [_parsed(one, text) for one in progressive]
    if len(pairs) < 2:
        qw, qa = pairs[0]
        raise UsageError(
            f'--progressive {text}: give the bits of two stages or more, such as 4 3 2; a single '
            f'one is --qw {qw} --qa {qa}'
        )
    for before, after in zip(pairs, pairs[1:]):
        if after == before or after[0] > before[0] or after[1] > before[1]:
            raise UsageError(
                f'--progressive {text}: {_name(after)} after {_name(before)}; bits must fall from '
                'stage to stage'
            )
    names = tuple(map(_name, pairs))
    found = []
    for name, (qw, qa) in zip(names, pairs):
        values = {**given, 'qw': qw, 'qa': qa, 'stages': names}
        for half, bits in (('weight_quantizer', qw), ('activation_quantizer', qa)):
            if bits == FLOAT_BITS:
                values[half] = ''
        found.append(Stage(values, f'{name} of {" ".join(names)}', f'-{name}'))
    return found


def _parsed(one: str, text: str) -> tuple[int, int]:
    """Bits of weights and of activations of a stage.

    Raises:
        UsageError: the text is no number of bits.
    """
    match = _BITS.fullmatch(one)
    if match is None:
        raise UsageError(
            f'--progressive {text}: {one!r} is no number of bits; expected such as 4 3 2, or '
            'w32a4 w4a4'
        )
    same, qw, qa = match.groups()
    return int(qw or same), int(qa or same)


def _name(bits: tuple[int, int]) -> str:
    return f'w{bits[0]}a{bits[1]}'


def checked(
    chain: Sequence[Stage], logdir: Path | None, action: str | None, *, first: bool = True
) -> list[Stage]:
    """The stages of a chain with one form of blocks for all, looked at before the first is trained.

    Args:
        chain: several stages.
        logdir: of the chain, if given.
        action: what is done with folders that are there.
        first: whether this is the first worker.

    Raises:
        UsageError: a stage cannot be trained, or its folder holds something else.
    """
    if action == 'p':
        raise UsageError(
            '-a p with several stages: what another stage began with cannot be prolonged; prolong '
            'the last one by its own flags and --load'
        )
    # The form of the one with the fewest bits: others can have it too.
    last = [stage for stage in chain if not stage.calibrates][-1]
    mode = _resolved(last, first).mode
    found = []
    for stage in chain:
        if not stage.calibrates:
            stage = dataclasses.replace(stage, given={'mode': mode, **stage.given})
        found.append(stage)
    _check_folders(found, logdir, action in RESUMING, first)
    return found


def _check_folders(chain: Sequence[Stage], logdir: Path | None, resumes: bool, first: bool) -> None:
    """Checks every configuration, and what the folders hold that the chain goes on with.

    Args:
        chain: the stages.
        logdir: of the chain, if given.
        resumes: whether it goes on with what is there.
        first: whether this is the first worker.

    Raises:
        UsageError: a stage cannot be trained, or its folder holds something else.
    """
    load = chain[0].given.get('load')
    longer = ''
    for stage in chain:
        config = _resolved(stage, first).replacing(load=load)
        folder = stage.folder(logdir) or Path('train_log') / config.name
        load = str(folder)
        if not resumes or not (folder / CONFIG).exists():
            continue
        there = read_config(folder / CONFIG)
        asked = resuming.Asked(config, frozenset(stage.given), data_known=True)
        asked.of_run(there, folder, 0)
        if longer:
            raise UsageError(
                f'{longer}, and the stage in {folder} began with its weights; give the same '
                '--epochs, or -a n for new folders'
            )
        if there.epochs != config.epochs:
            longer = f'--epochs {config.epochs}: {folder} was trained for {there.epochs}'


def _resolved(stage: Stage, first: bool) -> Config:
    """The configuration of a stage; an error says which stage it is about.

    Args:
        stage: of a chain.
        first: whether this is the first worker.

    Raises:
        UsageError: the stage cannot be trained.
    """
    try:
        config, _, _ = resolve(stage.given, starting.described(stage.given, first=first))
    except UsageError as error:
        if not stage.title:
            raise
        raise UsageError(f'{stage.title}: {error}') from error
    return config
