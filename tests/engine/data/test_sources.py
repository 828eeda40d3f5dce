"""Reading image files from what does not always answer."""

import errno
import os

import numpy as np
import pytest

from engine.data import sources
from engine.data.sources import BadImage, FileSource
from engine.errors import UsageError


class Network(FileSource):
    """One file that is read after so many answers of another kind."""

    def __init__(self, root, answers):
        super().__init__(root, ['a.png'], [0])
        self.answers = list(answers)

    def _bytes(self, i):
        if self.answers:
            number = self.answers.pop(0)
            raise OSError(number, os.strerror(number))
        return np.zeros(3, np.uint8)


@pytest.fixture
def waited(monkeypatch):
    """The pauses that were made."""
    pauses = []
    monkeypatch.setattr(sources.time, 'sleep', pauses.append)
    return pauses


def test_what_stalls_for_half_a_minute_is_asked_again(waited, tmp_path):
    answers = [errno.ESTALE, errno.ETIMEDOUT, errno.EIO, errno.ENETDOWN, errno.EIO, errno.ESTALE]
    assert len(Network(tmp_path, answers).encoded(0)) == 3
    assert sum(waited) >= 30


def test_what_is_gone_ends_the_run_and_costs_no_image(waited, tmp_path):
    with pytest.raises(UsageError, match='a.png cannot be read: the file system of') as error:
        Network(tmp_path, [errno.ETIMEDOUT] * 7).encoded(0)
    assert not isinstance(error.value, BadImage) and len(waited) == 6


@pytest.mark.parametrize('number, pauses', [(errno.EACCES, 0), (errno.ENOENT, 0), (errno.EIO, 6)])
def test_damage_is_a_bad_image(number, pauses, waited, tmp_path):
    with pytest.raises(BadImage, match='cannot read a.png'):
        Network(tmp_path, [number] * 7).encoded(0)
    assert len(waited) == pauses
