"""Data flow, towers, trainers, evaluation, checkpoints and run folders."""

from typing import TYPE_CHECKING

from engine.version import __version__

if TYPE_CHECKING:
    from engine.deployment.predictor import Predictor

__all__ = ['Predictor', '__version__']


def __getattr__(name: str) -> object:
    """``from engine import Predictor``, without TensorFlow for those who do not ask for it.

    Raises:
        AttributeError: there is no such name.
    """
    if name == 'Predictor':
        from engine.deployment.predictor import Predictor

        return Predictor
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
