"""Files of bit planes: what is read back is what was written, and nothing else is read."""

import re
import zlib

import numpy as np
import pytest

from engine.deployment import (
    interpreter,
    native_layout,
    native_reader,
    native_tables,
    native_writer,
    program,
)
from engine.deployment.native_reader import NativeFile
from engine.errors import UsageError
from tests.engine.deployment import small_programs
from tests.engine.deployment.small_programs import everything

TEXTS = {'points': '[{"point": "ä"}]', 'empty': ''}


def check_equal(found, whole, points, given):
    """The same answers, to the last bit.

    Args:
        found: a program.
        whole: the one that it was made of.
        points: that it has.
        given: images of a point.
    """
    assert list(found.points) == list(points)
    for name in points:
        views = given(whole.points[name])
        for expected, answer in zip(
            interpreter.answers(whole, name, *views), interpreter.answers(found, name, *views)
        ):
            assert answer.tobytes() == expected.tobytes() and answer.shape == expected.shape


def small(_):
    return small_programs.images()


@pytest.fixture(scope='module')
def written():
    """A program with every operation, and the file that is made of it."""
    whole = everything((4, 3, 2))
    return whole, native_writer.serialized(whole, TEXTS)


def test_every_operation_comes_back(written):
    whole, content = written
    assert small_programs.operations(whole) == set(native_layout.KINDS)
    file = NativeFile(content, 'a.lqn')
    assert file.texts == TEXTS and file.points == ['s9-b4', 's9-b3', 's9-b2']
    found = file.program()
    check_equal(found, whole, whole.points, small)
    for name, point in whole.points.items():
        again = found.points[name]
        assert [one.out for one in again.operations] == [one.out for one in point.operations]
        assert again.views == point.views and again.output == point.output
        # The name of a further result of a choice is not stored.
        (told,) = again.choices
        assert told._replace(result='told') == point.choices[0]
        for one, other in zip(again.operations, point.operations):
            assert type(one) is type(other)
            for field, part in program.parts(other).items():
                value = found.value(program.parts(one)[field])
                assert value.tobytes() == whole.value(part).tobytes()
    assert native_writer.serialized(found, TEXTS) == content


def test_codes_of_all_precisions_are_stored_once(written):
    """And numbers as they take least: of 8 bits where that is exact, bands of matrices."""
    whole, content = written
    head = NativeFile(content, 'a.lqn')._head
    assert sorted(head._tables['codes']['bits'].tolist()) == [2, 4, 4]
    assert sorted(head._tables['codes']['weights'].tolist()) == [9 * 12, 64 * 5, 9 * 6 * 12]
    kinds = head._tables['constants']['kind'].tolist()
    assert kinds.count(native_layout.CODED) == 7 and kinds.count(native_layout.BANDED) == 1
    planes = 2 * -(-9 * 12 // 8) + 4 * -(-64 * 5 // 8) + 4 * -(-9 * 6 * 12 // 8)
    others = sum(one.values.size for one in whole.constants.values() if one.shape != (9, 12))
    assert planes < len(content) - head.size < planes + 4 * others
    assert len(head._tables['graphs']) == 1


@pytest.mark.parametrize('kept', [1, 2, 3])
def test_a_file_can_end_with_any_section(kept, written):
    whole, content = written
    end = NativeFile(content, 'a.lqn').sections[kept - 1].end
    cut = NativeFile(content[:end], 'a.lqn')
    points = ['s9-b4', 's9-b3', 's9-b2'][-kept:]
    assert cut.points == points and cut.pending == 0 and len(cut.all_points) == 3
    check_equal(cut.program(), whole, points, small)
    assert cut.first(1 + kept) == content[:end]
    for point in set(cut.all_points) - set(points):
        with pytest.raises(UsageError, match=f"point '{point}': a.lqn has no planes of it yet"):
            cut.program([point])


@pytest.mark.parametrize('step', [1, 100, 10**6])
def test_the_rest_of_a_file_brings_its_points(step, written):
    whole, content = written
    first, second, _ = NativeFile(content, 'a.lqn').sections
    file = NativeFile(content[: first.end], 'a.lqn')
    check_equal(file.program(), whole, ['s9-b2'], small)
    came = {}
    for start in range(first.end, len(content), step):
        for point in file.append(content[start : start + step]):
            came[point] = min(start + step, len(content))
        assert file.points[-1] == 's9-b2'
    assert sorted(came) == ['s9-b3', 's9-b4']
    if step == 1:
        assert came == {'s9-b3': second.end, 's9-b4': len(content)}
    check_equal(file.program(), whole, whole.points, small)
    with pytest.raises(UsageError, match=f'has {len(content) + 1} bytes, of {len(content)} that'):
        file.append(b'x')
    assert file.pending == 0 and file.points == list(whole.points)


def test_a_damaged_rest_leaves_what_is_there(written):
    whole, content = written
    first, second, _ = NativeFile(content, 'a.lqn').sections
    file = NativeFile(content[: first.end], 'a.lqn')
    rest = bytearray(content[first.end : second.end])
    rest[7] ^= 1
    with pytest.raises(UsageError, match=r'section 2 has another checksum\); append it again'):
        file.append(bytes(rest))
    assert file.points == ['s9-b2'] and file.pending == 0
    assert file.append(content[first.end :]) == ['s9-b4', 's9-b3']
    check_equal(file.program(), whole, whole.points, small)


def test_texts_are_added_without_a_change_of_what_is_computed(written):
    whole, content = written
    added = NativeFile(content, 'a.lqn').with_texts({'verified': '[1]', 'empty': 'no more'})
    file = NativeFile(added, 'a.lqn')
    assert file.texts == TEXTS | {'verified': '[1]', 'empty': 'no more'}
    check_equal(file.program(), whole, whole.points, small)


def set_number(content, place, size, value):
    return content[:place] + value.to_bytes(size, 'little') + content[place + size :]


def closed(content):
    """The file with right checksums of head and header."""
    head = int.from_bytes(content[12:16], 'little')
    content = set_number(content, 24, 4, zlib.crc32(content[64:head]))
    return set_number(content, 60, 4, zlib.crc32(content[:60]))


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        (lambda file: b'', 'is no .lqn file'),
        (lambda file: b'PK' + file, 'is no .lqn file'),
        (lambda file: file.replace(b'\r\n', b'\n', 1), 'is no .lqn file'),
        (lambda file: set_number(file, 8, 4, 2), 'has version 2 of the format, .* knows 1'),
        (lambda file: file[:100], 'ends after 100 bytes, in its head'),
        (lambda file: file[:1000], 'ends after 1000 bytes of its head of'),
        (lambda file: set_number(file, 16, 4, 9), r'damaged \(its header has another checksum\)'),
        (lambda file: set_number(file, 40, 4, 9), r'damaged \(its header has another checksum\)'),
        (lambda file: closed(set_number(file, 28, 4, 1)), 'its header has another checksum'),
        (lambda file: set_number(file, 200, 4, 9), r'damaged \(its head has another checksum\)'),
        (lambda file: file[:-5] + b'x' + file[-4:], r'section 3 has another checksum'),
        (lambda file: file[:-1], r'of section 3 \(planes for 4 bits\); a file can end after \d+, '),
        (lambda file: file + b'x', 'bytes, of'),
        (lambda file: closed(set_number(file, 64, 4, 8)), 'the table of sections lies at 8'),
        (lambda file: closed(set_number(file, 68, 4, 2**31)), 'the table of sections lies at'),
        (lambda file: closed(set_number(file, 76, 4, 0)), 'no points, or one twice'),
        (lambda file: closed(set_number(file, 160, 8, 0)), 'a section of .* bytes lies at 0'),
    ],
)
def test_other_files_are_refused(change, said, written, tmp_path):
    _, content = written
    path = tmp_path / 'net.lqn'
    path.write_bytes(change(content))
    with pytest.raises(UsageError, match=f'^{re.escape(str(path))}: .*{said}'):
        native_reader.read(path)


def changed(content, rng):
    """The file with other numbers in one or two records, or planes, under right checksums."""
    head = NativeFile(content, 'a.lqn')._head
    tables = {name: np.array(table) for name, table in head._tables.items() if name != 'strings'}
    tables['strings'] = np.frombuffer(head._tables['strings'], np.uint8).copy()
    for name in ('sections', 'blocks'):
        tables[name] = native_tables.moved(tables[name], -head.size)
    data = bytearray(content[head.size :])
    for _ in range(rng.integers(1, 3)):
        name = rng.choice([*tables, 'data'])
        if name == 'data':
            data[rng.integers(len(data))] ^= 1 << rng.integers(8)
        elif len(tables[name]):
            change_number(tables[name], rng)
    for place, (start, size, *_) in enumerate(tables['sections'].tolist()):
        tables['sections']['checksum'][place] = zlib.crc32(data[start : start + size])
    return native_tables.assembled(tables, bytes(data))


def change_number(table, rng):
    """Puts another number into a record."""
    column = table[rng.choice(table.dtype.names)] if table.dtype.names else table
    numbers = column.reshape(-1)
    place = rng.integers(len(numbers))
    now = int(numbers[place])
    most = np.iinfo(numbers.dtype).max
    values = [0, 1, 2, now + 1, now - 1, 2 * now, now ^ 1 << rng.integers(8), most, most - 1]
    values += [2**31 - 1, int(rng.integers(300))]
    value = values[rng.integers(len(values))]
    numbers[place] = min(max(value, 0), most)


@pytest.mark.parametrize('count', [60, pytest.param(6000, marks=pytest.mark.slow)])
def test_no_number_is_trusted(count, written):
    """A file with wrong numbers is refused with its name, or is a program that can run."""
    _, content = written
    rng = np.random.default_rng(count)
    refused = 0
    for _ in range(count):
        damaged = changed(content, rng)
        try:
            whole = NativeFile(damaged, 'a.lqn').program()
        except UsageError as error:
            assert str(error).startswith('a.lqn: ')
            refused += 1
            continue
        for name, point in whole.points.items():
            sides = [point.side, *(side for _, side in point.views)]
            if max(sides) < 100:
                views = [np.zeros([1, side, side, point.channels], np.uint8) for side in sides]
                with np.errstate(all='ignore'):
                    interpreter.answers(whole, name, *views)
    assert count / 2 < refused < count
