"""JSON pointers into data (RFC 6901 §5)."""

from decimal import Decimal
from typing import Any

import pytest

from edo_stream.core.pointer import MISSING, parse_json, parse_pointer, resolve

DOCUMENT = (
    b'{"foo":["bar","baz"],"":0,"a/b":1,"m~n":8,"n":null,"big":12345678901234567890123,"d":1.10}'
)


@pytest.mark.parametrize(
    ("pointer", "expected"),
    [
        ("/foo/0", "bar"),
        ("/foo/1", "baz"),
        ("/", 0),
        ("/a~1b", 1),
        ("/m~0n", 8),
        ("/n", None),
        ("/big", 12345678901234567890123),
        ("/d", Decimal("1.10")),
        ("/foo/2", MISSING),
        ("/foo/-", MISSING),
        ("/foo/²", MISSING),
        ("/foo/0/x", MISSING),
        ("/none", MISSING),
    ],
)
def test_a_pointer_finds_its_value(pointer: str, expected: Any) -> None:
    assert expected == resolve(parse_json(DOCUMENT), parse_pointer(pointer))


@pytest.mark.parametrize("data", [None, b"", b"{", b"\xff", b"[" * 100_000])
def test_what_is_no_json_holds_nothing(data: bytes | None) -> None:
    assert parse_json(data) is MISSING


def test_an_exponent_that_no_decimal_has_hides_nothing_else() -> None:
    document = parse_json(b'{"id":"o-1","tiny":-1.5e-99999999999999999999,"n":1e999999999}')
    assert {"id": "o-1", "tiny": 0, "n": Decimal("1e999999999")} == document
    assert parse_json(b'{"huge":1e99999999999999999999}') is MISSING
