"""What may be asked for the state of a key, and how it is said what is wrong with it."""

import pytest

from edo_stream.engine.read_model import MinOffset, Question
from edo_stream.engine.state_page import question_of


def test_a_question_has_its_key_as_bytes_and_its_bounds() -> None:
    found = question_of(
        "pair",
        "a%2Fb%20%FF",
        [
            ("min_offset", "t.a.b:3:17,t.c.d:0:0"),
            ("min_offset", "t.e.f:1:2"),
            ("wait", "0.5"),
            ("events", "7"),
            ("after", "00ff"),
        ],
    )
    wanted = [MinOffset("t.a.b", 3, 17), MinOffset("t.c.d", 0, 0), MinOffset("t.e.f", 1, 2)]
    assert Question("pair", b"a/b \xff", wanted, 0.5, 7, b"\0\xff") == found
    assert Question("a/b", b"k", []) == question_of("a%2Fb", "k", [])
    assert b"\0\xff?" == question_of("pair", "AP8_", [("encoding", "base64")]).key


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("min_offset", "t", "topic:partition:offset"),
        ("min_offset", "t:1", "topic:partition:offset"),
        ("min_offset", "t:-1:2", "topic:partition:offset"),
        ("min_offset", "t:1:2:3", "topic:partition:offset"),
        ("min_offset", "t:1:٣", "topic:partition:offset"),
        ("min_offset", "t:1:" + "9" * 5_000, "topic:partition:offset"),
        ("min_offset", "t:1:9223372036854775808", "no such offset"),
        ("min_offset", ",".join(["t:1:2"] * 101), "100 at most"),
        ("wait", "nan", "10 at most"),
        ("wait", "11", "10 at most"),
        ("wait", "soon", "10 at most"),
        ("events", "0", "from 1 to 1000"),
        ("events", "1001", "from 1 to 1000"),
        ("events", "9" * 5_000, "from 1 to 1000"),
        ("after", "xyz", "what next said"),
        ("encoding", "hex", "utf-8 or base64"),
        ("minoffset", "t:1:2", "known are min_offset"),
    ],
)
def test_what_cannot_be_asked_is_told(name: str, value: str, told: str) -> None:
    with pytest.raises(ValueError, match=told) as caught:
        question_of("pair", "k", [(name, value)])
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("key", ["a", "!!", "bz!E=", "bz%0AE=", "b%C3%BC"])
def test_a_key_that_is_no_base64_is_told(key: str) -> None:
    with pytest.raises(ValueError, match="base64"):
        question_of("pair", key, [("encoding", "base64")])
