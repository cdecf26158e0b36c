"""Flows that wait, as files: what they become, and every mistake at its line."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edo_stream.core.correlation.joined import Joined, decode_joined
from edo_stream.core.correlation.spec import (
    Absent,
    Clock,
    Counted,
    Fire,
    Members,
    Named,
    OnLate,
    OnTimeout,
    Ordered,
    Windowed,
)
from edo_stream.core.effects import Publish
from edo_stream.core.event import Event
from edo_stream.core.record import StoredRecord
from edo_stream.core.routing import Router
from edo_stream.core.task import TaskIdentity
from edo_stream.engine.act_plans import act_topics
from edo_stream.engine.joins import join_plans, join_topics
from edo_stream.engine.task_spec import TaskSpec
from edo_stream.flows import Flows, load_flows
from edo_stream.registry import Registry, RegistryError, load
from edo_stream.schedules.folder import load_schedules

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs/examples/daily-revenue"
ORDER = "{topic: shop.order.placed, key: /order/id}"
PAYMENT = "{topic: shop.payment.received, key: /order_id}"
HEAD = "name: f\nowner: team\ndescription: Waits.\n"
ACTION = "action: {kind: noop, idempotency_key: command, replay: safe}\n"


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load(ROOT / "topics")


def flows_in(folder: Path, registry: Registry, when: str, end: str = ACTION) -> Flows:
    (folder / "f.yaml").write_text(f"{HEAD}when: {{{when}}}\n{end}")
    return load_flows(folder, registry)


KINDS: list[tuple[str, Any]] = [
    (f"all: {{a: {ORDER}, b: {PAYMENT}}}", Named(2)),
    (f"any: {{a: {ORDER}, b: {PAYMENT}}}", Named(1)),
    (f"some: {{a: {ORDER}, b: {PAYMENT}, c: {ORDER}}}, n: 2", Named(2)),
    (f"count: {{a: {ORDER}}}, expect: 24", Counted(24)),
    (
        f"count: {{a: {ORDER}}}, manifest: {{topic: shop.payment.received, from: /n}}",
        Counted(None, "manifest"),
    ),
    (
        "set: {a: {topic: shop.order.placed, member: /region}}, members: [eu, us]",
        Members(("eu", "us")),
    ),
    (f"sequence: {{a: {ORDER}, b: {PAYMENT}}}", Ordered()),
    (f"absence: {{after: {{a: {ORDER}}}, without: {{b: {PAYMENT}}}}}", Absent("a", "b")),
]


@pytest.mark.parametrize(("when", "kind"), KINDS)
def test_each_kind_is_declared(tmp_path: Path, registry: Registry, when: str, kind: Any) -> None:
    flows = flows_in(tmp_path, registry, f"{when}, within: 1h")
    correlation = flows.join_groups["joins"].spec.correlations["f"]
    assert kind == correlation.kind
    is_each = isinstance(kind, Ordered | Absent)
    assert (Fire.EACH if is_each else Fire.ONCE) is correlation.fire
    assert (OnLate.NEW_RUN if is_each else OnLate.DROP) is correlation.late
    assert ("edo.commands.f", True) == (correlation.target.topic, correlation.target.is_command)


@pytest.mark.parametrize(
    ("window", "kind"),
    [
        ("tumbling: 1m", Windowed(60_000, 60_000)),
        ("sliding: {size: 1m, every: 20s}", Windowed(60_000, 20_000)),
        ("sliding: {size: 10s, every: 1ms}", Windowed(10_000, 1)),
        ("session: 1m, within: 1h", Windowed(gap_ms=60_000, session_max_ms=3_600_000)),
    ],
)
def test_windows_are_declared(
    tmp_path: Path, registry: Registry, window: str, kind: Windowed
) -> None:
    flows = flows_in(tmp_path, registry, f"window: {{a: {ORDER}}}, {window}, clock: event")
    correlation = flows.join_groups["joins"].spec.correlations["f"]
    assert (kind, Clock.EVENT) == (correlation.kind, correlation.clock)


BOTH = f"all: {{a: {ORDER}, b: {PAYMENT}}}"
MISTAKES = [
    ("within: 1h", "4: when: expected one of all, any"),
    (f"{BOTH}, any: {{a: {ORDER}}}, within: 1h", "found several"),
    (BOTH, "4: within is missing"),
    (f"{BOTH}, within: 0s", "4: within is 0ms: a wait would end as it begins"),
    (f"window: {{a: {ORDER}}}, session: 1h, within: 0s", "4: within is 0ms: a session of no"),
    (f"{BOTH}, within: 1h, max: {{bytes: 2MiB}}", "max.bytes: a command has at most 1 MiB"),
    (f"{BOTH}, within: 1h, n: 2", "n is not of all, but of some"),
    (f"some: {{a: {ORDER}}}, n: 2, within: 1h", "some needs a number up to 1"),
    (f"count: {{a: {ORDER}}}, within: 1h", "count needs a number such as 24, or else manifest"),
    (f"set: {{a: {ORDER}}}, members: [eu], within: 1h", "member is missing in a"),
    (f"{BOTH}, within: 1h, opens: [c]", "opens: no input c"),
    (f"window: {{a: {ORDER}}}", "window needs one of tumbling, sliding and session"),
    (f"window: {{a: {ORDER}}}, tumbling: 1h, on_timeout: drop", "on_timeout is not of window"),
    (f"window: {{a: {ORDER}}}, sliding: {{size: 1h, every: 7m}}", "a multiple of every"),
    (
        f"window: {{a: {ORDER}}}, sliding: {{size: 1d, every: 1ms}}",
        "4: sliding: expected size of at most 10000 times every, found 1d and 1ms: each",
    ),
    (f"window: {{a: {ORDER}}}, tumbling: 1h, fire: once", "a window fires each time"),
    (f"window: {{a: {ORDER}}}, tumbling: 1h, keep: first", "keep is not of window, but of all"),
    (f"{BOTH}, within: 1h, collect: false", "collect is not of all, but of window"),
    (f"{BOTH}, within: 1h, look_back: 5m", "say by opens which ones do"),
    (f"{BOTH}, within: 1h, max: {{events: 1}}", "all needs 2 events, and 1 may wait"),
    (f"count: {{a: {ORDER}}}, expect: 10001, within: 1h", "count needs 10001 events, and 10000"),
    (f"sequence: {{a: {ORDER}, b: {PAYMENT}}}, within: 1h, max: {{events: 1}}", "sequence needs 2"),
    (f"all: {{Order: {ORDER}}}, within: 1h", "Order is not an input's name"),
    ("all: {a: {topic: shop.order.plced}}, within: 1h", "did you mean shop.order.placed?"),
    (f"{BOTH}, within: 1h, group: actions", "when.group actions is another group's name"),
    (f"{BOTH}, within: 1h, lat: drop", "lat is not a key: did you mean late?"),
    (
        "all: {a: {topic: shop.order.placed, match: {type: x}}}, within: 1h",
        "match: type: expected a list",
    ),
    (
        "all: {a: {topic: shop.order.placed, key_match: '['}}, within: 1h",
        "[ is not a regular expression",
    ),
    (f"window: {{a: {ORDER}}}, tumbling: 1h, aggregate: {{n: {{total: /n}}}}", "not an aggregate"),
]


@pytest.mark.parametrize(("when", "told"), MISTAKES)
def test_mistakes_are_told_with_their_lines(
    tmp_path: Path, registry: Registry, when: str, told: str
) -> None:
    with pytest.raises(RegistryError) as refused:
        flows_in(tmp_path, registry, when)
    assert told in "\n".join(f"{one.line}: {one.message}" for one in refused.value.findings)


@pytest.mark.parametrize(
    ("end", "told"),
    [
        ("", "action is missing"),
        (f"{ACTION}on: shop.order.placed\n", "both of on and when"),
        (f"{ACTION}emit: {{topic: shop.order.placed}}\n", "a flow with emit ends in an event"),
        ("emit: {topic: shop.order.ready}\n", "emit.topic: no contract of shop.order.ready"),
    ],
)
def test_a_flow_that_waits_ends_in_one_way(
    tmp_path: Path, registry: Registry, end: str, told: str
) -> None:
    with pytest.raises(RegistryError, match=re.escape(told)):
        flows_in(tmp_path, registry, f"{BOTH}, within: 1h", end)


def test_topics_and_plans_are_those_of_all_flows(tmp_path: Path, registry: Registry) -> None:
    end = "emit: {topic: shop.order.placed}\n"
    flows = flows_in(tmp_path, registry, f"{BOTH}, within: 1h, partitions: 3", end)
    names = {wanted.name: wanted.partitions for wanted in join_topics(flows, "app", 1)}
    assert {
        "edo.joins.joins": 3,
        "edo.control.joins": 3,
        "edo.dead-letters.joins": 3,
        "edo.outcomes.f": 3,
        "edo.dead-letters.f": 3,
        "app-joins-state-changelog": 3,
    } == names
    assert [] == [one.name for one in act_topics(flows, "app", 1) if ".f" in one.name]
    told = flows_in(tmp_path, registry, f"{BOTH}, within: 1h, partitions: 3, history: true", end)
    (history,) = {topic.name: topic for topic in join_topics(told, "app", 1)}.keys() - names
    assert "edo.waits.f" == history
    (topic,) = (one for one in join_topics(told, "app", 1) if one.name == history)
    largest = told.join_groups["joins"].spec.correlations["f"].history_bytes_max
    assert (3, "delete") == (topic.partitions, topic.config["cleanup.policy"])
    assert largest < int(topic.config["max.message.bytes"])
    plan = join_plans(flows, TaskSpec("app", "", {}, 1.0, 1.0))["joins"]
    assert ["edo.joins.joins", "edo.control.joins"] == list(plan.spec.sources)


def fed(flows: Flows, registry: Registry, topic: str, event: Event) -> list[Publish]:
    routes = flows.task_routes(topic)
    assert routes is not None
    router = Router(TaskIdentity("app", "orders", 1), registry.contracts[topic], routes)
    record = StoredRecord(topic, 1, 7, 1_700_000_000_000, event.key, event.data)
    return router.commands(record, event, 1_700_000_000_005)


def test_an_event_comes_to_its_correlation_by_its_key(tmp_path: Path, registry: Registry) -> None:
    flows = flows_in(
        tmp_path,
        registry,
        "count: {a: {topic: shop.order.placed, key: /at, key_days: -1, member: subject, "
        "member_match: '([a-z]+)[.]', match: {data: {n: [1]}}}}, expect: 2, within: 1h",
    )
    data = msgspec.json.encode({"at": "2026-11-21T06:00:00Z", "n": 1})
    event = Event("e", "/s", "t", b"k", data, subject="x/eu.csv")
    (published,) = fed(flows, registry, "shop.order.placed", event)
    assert ("edo.joins.joins", b"2026-11-20") == (published.topic, published.key)
    joined = decode_joined(published.value)
    assert isinstance(joined, Joined)
    assert ("f", "a", "eu", "shop.order.placed/1/7", True) == (
        joined.flow,
        joined.input,
        joined.member,
        joined.position,
        joined.is_json,
    )
    unwanted = Event("e", "/s", "t", b"k", b'{"n": 2}')
    assert [] == fed(flows, registry, "shop.order.placed", unwanted)
    keyless = Event("e", "/s", "t", b"k", b'{"n": 1}')
    (letter,) = fed(flows, registry, "shop.order.placed", keyless)
    headers = dict(letter.headers)
    assert ("edo.dead-letters.f", b"no-key", b"f") == (
        letter.topic,
        headers["edo-reason"],
        headers["edo-flow"],
    )


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ({"n": 3}, ("expect", 3)),
        ({"n": ["a", "b", "a"]}, "no-manifest"),
        ({"n": -1}, "no-manifest"),
        ({}, "no-manifest"),
    ],
)
def test_a_manifest_says_a_number(
    tmp_path: Path, registry: Registry, told: Any, found: Any
) -> None:
    when = (
        f"count: {{a: {ORDER}}}, manifest: {{topic: shop.payment.received, from: /n}}, within: 1h"
    )
    flows = flows_in(tmp_path, registry, when)
    event = Event("e", "/s", "t", b"k", msgspec.json.encode(told))
    (published,) = fed(flows, registry, "shop.payment.received", event)
    if isinstance(found, str):
        assert found.encode() == dict(published.headers)["edo-reason"]
    else:
        joined = decode_joined(published.value)
        assert isinstance(joined, Joined)
        assert 3 == joined.expect


def test_the_flow_of_the_guide_loads(tmp_path: Path, registry: Registry) -> None:
    guide = (ROOT / "docs/correlation.md").read_text("utf-8")
    block = re.search(r"```yaml\n# flows/(\S+)\n(.*?)```", guide, re.DOTALL)
    assert block is not None
    (tmp_path / block[1]).write_text(block[2])
    correlation = load_flows(tmp_path, registry).join_groups["joins"].spec.correlations
    assert OnTimeout.FAILURE is correlation["ship-paid-order"].on_timeout


def test_the_example_loads_and_a_tick_is_of_the_day_before() -> None:
    registry = load(EXAMPLE / "topics")
    assert ["revenue-deadline"] == list(load_schedules(EXAMPLE / "schedules", registry.entries))
    flows = load_flows(EXAMPLE / "flows", registry)
    tick = Event("t", "/s", "t", b"k", b'{"scheduledTime": "2026-11-21T06:00:00+01:00"}')
    (told,) = fed(flows, registry, "shop.revenue.deadline", tick)
    file = Event("f", "/s", "t", b"k", None, subject="revenue/2026-11-20/eu.csv")
    (landed,) = fed(flows, registry, "shop.revenue.file", file)
    assert b"2026-11-20" == told.key == landed.key
    joined = decode_joined(landed.value)
    assert isinstance(joined, Joined)
    assert "eu" == joined.member
