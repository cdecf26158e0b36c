"""Dead letters of what waits go back to where they came from: to the flow that waited."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from aiokafka.structs import ConsumerRecord

from edo_stream.cli.dlq import _again
from edo_stream.cli.environment import CommandError
from edo_stream.core.correlation.joined import decode_joined
from edo_stream.core.correlation.spec import Bounds, Members, Named, OnTimeout
from edo_stream.core.effects import Publish
from edo_stream.core.record import StoredRecord
from edo_stream.observe.dead_letters import Letter, letter_of
from edo_stream.observe.owners import Owners, Terms
from tests.correlation.bench import JOINS, NOW_MS, Bench, correlation, event, short

T = NOW_MS - 1_000_000
LETTERS = ("edo.dead-letters.f", "edo.dead-letters.g")


def letters(bench: Bench) -> list[Letter]:
    owners = Owners({}, {}, dict.fromkeys(LETTERS, Terms("team", None)))
    return [letter_of(_consumed(one), owners) for one in bench.published if one.topic in LETTERS]


def _consumed(one: Publish) -> ConsumerRecord:
    headers: Any = tuple(one.headers)
    return ConsumerRecord(
        one.topic, one.partition, 7, one.timestamp_ms, 0, one.key, one.value, None, 0, 0, headers
    )


def again(letter: Letter, offset: int) -> StoredRecord:
    ((topic, value, key, partition, headers),) = _again(letter)
    assert (JOINS, 0, ("edo-redrive", b"1")) == (topic, partition, headers[-1])
    return StoredRecord(topic, partition, offset, NOW_MS, key, value)


def test_what_was_given_up_is_waited_with_once_more() -> None:
    wanted = correlation(
        Named(2), ["order", "payment"], on_timeout=OnTimeout.DEAD_LETTER, remember_ms=0
    )
    bench = Bench([wanted])
    bench.feed(event(0, "order", T, time_ms=T, subject="s", correlation_id="c"))
    bench.tick(T + 10_000)
    (letter,) = letters(bench)
    bench.feed(again(letter, 1), event(2, "payment", NOW_MS))
    (result,) = bench.results()
    assert ("k", 1, "complete", "payment", "e2", {"order": "e0", "payment": "e2"}) == short(result)
    assert {"n": 0} == result["inputs"]["order"]["data"]
    assert "s" == result["inputs"]["order"]["subject"]
    assert {0: "x", 1: "e", 2: "e"} == bench.fates()


def test_a_manifest_and_a_member_are_sent_again_as_such() -> None:
    wanted = correlation(
        Members(manifest="manifest"), ["file"], on_timeout=OnTimeout.DEAD_LETTER, remember_ms=0
    )
    bench = Bench([wanted])
    bench.feed(event(0, "manifest", T, members=("eu", "us")), event(1, "file", T, member="eu"))
    bench.tick(T + 10_000)
    records = [again(letter, 2 + number) for number, letter in enumerate(letters(bench))]
    bench.feed(*records, event(4, "file", NOW_MS, member="us"))
    assert ["complete"] == [one["reason"] for one in bench.results()]


def test_what_was_no_event_of_a_flow_goes_back_as_it_came() -> None:
    bench = Bench([correlation(Named(1), ["a"])])
    bench.feed(msgspec.structs.replace(event(0, "a", T), value=b"garbage"))
    (letter,) = letters(bench)
    assert b"garbage" == again(letter, 1).value


def test_what_is_too_large_for_a_header_cannot_be_sent_again() -> None:
    bench = Bench([correlation(Members(manifest="m"), ["a"], bounds=Bounds(bytes_max=100))])
    many = tuple(str(number) for number in range(20_000))
    bench.feed(event(0, "m", T, members=many))
    (letter,) = letters(bench)
    assert "" == letter.joined
    with pytest.raises(CommandError, match="cannot be sent again"):
        _again(letter)
    with pytest.raises(CommandError, match="cannot be sent again"):
        _again(msgspec.structs.replace(letter, joined="AAAA"))


def test_a_letter_says_which_record_it_was() -> None:
    bench = Bench([replace(correlation(Named(1), ["a"]), bounds=Bounds(bytes_max=1))])
    bench.feed(event(0, "a", T))
    (letter,) = letters(bench)
    assert ("edo.joins.g/0/0", "f") == (letter.origin, letter.flow)
    assert not isinstance(decode_joined(again(letter, 1).value), Exception)
    assert event(0, "a", T).value == again(letter, 1).value
