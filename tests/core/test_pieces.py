"""An event's list taken apart: which commands there are, against the plainest account of it."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from edo_stream.core.correlation.ends import EndFeed
from edo_stream.core.correlation.joined import Joined, decode_joined
from edo_stream.core.effects import Publish
from edo_stream.core.event import Event
from edo_stream.core.facts import Facts
from edo_stream.core.pieces import BYTES_MAX, OnEmpty, Split
from edo_stream.core.record import StoredRecord
from edo_stream.core.trigger import FlowTrigger, Trigger
from tests.core.bench import IDENTITY, NOW_MS, TOPIC, contract

RECORD = StoredRecord(TOPIC, 5, 7, NOW_MS, b"record", b"{}")
COMMANDS, LETTERS, OUTCOMES = "edo.commands.f", "edo.dead-letters.f", "edo.outcomes.f"
ENDS = (EndFeed("gatherer", "edo.joins.joins", 3),)


def written(
    data: bytes | None, split: Split, make: Any = None, offset: int = 7, key: str | None = None
) -> list[Publish]:
    event = Event("e-1", "/shop", "order.placed", b"k", data, content_type="application/json")
    flow = FlowTrigger("f", COMMANDS, LETTERS, 8, key, make=make, split=split)
    record = replace(RECORD, offset=offset)
    return list(Trigger(IDENTITY, contract(), flow).commands(record, event, NOW_MS))


def said(record: Publish) -> dict[str, str]:
    return {name: (value or b"").decode() for name, value in record.headers}


def split_at(*tokens: str, **more: Any) -> Split:
    return Split(OUTCOMES, at=tokens, **more)


SCALARS = st.none() | st.booleans() | st.integers() | st.text('ab"é', max_size=5)
ELEMENTS = st.fixed_dictionaries(
    {}, optional={"sku": st.text('ab"é', min_size=1, max_size=3) | st.integers(), "n": SCALARS}
)


@given(
    elements=st.lists(ELEMENTS, max_size=8),
    elements_max=st.integers(1, 6),
    is_keyed=st.booleans(),
    empty=st.sampled_from(OnEmpty),
    ends=st.sampled_from([(), ENDS]),
)
def test_a_list_is_commands_in_its_order_or_one_letter_or_nothing(
    elements: list[dict[str, Any]],
    elements_max: int,
    is_keyed: bool,
    empty: OnEmpty,
    ends: tuple[EndFeed, ...],
) -> None:
    split = split_at(
        "items", key=("sku",) if is_keyed else None, elements_max=elements_max, empty=empty,
        ends=ends,
    )  # fmt: skip
    found = written(msgspec.json.encode({"items": elements}), split)
    assert found == written(msgspec.json.encode({"items": elements}), split)
    is_too_long = len(elements) > elements_max
    is_keyless = is_keyed and any("sku" not in one for one in elements)
    if is_too_long or is_keyless:
        (letter,) = found
        assert LETTERS == letter.topic
        assert ("split-too-long" if is_too_long else "no-key") == said(letter)["edo-reason"]
        return
    commands = [one for one in found if one.topic == COMMANDS]
    assert elements == [msgspec.json.decode(one.value or b"") for one in commands]
    assert [("e-1", str(n), str(len(elements))) for n in range(len(elements))] == [
        tuple(said(one)[f"ce_split{name}"] for name in ("of", "index", "count")) for one in commands
    ]
    keys = [str(one["sku"]).encode() if is_keyed else b"k" for one in elements]
    assert keys == [one.key for one in commands]
    assert len(elements) == len({said(one)["ce_id"] for one in commands})
    outcomes = [one for one in found if one.topic == OUTCOMES]
    is_told = not elements and empty is OnEmpty.EVENT
    assert (["0"] if is_told else []) == [said(one)["ce_splitcount"] for one in outcomes]
    told = [decode_joined(one.value) for one in found if one.topic == "edo.joins.joins"]
    counts = [one.expect for one in told if isinstance(one, Joined)]
    assert ([len(elements)] if ends and (elements or is_told) else []) == counts


def test_the_place_of_the_event_is_part_of_the_ids() -> None:
    first, second = (written(b'{"items": [1, 2]}', split_at("items"), offset=n) for n in (7, 8))
    ids = {said(one)["ce_id"] for one in (*first, *second)}
    assert 4 == len(ids)


def test_an_element_keeps_its_digits() -> None:
    (command,) = written(b'{"items":[[1.10,123456789012345678901234567890]]}', split_at("items"))
    assert b"[1.10,123456789012345678901234567890]" == command.value


def test_an_element_of_an_element_that_was_split_is_of_its_own_event() -> None:
    split = split_at("items")
    event = Event(
        "e-2", "/shop", "order.placed", b"k", b'{"items":[1]}',
        extensions=(("ce_splitof", b"e-0"), ("ce_splitindex", b"5"), ("ce_splitcount", b"9")),
    )  # fmt: skip
    flow = FlowTrigger("f", COMMANDS, LETTERS, 8, split=split)
    (command,) = Trigger(IDENTITY, contract(), flow).commands(RECORD, event, NOW_MS)
    names = [name for name, _ in command.headers]
    assert len(names) == len(set(names))
    assert ("e-2", "0", "1") == tuple(
        said(command)[f"ce_split{name}"] for name in ("of", "index", "count")
    )


def test_all_commands_of_an_event_have_a_bound_together() -> None:
    def make(facts: Facts) -> bytes:
        return b'"' + b"x" * (1 << 19) + b'"'

    data = msgspec.json.encode({"items": list(range(BYTES_MAX // (1 << 19) + 1))})
    (letter,) = written(data, split_at("items"), make)
    assert "too-large" == said(letter)["edo-reason"]
    assert str(BYTES_MAX) in said(letter)["edo-detail"]


def test_what_is_made_sees_the_element_and_its_place() -> None:
    def make(facts: Facts) -> bytes:
        whole = facts.whole
        return msgspec.json.encode([whole["element"], whole["split"], whole["data"]["o"]])

    made = [one.value for one in written(b'{"o": 1, "items": ["a", "b"]}', split_at("items"), make)]
    assert [
        b'["a",{"index":0,"count":2,"of":"e-1"},1]',
        b'["b",{"index":1,"count":2,"of":"e-1"},1]',
    ] == made


@pytest.mark.parametrize("data", [None, b"no JSON", b"[]", b'{"items": 3}', b'{"items": null}'])
def test_what_is_no_list_is_a_letter(data: bytes | None) -> None:
    (letter,) = written(data, split_at("items"))
    assert (LETTERS, "split") == (letter.topic, said(letter)["edo-reason"])


def test_a_list_may_be_made() -> None:
    split = Split(OUTCOMES, make=lambda facts: msgspec.json.encode(sorted(facts.data)))
    assert [b'"a"', b'"b"'] == [one.value for one in written(b'{"b": 1, "a": 2}', split)]
