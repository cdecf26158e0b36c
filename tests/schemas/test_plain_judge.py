"""The compiled judge of contracts against the Python beside it, event by event."""

import json
from collections.abc import Callable
from itertools import product
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edo_stream.core.contract import Contract, KeyOrder
from edo_stream.core.event import Violation
from edo_stream.core.record import Record, StoredRecord
from edo_stream.schemas import enforcement
from edo_stream.schemas.compatibility import SchemaFormat
from edo_stream.schemas.enforcement import ContractRules, Tally, enforced
from edo_stream.schemas.versions import Declared, Versions
from edo_stream.sources import cloudevents
from tests.core.bench import TOPIC, contract

native = pytest.importorskip("edo_stream.core._native", reason="no C compiler when installed")
defaults = pytest.importorskip("aiokafka.record.default_records")

NOW_MS: Final = 1_790_000_000_000
NOW: Final = b"2026-09-21T14:13:20.000Z"
CONTRACT: Final = contract(ordering=KeyOrder())
PLAIN: Final = {
    "ce_specversion": b"1.0",
    "ce_id": b"1",
    "ce_source": b"/shop",
    "ce_type": b"t",
    "content-type": b"application/json",
}
STRING, INTEGER = {"type": "string"}, {"type": "integer"}
V1 = {"type": "object", "properties": {"a": STRING}, "required": ["a"]}
V2 = {"type": "object", "properties": {"a": STRING, "n": {**INTEGER, "default": 1}}}
ONE: Final = Versions(SchemaFormat.JSON, [Declared(1, V1)])
TWO: Final = Versions(
    SchemaFormat.JSON,
    [Declared(1, V1), Declared(2, {**V2, "required": ["n"]}, up=[{"default": {"/n": 5}}])],
)
RULES: Final = st.builds(
    ContractRules,
    contract=st.just("shop"),
    versions=st.sampled_from([None, ONE, TWO]),
    pinned=st.sampled_from([None, 1]),
    producers=st.sampled_from([frozenset(), frozenset({"till"})]),
    sources=st.sampled_from([frozenset(), frozenset({"/shop"})]),
    sunset_ms=st.sampled_from([None, None, NOW_MS - 1, NOW_MS, NOW_MS + 1, NOW_MS + 2]),
    sunset_versions=st.sampled_from([{}, {}, {1: NOW_MS}, {1: NOW_MS + 1}, {2: NOW_MS + 2}]),
    warn_until_ms=st.sampled_from([None, NOW_MS + 1]),
    partitions=st.sampled_from([0, 4]),
)
HEADERS: Final = st.fixed_dictionaries(
    {},
    optional={
        "ce_source": st.sampled_from([b"/shop", b"/other"]),
        "ce_dataschema": st.sampled_from([b"", b"https://x/v1", b"https://x/v2", b"v9", b"none"]),
        "ce_dataschemaversion": st.sampled_from([b"", b"1", b"v2", b"two", b"\xff"]),
        "dataschemaversion": st.sampled_from([b"", b"1", b"2", b"\xff"]),
        "ce_producer": st.sampled_from([b"till", b"thief", b""]),
        "ce_expirytime": st.sampled_from(
            [
                NOW,
                b"2026-09-21T14:13:20.001Z",
                b"2026-09-21T14:13:20.002Z",
                b"2026-09-21T14:13:19.999Z",
                b"2026-09-21T14:13:20Z",
                b"2026-09-21T16:13:20.500+02:00",
                b"2026-13-21T14:13:20.001Z",
                b"2026-09-21 14:13:21.000Z",
                b"never",
                b"",
            ]
        ),
        "ce_other": st.just(b"x"),
    },
)
DATA: Final = st.sampled_from(
    [None, b"", b'{"a":"b"}', b'{"a":"b","n":7}', b'{"a":1,"n":2}', b"{}", b"[1]", b"{", b'{"n":1}']
)


def fetched(data: bytes | None, headers: dict[str, bytes], offset: int = 5) -> Any:
    builder = defaults.DefaultRecordBatchBuilder(2, 0, 1, 7, 0, 0, 1 << 30)
    builder.append(0, 1_000, b"key", data, list(headers.items()))
    content = bytes(builder.build())[61:]
    [record] = native.read_records(TOPIC, 5, content, 1, offset, 0, -1, 0)
    return record


def told(outcome: object, tally: Tally) -> tuple[object, ...]:
    return outcome, tally.sampled, tally.misplaced, tally.violations, tally.cast


def judged(rules: ContractRules, record: Record) -> tuple[object, ...]:
    tally = Tally()
    decode = enforced(cloudevents.decoder(CONTRACT), rules, lambda: NOW_MS, tally)
    return told(decode(record), tally)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(RULES, HEADERS, DATA, st.sampled_from([0, 5, 64]))
def test_an_event_is_judged_alike_by_both_halves(
    rules: ContractRules, more: dict[str, bytes], data: bytes | None, offset: int
) -> None:
    headers = {**PLAIN, **more}
    stored = StoredRecord(TOPIC, 5, offset, 1_000, b"key", data, tuple(headers.items()))
    assert judged(rules, fetched(data, headers, offset)) == judged(rules, stored)


@pytest.mark.parametrize("name", ["ce_producer", "ce_dataschema", "dataschemaversion"])
@pytest.mark.parametrize("pinned", [None, 1])
def test_what_one_value_says_is_not_taken_for_another_s(name: str, pinned: int | None) -> None:
    rules = ContractRules("c", TWO, pinned=pinned, producers=frozenset({"till"}))
    values = [b"", b"1", b"2", b"till", b"thief", b"x/v1", b"x/v2", b"\xff"]
    found: list[tuple[object, ...]] = []
    for is_compiled in (True, False):
        tally = Tally()
        decode = enforcement.enforced(cloudevents.decoder(CONTRACT), rules, lambda: NOW_MS, tally)
        outcomes: list[object] = []
        for offset, value in enumerate(one for pair in product(values, values) for one in pair):
            headers = {**PLAIN, name: value}
            place = (TOPIC, 5, offset, 1_000, b"key")
            data = b'{"a":"b","n":1}'
            stored = StoredRecord(*place, data, tuple(headers.items()))
            outcomes.append(decode(fetched(data, headers, offset) if is_compiled else stored))
        found.append((outcomes, *told(None, tally)))
    assert found[0] == found[1]


def refusing(what: str) -> Callable[..., Any]:
    def refuse(*_: object) -> Any:
        raise AssertionError(f"{what} was asked")

    return refuse


#: More than 1 ms away, so that the rounding of Python's times is nobody's matter.
LATER: Final = b"2026-09-21T14:13:20.002Z"


@pytest.mark.parametrize(
    ("rules", "more", "data"),
    [
        (ContractRules("c"), {}, None),
        (ContractRules("c", sunset_ms=NOW_MS + 2), {}, None),
        (ContractRules("c", sources=frozenset({"/shop"})), {}, b"{}"),
        (ContractRules("c", producers=frozenset({"till"})), {"ce_producer": b"till"}, b"{}"),
        (ContractRules("c"), {"ce_expirytime": LATER, "ce_dataschema": b"v9"}, b"{}"),
        (ContractRules("c", ONE), {}, b'{"a":"b"}'),
        (ContractRules("c", ONE), {"ce_dataschema": b"x/v1"}, b'{"a":"b"}'),
        (ContractRules("c", ONE, sunset_versions={1: NOW_MS + 2}), {}, b'{"a":"b"}'),
        (ContractRules("c", TWO), {"dataschemaversion": b"2"}, b'{"n":1}'),
        (ContractRules("c", TWO, pinned=1), {"ce_dataschema": b"x/v1"}, b'{"a":"b"}'),
    ],
)
def test_what_is_plain_is_not_asked_of_python(
    rules: ContractRules,
    more: dict[str, bytes],
    data: bytes | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(enforcement._Judge, "judged", refusing("Python's judge"))
    plain = cloudevents._plain_decoder(CONTRACT)
    assert plain is not None
    first = native.PlainFirst(plain, refusing("Python's decoder"))
    decode: Any = enforcement.enforced(first, rules, lambda: NOW_MS, Tally())
    event = decode(fetched(data, {**PLAIN, **more}))
    assert (event.id, event.data) == ("1", data)


def test_python_s_judge_is_told_what_the_compiled_one_does_not_let_pass() -> None:
    rules = ContractRules("c", ONE, producers=frozenset({"till"}), sources=frozenset({"/shop"}))
    for data, more, reason in (
        (b'{"a":1}', {}, "schema"),
        (b'{"a":"b"}', {"ce_producer": b"thief"}, "producer"),
        (b'{"a":"b"}', {"ce_source": b"/other"}, "producer"),
        (b'{"a":"b"}', {"ce_expirytime": NOW}, "expired"),
        (b'{"a":"b"}', {"ce_dataschema": b"x/v2"}, "version"),
    ):
        outcome = judged(rules, fetched(data, {**PLAIN, **more}))[0]
        assert isinstance(outcome, Violation), json.dumps(reason)
        assert outcome.reason == reason


def test_a_validator_that_fails_is_asked_in_python_too() -> None:
    def failing(_: object) -> bool:
        raise ValueError("the validator has a bug")

    def verdict_of(name: str, value: bytes) -> int:
        return 0

    plain = cloudevents._plain_decoder(CONTRACT)
    assert plain is not None
    judge = native.PlainJudge((), "e", verdict_of, False, None, failing, bytes, lambda: 0, -1)
    decode = native.PlainFirst(plain, refusing("Python's decoder"))
    under = decode.under(judge, refusing("Python's way"), lambda event: event.id, 63)
    assert under(fetched(b"{}", PLAIN)) == "1"


def test_a_contract_of_these_tests_is_decoded_in_c() -> None:
    assert isinstance(CONTRACT, Contract)
    assert type(cloudevents.decoder(CONTRACT)) is native.PlainFirst
