"""Command lines in a folder of all kinds of things, that stop where they would start to compute."""

import shlex
from pathlib import Path

import pytest

import imagenet_tf
from engine.config.config import Config

RUN = Config.from_values(
    mode='resnet',
    arch='resnet8',
    sizes=(16, 12),
    data='animals28',
    classes=10,
    image_size=28,
    width=0.25,
    steps_per_epoch=10,
    epochs=2,
)


class Reached(BaseException):
    """The command was accepted and would start to compute."""


def reached(config_or_model, *args, **kwargs):
    raise Reached(getattr(config_or_model, 'config', config_or_model))


def call(line: str) -> int:
    try:
        return imagenet_tf.main(shlex.split(line))
    except SystemExit as end:  # argparse
        return end.code


def tree(root: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else None
        for path in root.rglob('*')
    }


def accepted(line: str) -> Config:
    """Configuration with which a command starts to compute."""
    with pytest.raises(Reached) as caught:
        call(line)
    return caught.value.args[0]
