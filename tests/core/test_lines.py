"""Ids of lines that cannot be parsed."""

import pytest

from edo_stream.core.lines import id_of


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b'{"id": 7, "key": "a', 7),
        (b'\xef\xbb\xbf { "id" :-7}x', -7),
        (b'{"id":"a\\"b\\u00e9","key":"\xff"}', 'a"bé'),
        ('{"id":"é",'.encode(), "é"),
    ],
)
def test_id_in_front_is_read(line: bytes, expected: object) -> None:
    assert expected == id_of(line)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"garbage",
        b'{"id": 7',
        b'{"id": 7.5,',
        b'{"id":"cut of',
        b'{"id":"\\ud800",',
        b'{"id":"\xff",',
        b'{"id":"\\x",',
        b'{"id":[1],',
        b'[{"id":1,',
        b'{"id":"' + b"a" * 2_000,
    ],
)
def test_id_that_may_be_another_is_not_guessed(line: bytes) -> None:
    assert id_of(line) is None
