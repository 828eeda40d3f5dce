"""Teachers: another network that a training learns from beside its labels, and by how much."""

import dataclasses
from pathlib import Path

from nets.points import Point
from quant.options import option


@dataclasses.dataclass(frozen=True)
class TeachingOptions:
    """A trained network that teaches, and the weights of what it and the labels say.

    Raises:
        ValueError: there is nothing to learn from, or a weight without a teacher.
    """

    teacher: str | None = option(
        None,
        'learn from the answers of this run folder or checkpoint, of any network and size; a colon '
        'and an operating point after it say at which (default: the strongest)',
        metavar='CKPT[:POINT]',
    )
    teacher_weight: float = option(
        1.0, 'of --teacher: weight of the divergence from it, at every point', low=0
    )
    label_weight: float = option(
        1.0, 'with --teacher: weight of the losses by labels; 0 learns from it alone', low=0
    )
    teacher_bf16: bool = option(False, 'compute --teacher in bfloat16')

    def __post_init__(self) -> None:
        if not self.teacher:
            for field in dataclasses.fields(self)[1:]:
                value = getattr(self, field.name)
                if value != field.default:
                    raise ValueError(f'{field.name} {value}: needs --teacher')
        elif not self.teacher_weight and not self.label_weight:
            raise ValueError(
                'teacher_weight 0 with --label_weight 0: leaves nothing to learn from; give one of '
                'them a weight'
            )


def split(text: str) -> tuple[str, Point | None]:
    """Path and operating point of what ``--teacher`` names; None where it names no point.

    Raises:
        ValueError: what follows the last colon is no operating point, and belongs to no path.
    """
    path, colon, name = text.rpartition(':')
    if not colon or Path(text).exists() or Path(f'{text}.index').exists():
        return text, None
    if '/' in name and not Path(path).exists():
        return text, None
    return path, Point.parse(name)
