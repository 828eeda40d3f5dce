"""The texts that an exported file carries: what it holds, for people and for programs that run it.

Every field of ``Texts`` is one text of the file, the field's value in JSON under the field's name:
lists, and objects whose members are numbers, words and lists of these. Nothing is nested deeper, so
that a few lines of any language read them. Readers ignore members that they do not know.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, Literal

from engine.errors import UsageError
from engine.results.chains import Combination
from engine.schema import Amount, Count, Misfit, Part, Percent, Positive, checked


@dataclasses.dataclass(frozen=True)
class PointText(Part):
    """An operating point of the file.

    Attributes:
        point: spelling.
        side: edge in pixels of the images that the file takes.
        size: edge in pixels of what the network sees of them.
        top1: percent, as evaluation recorded it of this checkpoint; None if it has not.
        top5: percent, of the same record.
        evaluated: images of that evaluation; None without one.
        madds: multiply-adds of one image, without those of ``choices``; None if the run has no
            layer records.
        weight_bytes: of the packed weights that the point uses; None without layer records.
    """

    point: str
    side: Positive
    size: Positive
    top1: Percent | None = None
    top5: Percent | None = None
    evaluated: Count | None = None
    madds: Count | None = None
    weight_bytes: Count | None = None


@dataclasses.dataclass(frozen=True)
class ChoiceText(Part):
    """The meaning of a column of the output ``executed``.

    Attributes:
        name: ``exit``, ``width``, ``stage`` of a cascade, or the scope of a block that is executed
            or not.
        numbers: all that it can be, ascending.
        madds: that each of them adds to those of the point; none without layer records.
    """

    name: str
    numbers: tuple[Count, ...]
    madds: tuple[Count, ...] = ()


@dataclasses.dataclass(frozen=True)
class BudgetText(Part):
    """A way to run what chooses image by image, with its cost, as evaluation recorded them.

    Attributes:
        point: spelling of what chooses.
        top1: percent.
        madds: multiply-adds of an image, the mean.
        thresholds: by exit or stage, for the input ``thresholds``; none without these.
    """

    point: str
    top1: Percent
    madds: Count
    thresholds: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True)
class CascadeText(Part):
    """A cascade that a file carries out, as ``engine.results.cascades.Cascade`` was chosen.

    Attributes:
        points: spellings, by stage.
        thresholds: by stage, the defaults of the input ``thresholds``: the least logarithm of the
            probability of the answer with which an image leaves.
        combine: which stages answer: the ``last``, or the ``mean`` of the probabilities of all.
        temperatures: by which the logits of each stage are divided.
        asked: budget or accuracy that was asked for.
        instead: the most accurate point of no more cost.
        identity: of the checkpoint and its calibrated statistics.
        holdout_images: that thresholds were chosen by.
        holdout_top1: percent of them, right.
        holdout_shares: of them, by the stage that answered.
        holdout_madds: mean of them; None without layer records.
        validation_images: others, that the cascade was judged on.
        validation_top1: percent of these, right.
        validation_top5: percent, with the right class among the first five.
        validation_shares: of these, by the stage that answered.
        validation_madds: mean of these; None without layer records.
        sides: edges in pixels of the further inputs ``images_SIDE``, for stages whose size is made
            of an image while loading; none where one input serves all.
    """

    points: tuple[str, ...]
    thresholds: tuple[float, ...]
    combine: str
    temperatures: tuple[Amount, ...]
    asked: str
    instead: str
    identity: str
    holdout_images: Count
    holdout_top1: Percent
    holdout_shares: tuple[Amount, ...]
    validation_images: Count
    validation_top1: Percent
    validation_top5: Percent
    validation_shares: tuple[Amount, ...]
    holdout_madds: Count | None = None
    validation_madds: Count | None = None
    sides: tuple[Positive, ...] = ()

    def __post_init__(self) -> None:
        counts = [len(self.points), len(self.thresholds), len(self.temperatures)]
        if len({*counts, len(self.holdout_shares), len(self.validation_shares)}) > 1:
            raise ValueError('cascade: every stage has a threshold, a temperature and shares')

    @property
    def combination(self) -> Combination:
        """How its stages answer."""
        return Combination(self.combine, self.temperatures)


@dataclasses.dataclass(frozen=True)
class ImageText(Part):
    """How an image becomes the input of the file, and what the file does with it.

    Attributes:
        dtype: type of the input, ``uint8`` or ``float32``; from 0 to 255.
        layout: order of its axes.
        channels: their order in the input.
        before: what is left to do for who calls the file, in this order.
        inside: what the file does itself, in this order.
        network_channels: order of channels that the network sees.
        mean: of each of these, subtracted from pixels in [0, 1]; none is none.
        std: of each, what divides the difference.
        augmentation: our name for how evaluation cuts images; behind a colon the share of the
            shortest edge that it keeps, where that is not 0.875.
        resize: our name for how sizes are made.
        inputs: our name for the numbers that the network takes.
        view: edge in pixels of the view that all sizes are made from; None if each has its own.
    """

    dtype: Literal['uint8', 'float32']
    layout: str
    channels: str
    before: tuple[str, ...]
    inside: tuple[str, ...]
    network_channels: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augmentation: str
    resize: str
    inputs: str
    view: Positive | None = None


@dataclasses.dataclass(frozen=True)
class NetworkText(Part):
    """The network and its bits.

    Attributes:
        net: family.
        arch: backbone.
        width: factor of its channels.
        classes: how many.
        weights: name of the quantizer of weights; ``float`` without one.
        activations: name of the quantizer of activations; ``float`` without one.
        qw: bits of weights; 32 is float, here and below.
        qa: bits of activations.
        stem_bits: of the weights of the first layer.
        head_bits: of the weights of the classifier and of its input.
        policy: further rules, in the spelling of Python.
    """

    net: str
    arch: str
    width: float
    classes: Count
    weights: str
    activations: str
    qw: Positive
    qa: Positive
    stem_bits: Positive
    head_bits: Positive
    policy: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class SourceText(Part):
    """The run that a file was made of, and its data, as ``data.json`` knows these.

    Attributes:
        run: name of the run folder.
        checkpoint: name of the checkpoint in it.
        weights: ``raw``, or ``ema`` for averages.
        sha256: of all values of the checkpoint.
        data: name of the data set.
        training_images: how many; None if the run has not recorded it, here and below.
        training_crc32: checksum of their names and labels.
        training_content: sum of their fingerprints.
        validation_images: how many.
        validation_crc32: checksum of their names and labels.
        validation_content: sum of their fingerprints.
    """

    run: str
    checkpoint: str
    weights: str
    sha256: str
    data: str
    training_images: Count | None = None
    training_crc32: Count | None = None
    training_content: str | None = None
    validation_images: Count | None = None
    validation_crc32: Count | None = None
    validation_content: str | None = None


@dataclasses.dataclass(frozen=True)
class VersionText(Part):
    """Versions of the programs that wrote a file.

    Attributes:
        switchable_nets: version of this package.
        library: name and version of what it was written with.
        form: as of ``--form``.
    """

    switchable_nets: str
    library: str
    form: str


@dataclasses.dataclass(frozen=True)
class VerifiedText(Part):
    """A comparison of the file with evaluation.

    Attributes:
        runtime: name and version of what ran the file.
        point: spelling; of several of which the same is to be said, with blanks between.
        images: how many at each.
        differing: answers at each that were not those of evaluation.
    """

    runtime: str
    point: str
    images: Count
    differing: Count


@dataclasses.dataclass(frozen=True)
class Texts(Part):
    """All texts of a file.

    Attributes:
        points: operating points in the order in which the input ``point`` counts them.
        images: how images are prepared.
        network: the network and its bits.
        source: the run.
        versions: what wrote the file.
        class_names: in the order of the logits; none if they are not known.
        executed: which layers run for an image.
        choices: columns of the output ``executed``, of a file that chooses image by image.
        cascade: that such a file carries out; None of other files.
        budgets: ways to run such a file, cheapest first.
        verified: how the file was checked.
    """

    points: tuple[PointText, ...]
    images: ImageText
    network: NetworkText
    source: SourceText
    versions: VersionText
    class_names: tuple[str, ...] = ()
    executed: str = 'every layer, for every image'
    choices: tuple[ChoiceText, ...] = ()
    cascade: CascadeText | None = None
    budgets: tuple[BudgetText, ...] = ()
    verified: tuple[VerifiedText, ...] = ()

    def __post_init__(self) -> None:
        if not self.points:
            raise ValueError('points: at least one expected')

    def spelled(self) -> dict[str, str]:
        """The texts by name."""
        found = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            # What is not known yet is written later.
            if field.name not in ('verified', 'choices', 'cascade', 'budgets') or value:
                found[field.name] = spell(value)
        return found


def spell(value: Any) -> str:
    """A value of ``Texts`` as its text."""
    return json.dumps(_plain(value), separators=(',', ':'))


def _plain(value: Any) -> Any:
    """A value as plain data, without members that are None."""
    if dataclasses.is_dataclass(value):
        members = {}
        for field in dataclasses.fields(value):
            member = getattr(value, field.name)
            if member is not None:
                members[field.name] = member
        return members
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return value


def parse(found: Mapping[str, str], file: str) -> Texts:
    """The texts of a file.

    Args:
        found: all texts that it carries, by name.
        file: name of the file, for messages.

    Raises:
        UsageError: they are not those of an exported file.
    """
    values = {}
    try:
        for field in dataclasses.fields(Texts):
            if field.name in found:
                values[field.name] = json.loads(found[field.name])
        return checked(values, Texts)
    except Misfit as error:
        why = str(error)
    except (ValueError, RecursionError):
        why = f'"{field.name}": is no JSON'
    raise UsageError(f'{file}: was not written by python -m scripts.export ({why})')
