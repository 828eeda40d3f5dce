"""Options of Mixup and CutMix, which mix the images of a batch in pairs."""

import dataclasses

from quant.options import option


@dataclasses.dataclass(frozen=True)
class MixingOptions:
    """How images of a training batch are mixed; with both kinds each batch is of one of them."""

    mixup: float = option(
        0.0,
        'Mixup: each image is mixed with another, with a share of Beta(A, A), and their labels '
        'too; 0.2 is usual, 0 is off',
        low=0,
        high=100,
        metavar='A',
    )
    cutmix: float = option(
        0.0,
        'CutMix: a box of another image in each, whose share is of Beta(A, A); 1 is usual, 0 is '
        'off',
        low=0,
        high=100,
        metavar='A',
    )

    @property
    def mixes(self) -> bool:
        """Whether images are mixed at all."""
        return self.mixup > 0 or self.cutmix > 0
