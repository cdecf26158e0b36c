"""Which flows of a topic want an event, held against a model that asks each flow alone."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edo_stream.core.effects import Publish
from edo_stream.core.event import Event
from edo_stream.core.facts import Facts, UndecidedError, UnmadeError
from edo_stream.core.patterns import Pattern, PatternIndex, parse_pattern
from edo_stream.core.pointer import MISSING
from edo_stream.core.record import StoredRecord
from edo_stream.core.routing import Choice, Condition, Route, Router, Routes
from edo_stream.core.trigger import FlowTrigger
from tests.core.bench import IDENTITY, NOW_MS, TOPIC, contract
from tests.patterns.test_patterns import _EVENTS, _PATTERNS, _model

RECORD = StoredRecord(TOPIC, 5, 7, NOW_MS, b"record", b"{}")
EVENT = Event(
    "e-1",
    "/shop",
    TOPIC,
    b"key",
    b'{"total": 120, "big": 9007199254740993}',
    content_type="application/json",
    subject="o-1",
    time_ms=NOW_MS,
    extensions=(("ce_tenant", b"t"), ("ce_id", b"forged"), ("own", b"x")),
)


def trigger(name: str, **rest: Any) -> FlowTrigger:
    return FlowTrigger(name, f"edo.commands.{name}", f"edo.dead-letters.{name}", 8, **rest)


def commands(*routes: Route, event: Event = EVENT) -> list[Publish]:
    return Router(IDENTITY, contract(), Routes(routes)).commands(RECORD, event, NOW_MS)


def wanting(name: str, pattern: Any = None, where: Callable[[Facts], bool] | None = None) -> Route:
    compiled = None if pattern is None else parse_pattern(pattern)
    return Route(trigger(name), (Condition(compiled, where),))


def undecided(facts: Facts) -> bool:
    raise UndecidedError("where: the event has no limit")


def test_one_event_is_a_command_of_each_flow_that_wants_it() -> None:
    found = commands(
        Route(trigger("all")),
        wanting("dear", {"data": {"total": [{"numeric": [">", 100]}]}}),
        wanting("cheap", {"data": {"total": [{"numeric": ["<", 100]}]}}),
        wanting("typed", {"type": [TOPIC], "tenant": ["t"], "own": [{"exists": False}]}),
        wanting("asked", None, lambda facts: facts.attributes["id"] == "e-1"),
        wanting("both", {"subject": ["o-1"]}, lambda facts: False),
    )
    expected = ["all", "dear", "typed", "asked"]
    assert [f"edo.commands.{name}" for name in expected] == [one.topic for one in found]
    assert len({dict(one.headers)["ce_id"] for one in found}) == 4
    assert {EVENT.data} == {one.value for one in found}


def test_a_flow_with_two_conditions_that_hold_has_one_command() -> None:
    conditions = [Condition(parse_pattern(one)) for one in ({"id": ["e-1"]}, {"source": ["/shop"]})]
    assert 1 == len(commands(Route(trigger("ship"), tuple(conditions))))


@pytest.mark.parametrize("is_first", [True, False])
def test_what_cannot_be_told_is_a_letter_unless_another_condition_holds(is_first: bool) -> None:
    unsure, sure = Condition(None, undecided), Condition(parse_pattern({"id": ["e-1"]}))
    (letter,) = commands(Route(trigger("ship", owner="team"), (unsure,)))
    told = dict(letter.headers)
    assert letter.topic == "edo.dead-letters.ship"
    assert (told["edo-reason"], told["edo-owner"]) == (b"undecided", b"team")
    assert told["edo-detail"] == b"where: the event has no limit"
    assert (letter.value, letter.key) == (EVENT.data, b"key")
    both = (unsure, sure) if is_first else (sure, unsure)
    assert ["edo.commands.ship"] == [one.topic for one in commands(Route(trigger("ship"), both))]


def test_an_expression_is_not_asked_of_what_the_pattern_does_not_want() -> None:
    assert commands(wanting("ship", {"id": ["e-2"]}, undecided)) == []


def test_the_json_is_parsed_only_for_who_asks_for_it_and_once() -> None:
    class Counted(Facts):
        __slots__ = ("parsed",)

        def __init__(self, event: Event) -> None:
            super().__init__(event)
            self.parsed = 0

        @property
        def data(self) -> Any:
            self.parsed += self._data is not MISSING and not isinstance(self._data, dict)
            return super().data

    by_type = Routes(
        [wanting("a", {"type": [TOPIC]}), wanting("b", {"subject": [{"prefix": "o"}]})]
    )
    facts = Counted(EVENT)
    assert [Choice(0), Choice(1)] == by_type.choose(facts)
    assert facts.parsed == 0
    by_data = Routes(
        [wanting(str(n), {"data": {"total": [n]}}, lambda f: bool(f.data)) for n in (1, 120)]
    )
    assert [Choice(1)] == by_data.choose(facts)
    assert facts.parsed == 1


def test_data_of_the_command_is_what_its_flow_makes_of_the_event() -> None:
    made = trigger("ship", make=lambda facts: msgspec.json.encode([facts.data["big"]]))
    (command,) = commands(Route(made))
    assert command.value == b"[9007199254740993]"
    types = [value for name, value in command.headers if name == "content-type"]
    assert [b"application/json"] == types


def test_what_cannot_be_made_is_a_letter_with_the_event_as_it_came() -> None:
    def fail(facts: Facts) -> bytes:
        raise UnmadeError("input: the event has no total")

    (letter,) = commands(Route(trigger("ship", make=fail)))
    assert (dict(letter.headers)["edo-reason"], letter.value) == (b"input", EVENT.data)


def test_what_no_topic_of_commands_takes_is_a_letter_without_it() -> None:
    large = Event("e-1", "/shop", TOPIC, b"key", b"x" * 2_000_000)
    (letter,) = commands(Route(trigger("ship")), event=large)
    told = dict(letter.headers)
    assert (told["edo-reason"], told["edo-reference"]) == (b"too-large", b"true")
    assert letter.value is None


def test_an_event_speaks_for_itself() -> None:
    assert Facts(EVENT).attributes == {
        "specversion": "1.0",
        "id": "e-1",
        "source": "/shop",
        "type": TOPIC,
        "subject": "o-1",
        "time": "2023-11-14T22:13:20.000Z",
        "datacontenttype": "application/json",
        "tenant": "t",
    }
    assert Facts(EVENT).whole["data"]["big"] == 9007199254740993


@pytest.mark.parametrize("data", [None, b"", b"\xff", b"{", b"[" * 100_000])
def test_an_event_without_json_has_no_data(data: bytes | None) -> None:
    facts = Facts(Event("e-1", "/shop", TOPIC, b"key", data))
    assert facts.data is MISSING
    assert "data" not in facts.whole
    assert [] == Routes([wanting("a", {"data": [{"exists": True}]})]).choose(facts)


# -- against a model

_WHERE = st.sampled_from([None, True, False, "unsure"])


def _where(said: Any) -> Callable[[Facts], bool] | None:
    if said == "unsure":
        return undecided
    return None if said is None else (lambda facts: bool(said))


def _expected(conditions: list[tuple[Any, Any]], event: Any) -> str:
    """``yes``, ``no`` or ``unsure`` by looking at each condition alone."""
    said = [
        where
        for pattern, where in conditions
        if pattern is None or _model(pattern, {"data": event})
    ]
    if any(one is True or one is None for one in said):
        return "yes"
    return "unsure" if "unsure" in said else "no"


_CONDITIONS = st.tuples(st.none() | _PATTERNS.map(lambda one: {"data": one}), _WHERE)


@given(st.lists(st.lists(_CONDITIONS, min_size=1, max_size=3), max_size=8), _EVENTS)
def test_flows_are_chosen_as_if_each_were_alone(
    flows: list[list[tuple[Any, Any]]], event: Any
) -> None:
    routes = [
        Route(
            trigger(str(number)),
            tuple(
                Condition(None if pattern is None else parse_pattern(pattern), _where(where))
                for pattern, where in conditions
            ),
        )
        for number, conditions in enumerate(flows)
    ]
    facts = Facts(Event("e-1", "/shop", TOPIC, b"key", msgspec.json.encode(event)))
    found = {
        one.route: "yes" if one.undecided is None else "unsure"
        for one in Routes(routes).choose(facts)
    }
    expected = {n: _expected(conditions, event) for n, conditions in enumerate(flows)}
    assert {n: said for n, said in expected.items() if said != "no"} == found


@given(st.lists(_PATTERNS, max_size=8), _EVENTS)
def test_what_no_pattern_asks_for_need_not_be_walked_through(
    patterns: list[Any], event: Any
) -> None:
    compiled: list[tuple[int, Pattern]] = [(n, parse_pattern(p)) for n, p in enumerate(patterns)]
    more = {"zzz": [{"deep": [1, 2]}], **event}
    assert PatternIndex(compiled).matches(event) == PatternIndex(compiled).matches(more)


@pytest.mark.parametrize("conditions", [(), (Condition(parse_pattern({"type": [TOPIC]})),)])
def test_what_cancels_is_no_command_and_comes_before_the_event_s_own(
    conditions: tuple[Condition, ...],
) -> None:
    cancel = Route(trigger("f", cancels=True), conditions)
    router = Router(IDENTITY, contract(), Routes([cancel, Route(trigger("f"))]))
    first, second = router.fastest.commands(RECORD, EVENT, NOW_MS)
    assert (b"alone", None) == (dict(first.headers)["edo-cancel"], first.value)
    assert "edo-cancel" not in dict(second.headers)
    assert (first.topic, first.partition, first.key) == (second.topic, second.partition, b"key")
    assert dict(first.headers)["ce_id"] != dict(second.headers)["ce_id"]


def test_what_cancels_is_announced_with_no_more_than_it_needs() -> None:
    cancel = Route(trigger("f", cancels=True, control="edo.control.act"))
    announced, mark = commands(cancel)
    assert ("edo.control.act", "edo.commands.f") == (announced.topic, mark.topic)
    assert (announced.partition, announced.key, announced.headers) == (
        (mark.partition, mark.key, mark.headers)
    )
    assert b"announced" == dict(mark.headers)["edo-cancel"]
    assert "ce_tenant" not in dict(mark.headers)
    (alone,) = commands(cancel, event=Event("e", "/s", TOPIC, b"k" * 9_000, None))
    assert b"alone" == dict(alone.headers)["edo-cancel"]
    (letter,) = commands(Route(trigger("f", cancels=True, control="c", key="/no")), event=EVENT)
    assert "edo.dead-letters.f" == letter.topic
