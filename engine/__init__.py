"""Data flow, towers, trainers, evaluation, checkpoints and run folders."""

from engine.version import __version__

__all__ = ['Predictor', '__version__']


def __getattr__(name: str) -> object:
    """``from engine import Predictor``, without TensorFlow for those who do not ask for it."""
    if name == 'Predictor':
        from engine.deployment.predictor import Predictor

        return Predictor
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
