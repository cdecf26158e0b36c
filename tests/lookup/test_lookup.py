"""A task that looks up: what the properties do not reach."""

import msgspec

from edo_stream.core.correlation.rows import Phase
from edo_stream.core.lookup.path import decode_seeker
from edo_stream.core.lookup.rows import ROW
from edo_stream.core.lookup.spec import LookupSpec, OnMissing
from edo_stream.core.record import StoredRecord
from edo_stream.observe.lookups import LookupRows
from tests.lookup.bench import CONTROL, EVENTS, LETTERS, NOW_MS, TABLE, WAIT_MS, Bench, lookup

HOUR_MS = 3_600_000


def letters(bench: Bench) -> list[str]:
    return [
        (dict(one.headers)["edo-reason"] or b"").decode()
        for one in bench.published
        if one.topic == "edo.dead-letters.lookups-1"
    ]


def test_what_waits_for_a_lookup_that_is_gone_waits_until_it_is_back() -> None:
    bench = Bench()
    bench.feed(bench.event(1, "a", NOW_MS))
    spec, bench.spec = bench.spec, LookupSpec(EVENTS, 1, "edo.dead-letters.lookups-1", {}, {})
    bench.open()
    bench.tick(NOW_MS + WAIT_MS)
    assert [] == bench.ends()
    bench.spec = spec
    bench.open()
    bench.tick(NOW_MS + WAIT_MS + HOUR_MS)
    assert [("command", (1, None))] == bench.ends()


def _rows(bench: Bench) -> list[bytes]:
    return [row for row in bench.rows.rows if row[:1] == ROW]


def test_rows_of_a_table_that_no_flow_looks_up_go_and_come_again_when_one_does() -> None:
    bench = Bench()
    bench.feed(*(bench.row(f"k{number}", number) for number in range(2_500)))
    bench.feed(bench.row("k1", None))
    spec, bench.spec = bench.spec, LookupSpec(EVENTS, 1, "edo.dead-letters.lookups-1", {}, {})
    bench.open()
    assert 0 == bench.pipeline.next_due_ms()
    for left in (1_499, 499, 0):
        assert bench.commit(bench.step()).publish, "it is a transaction"
        assert left == len(_rows(bench))
    assert not bench.step().publish
    assert bench.pipeline.next_due_ms() is None
    assert 2_501 == bench.pipeline.positions()[TABLE], "where the group's offset stands"
    bench.open()
    assert not bench.step().publish

    bench.spec = spec
    bench.open()
    assert [TABLE] == bench.pipeline.returning
    bench.commit(bench.pipeline.read_anew(TABLE, 0, NOW_MS))
    assert 0 == bench.pipeline.positions()[TABLE]
    bench.offsets[TABLE] = 0
    bench.feed(bench.row("k1", 7))
    bench.feed(bench.event(1, "k1", NOW_MS))
    assert [("command", (1, 7))] == bench.ends()
    bench.open()
    assert [] == bench.pipeline.returning


def test_rows_that_were_not_gone_yet_are_none_when_the_table_is_read_anew() -> None:
    bench = Bench()
    bench.feed(*(bench.row(f"k{number}", number) for number in range(2_500)))
    spec, bench.spec = bench.spec, LookupSpec(EVENTS, 1, "edo.dead-letters.lookups-1", {}, {})
    bench.open()
    bench.commit(bench.step())
    bench.spec = spec
    bench.open()
    bench.commit(bench.pipeline.read_anew(TABLE, 0, NOW_MS))
    assert [] == _rows(bench), "one may have been deleted meanwhile"


def test_an_event_of_a_flow_that_is_gone_is_a_dead_letter() -> None:
    bench = Bench()
    event = bench.event(1, "a", NOW_MS)
    bench.spec = LookupSpec(EVENTS, 1, "edo.dead-letters.lookups-1", {}, {})
    bench.open()
    bench.feed(event)
    assert (["unknown-flow"], {0: "x"}) == (letters(bench), bench.fates())


def test_what_is_no_event_is_a_dead_letter() -> None:
    bench = Bench()
    bench.feed(StoredRecord(EVENTS, 0, 0, NOW_MS, b"k", b"?"))
    assert ["undecodable"] == letters(bench)


def test_a_row_without_a_key_is_a_dead_letter_of_its_own_place() -> None:
    bench = Bench()
    bench.feed(StoredRecord(TABLE, 0, 0, NOW_MS, None, b"{}"))
    bench.feed(StoredRecord(EVENTS, 0, 0, NOW_MS, b"k", b"?"))
    assert ["no-key", "undecodable"] == letters(bench)
    ids = {dict(one.headers).get("edo-id") for one in bench.published if "dead" in one.topic}
    assert 2 == len(ids)
    assert {0: "x"} == bench.fates(TABLE)


def test_a_row_that_breaks_its_contract_leaves_the_one_before() -> None:
    bench = Bench()
    bench.feed(bench.row("a", 1))
    bad = msgspec.json.encode({"bad": "total is missing"})
    bench.feed(StoredRecord(TABLE, 0, 1, NOW_MS, b"a", bad))
    bench.feed(bench.event(1, "a", NOW_MS))
    assert (["invalid"], [("command", (1, 1))]) == (letters(bench), bench.ends())


def test_an_event_that_cannot_be_a_command_is_a_dead_letter_of_the_flow() -> None:
    bench = Bench(lookup(missing=OnMissing.FAILURE))
    bench.feed(bench.row("a", 1))
    event = bench.event(1, "a", NOW_MS)
    seeker = decode_seeker(event.value)
    odd = msgspec.msgpack.encode(msgspec.structs.replace(seeker, key=b"x" * (1 << 21)))
    bench.feed(StoredRecord(EVENTS, 0, 0, NOW_MS, b"a", odd))
    assert ({0: "x"}, ["too-large"]) == (
        bench.fates(),
        [
            (dict(one.headers)["edo-reason"] or b"").decode()
            for one in bench.published
            if one.topic == LETTERS
        ],
    )


def test_an_operator_is_told_that_nothing_waits() -> None:
    bench = Bench()
    bench.feed(bench.request("wait.force", "a"))
    (notice,) = (one for one in bench.published if one.topic == "edo.gaps")
    assert "nothing waits" == msgspec.json.decode(notice.value or b"")["reason"]
    assert CONTROL == bench.accounts[0].topic


def test_people_see_what_waits_for_which_row_since_when() -> None:
    bench, seen = Bench(), LookupRows()
    bench.feed(bench.event(1, "a", NOW_MS), bench.event(2, "a", NOW_MS + 5))
    bench.feed(bench.event(3, "b", NOW_MS), bench.row("b", 7))
    for key, value in bench.log.records:
        seen.apply(key, value)
    (wait,) = seen.waits("lookups-1", 0)
    assert ("f", b"a", Phase.OPEN.name.lower(), ("lookup.row",), 2) == (
        wait.flow, wait.key, wait.state, wait.missing, wait.count
    )  # fmt: skip
    assert (NOW_MS, NOW_MS + WAIT_MS) == (wait.since_ms, wait.until_ms)
    assert ["e1", "e2"] == [one.id for one in wait.held]
