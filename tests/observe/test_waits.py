"""What is shown of waits: read from the changelog of the task that has them."""

from edo_stream.cli.waits import as_document
from edo_stream.core.correlation.changes import decode_change
from edo_stream.core.correlation.spec import (
    Correlation,
    Counted,
    Fire,
    Members,
    Named,
    OnLate,
    OnTimeout,
)
from edo_stream.observe.waits import Wait, WaitRows, change_told, explained
from tests.correlation.bench import NOW_MS, Bench, correlation, event, request

T = NOW_MS - 1_000_000


def seen(bench: Bench) -> dict[str, Wait]:
    rows = WaitRows()
    for key, value in bench.log.records:
        rows.apply(key, value)
    return {wait.key.decode(): wait for wait in rows.waits("g", 0, bench.spec)}


def test_an_open_wait_says_what_is_missing_since_when_and_until_when() -> None:
    bench = Bench([correlation(Named(2), ["order", "payment"])])
    bench.feed(event(0, "order", T), event(1, "order", T, "done"), event(2, "payment", T, "done"))
    waits = seen(bench)
    wait = waits["k"]
    assert ("open", T, T + 10_000, ("payment",)) == (
        wait.state,
        wait.since_ms,
        wait.until_ms,
        wait.missing,
    )
    assert [
        "opened 2023-11-14T21:56:40.000Z, waits until 2023-11-14T21:56:50.000Z",
        "missing: payment",
        "has order: e0 of 2023-11-14T21:56:40.000Z, shop.order/0/0",
    ] == explained(wait)
    assert [
        "its wait ended 2023-11-14T22:13:20.000Z: complete, by payment",
        "1 result so far",
    ] == explained(waits["done"])
    document = as_document(waits["done"])
    assert ("over", "complete", "payment", []) == (
        document["state"],
        document["ended"],
        document["completedBy"],
        document["missing"],
    )


def test_what_waits_for_a_flow_that_is_gone_is_shown() -> None:
    bench = Bench([correlation(Named(2), ["order", "payment"])])
    bench.feed(event(0, "order", T), event(1, "order", T, "done"), event(2, "payment", T, "done"))
    before = bench.pipeline.open_waits()["f"][0]
    bench.correlations = []
    bench.__post_init__()
    assert {"f": before} == bench.pipeline.not_declared
    assert {"f": (before, None)} == bench.pipeline.open_waits()
    assert (1, None) == bench.pipeline.held()[event(0, "order", T).topic]
    (wait,) = seen(bench).values()
    assert ("f", b"k", "open", 1) == (wait.flow, wait.key, wait.state, wait.events)
    assert "missing: the flow is not declared" in explained(wait)


def _ends(bench: Bench) -> str:
    bench.tick(T + 20_000)
    return explained(seen(bench)["k"])[1]


def test_a_failure_event_is_not_told_as_a_result() -> None:
    bench = Bench([correlation(Named(2), ["order", "payment"])])
    bench.feed(event(0, "order", T))
    assert _ends(bench) == "no result so far, 1 failure event"
    kept = correlation(Named(2), ["order", "payment"], on_timeout=OnTimeout.PARTIAL)
    partial = Bench([kept])
    partial.feed(event(0, "order", T))
    assert _ends(partial) == "1 result so far"


def test_of_several_ends_of_which_some_may_have_failed_none_is_called_a_result() -> None:
    wanted = correlation(Named(2), ["order", "payment"], fire=Fire.EACH, late=OnLate.NEW_RUN)
    bench = Bench([wanted])
    bench.feed(event(0, "order", T))
    bench.tick(T + 20_000)
    bench.feed(event(1, "order", T + 30_000), event(2, "payment", T + 30_000))
    assert explained(seen(bench)["k"])[1] == "2 results or failure events so far"


def _tally(kind: Counted | Members) -> tuple[int, int | None, tuple[str, ...], str]:
    wanted: Correlation = correlation(kind, ["file"])
    bench = Bench([wanted])
    bench.feed(event(0, "file", T, member="eu"))
    wait = seen(bench)["k"]
    return wait.count, wait.expected, wait.missing, explained(wait)[1]


def test_a_count_and_a_set_say_how_far_they_are() -> None:
    assert (1, 3, (), "1 of 3 are there") == _tally(Counted(3))
    assert (1, None, ("manifest",), "missing: manifest") == _tally(Counted(None, "manifest"))
    assert (1, 2, ("us",), "1 of 2 are there") == _tally(Members(("eu", "us")))
    assert (1, None, ("manifest",)) == _tally(Members(None, "manifest"))[:3]


def test_what_is_completed_leaves_nothing_to_show_of_its_events() -> None:
    bench = Bench([correlation(Members(("eu", "us")), ["file"])])
    bench.feed(event(0, "file", T, member="eu"))
    bench.feed(event(1, "file", T, member="us"))
    wait = seen(bench)["k"]
    assert ((), 0, 1) == (wait.held, wait.events, wait.firings)


def test_what_has_happened_is_told_a_line_each() -> None:
    bench = Bench([correlation(Named(2), ["order", "payment"], history="edo.waits.f")])
    bench.feed(event(0, "order", T), event(1, "order", T, key="q"))
    bench.tick(T + 10_000)
    bench.feed(event(2, "order", T + 20_000, key="z"))
    bench.feed(request(0, "wait.force", "z"))
    told = [
        change_told(decode_change(one.value or b""))
        for one in bench.published
        if one.topic == "edo.waits.f" and one.key in (b"k", b"z")
    ]
    assert [
        "2023-11-14T22:13:20.000Z     1  opened          order e0, shop.order/0/0",
        (
            "2023-11-14T21:56:50.000Z     2  timed-out       "
            "timeout by deadline; due 2023-11-14T21:56:50.000Z"
        ),
        "2023-11-14T22:13:20.000Z     1  opened          order e2, shop.order/0/2",
        "2023-11-14T22:13:20.000Z     2  forced          forced by operator; edo waits force",
    ] == told
