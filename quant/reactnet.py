"""ReActNet: binary weights and activations, whose threshold is learned for every channel.

Reference:
    ReActNet: Towards Precise Binary Neural Network with Generalized Activation Functions, ECCV
    2020, https://arxiv.org/abs/2003.03488, equation 4 (RSign) and section 4.2; behaviour of the
    published code where ``zero`` is 0. Its RPReLU is an activation function of networks.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from quant.backend import tf
from quant.bireal import BiReal
from quant.quantizer import Activations, check_bools
from quant.recipe import FLOAT_SHORTCUTS, Recipe


@dataclasses.dataclass(frozen=True)
class ReActNet(BiReal):
    """ReActNet quantizer: signs of activations that a learned shift of each channel moves before.

    Activations: ``sign(x + shift)``; a shift starts at 0 and is learned by gradient. All else is
    that of ``BiReal``.

    Attributes:
        private: activations have shifts per input size instead of one set for all.

    *Variable names*: ``shift`` [C]; a narrow network has the first of them.
    """

    private: bool = False

    # Activations first, then weights.
    recipe: ClassVar[Recipe | None] = Recipe(
        {
            'quantizer': 'reactnet',
            'activation': 'rprelu',
            'qw': 1,
            'qa': 1,
            'policy': FLOAT_SHORTCUTS,
            'optimizer': 'adam',
            'batch_size': 512,
            'lr': 2.5e-3,
            'schedule': 'linear',
            'epochs': 128,
            'wd': 0.0,
        },
        'ResNet-18 at 224 with --teacher a ResNet-34 alone: W1A1 65.9; its repository (ReActNet), '
        'whose blocks differ',
        at_bits={'w32a1': {'wd': 1e-5}},
        stages=('w32a1', 'w1a1'),
        with_teacher={'label_weight': 0.0},
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_bools(self, 'private')

    def activation(self, x: tf.Tensor, activations: Activations) -> tf.Tensor:
        """Signs of shifted values, which take the place of a ReLU before them."""
        tower = activations.tower
        channels = activations.channels or x.shape[activations.axis]

        def make() -> tf.Tensor:
            zeros = tf.zeros_initializer()
            shift = tower.variable('shift', [channels], initializer=zeros, trainable=True)
            return tf.convert_to_tensor(shift)

        used = tower.once(make)
        count = x.shape[activations.axis]
        if count is None:
            count = tf.shape(x)[activations.axis]
        if tf.is_tensor(count) or count < channels:
            used = used[:count]
        shape = [1] * x.shape.rank
        shape[activations.axis] = -1
        shifted = x + tf.reshape(used, shape)
        tower.describes(shifted)
        return super().activation(shifted, activations)
