"""The short form of ``make fuzz``: every reader with some of its damaged files."""

import os
import time

import pytest

from engine.errors import UsageError
from tests.fuzz.harness import Reader, Trial
from tests.fuzz.readers import READERS

# Of all bits, and of random damages.
BITS, RANDOM = 40, 36


@pytest.mark.parametrize('reader', READERS, ids=[reader.name for reader in READERS])
def test_what_was_recorded_or_a_refusal(reader, tmp_path):
    trial = Trial(reader, tmp_path, seed=0)
    found = trial.here(range(0, trial.bits, max(1, trial.bits // BITS)))
    found.add(trial.here(range(trial.bits, trial.bits + RANDOM)))
    assert not found.faults
    assert found.tried >= BITS + RANDOM and found.refused + found.equal + found.other == found.tried


def lazy(path):
    """Reads whatever is there."""
    return path.read_bytes()


def strict(path):
    """Refuses everything but the good file, without naming it."""
    content = path.read_bytes()
    if content != b'abcd':
        raise UsageError('damaged')
    return content


def clumsy(path):
    """Forgets that a file may be empty."""
    return path.read_bytes()[3]


def deadly(path):
    """Ends the process, as a fault in a library does."""
    content = path.read_bytes()
    if content.startswith(b'c'):
        os._exit(3)
    return b'abcd'


def greedy(path):
    """Takes memory at once for what a file says is in it."""
    return bytes(2**31 if path.read_bytes() != b'abcd' else 4)


@pytest.mark.parametrize(
    ('read', 'fault'),
    [
        (lazy, 'reads something else'),
        (strict, 'does not name the file'),
        (clumsy, 'IndexError'),
        (deadly, 'ended its process'),
        (greedy, 'MemoryError'),
    ],
)
def test_what_is_wrong_with_a_reader_is_found(read, fault, tmp_path):
    def write(folder):
        path = folder / 'file'
        path.write_bytes(b'abcd')
        return path

    found = Trial(Reader('broken', write, read), tmp_path, seed=0).apart(range(32 + 12))
    assert any(fault in one for one in found.faults)
    assert found.tried == 44
    again = Trial(Reader('broken', write, read), tmp_path, seed=0).apart(range(32 + 12))
    assert again.faults == found.faults


def test_a_reader_that_hangs_is_ended(tmp_path, monkeypatch):
    def write(folder):
        path = folder / 'file'
        path.write_bytes(b'abcd')
        return path

    def read(path):
        if path.read_bytes()[0] == ord('c'):
            time.sleep(100)
        return b'abcd'

    monkeypatch.setattr('tests.fuzz.harness.PATIENCE', 0.5)
    found = Trial(Reader('broken', write, read), tmp_path, seed=0).apart(range(32))
    assert found.faults == ['number 1: ended its process (-9)'] and found.tried == 32
