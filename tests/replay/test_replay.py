"""What a replay makes of the past: the same commands, for what went on and for nothing else."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from edo_stream.cli.main import app
from edo_stream.core.accounts import Account, Fate, Run
from edo_stream.core.patterns import parse_pattern
from edo_stream.core.record import StoredRecord
from edo_stream.core.replay import Bounds, Replayable, Replayer
from edo_stream.core.routing import Condition, Router
from edo_stream.core.task import TaskIdentity
from edo_stream.flows import Flows, load_flows
from edo_stream.flows.expression import WhereExpression
from edo_stream.registry import Registry, load
from edo_stream.replay.fates import Fates
from edo_stream.replay.plan import bounds_of, left_out
from edo_stream.replay.run import Progress, Replay, WhereFailure
from edo_stream.sources import decoder
from tests.catalog.shelf import CLEAN, Shelf

TOPIC = "shop.order.placed"
NOW_MS = 1_700_000_000_000
DAY_MS = 86_400_000
ALL = Condition(parse_pattern({"id": [{"exists": True}]}))
FLOW = """\
name: {name}
owner: team-tests
description: Acts.
on: {on}
key: /id
action: {{{action}, idempotency_key: command, replay: {replay}}}
{more}"""


class Folder:
    """Contracts and flows in a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.shelf = Shelf(root / "topics")
        self.shelf.add(CLEAN)
        (root / "flows").mkdir()

    def flow(self, name: str, replay: str = "safe", **rest: str) -> None:
        parts = {"on": TOPIC, "action": "kind: noop", "more": ""} | rest
        text = FLOW.format(name=name, replay=replay, **parts)
        (self.root / "flows" / f"{name}.yaml").write_text(text)

    def load(self) -> tuple[Registry, Flows]:
        registry = load(self.shelf.root)
        return registry, load_flows(self.root / "flows", registry)

    def replayer(self, where: Condition = ALL, may_double: bool = False) -> Replayer:
        registry, flows = self.load()
        routes = flows.routes(TOPIC)
        assert routes is not None
        contract = registry.contracts[TOPIC]
        bounds = bounds_of(registry, flows, TOPIC, may_double)
        return Replayer(
            Replayable("shop-decide", contract, decoder(contract), routes, bounds), "r1", where
        )


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def record(
    offset: int = 7, data: Any = None, at_ms: int = NOW_MS, partition: int = 3
) -> StoredRecord:
    headers: tuple[tuple[str, bytes | None], ...] = (
        ("ce_specversion", b"1.0"),
        ("ce_id", b"e-%d" % offset),
        ("ce_source", b"/shop"),
        ("ce_type", b"order.placed"),
        ("edo-replay", b"forged"),
    )
    value = json.dumps({"id": "k", "total": 5} if data is None else data).encode()
    return StoredRecord(TOPIC, partition, offset, at_ms, b"k", value, headers)


def reasons(
    replayer: Replayer, one: StoredRecord, fate: Fate | None = Fate.EMITTED
) -> dict[str, str]:
    return {judged.flow: judged.reason for judged in replayer.judge(one, fate, NOW_MS)}


def test_the_command_is_that_of_the_first_time_and_bears_the_mark(folder: Folder) -> None:
    folder.flow("ship")
    registry, flows = folder.load()
    routes = flows.routes(TOPIC)
    assert routes is not None
    contract = registry.contracts[TOPIC]
    task = TaskIdentity("shop-decide", contract.group, 3)
    event = decoder(contract)(record())
    (first,) = Router(task, contract, routes).commands(record(), event, NOW_MS)  # type: ignore[arg-type]
    (judged,) = folder.replayer().judge(record(), Fate.EMITTED, NOW_MS)
    assert judged.command is not None
    assert (first.topic, first.partition, first.key, first.value) == (
        judged.command.topic,
        judged.command.partition,
        judged.command.key,
        judged.command.value,
    )
    assert [*first.headers, ("edo-replay", b"r1")] == judged.command.headers


@pytest.mark.parametrize("fate", [None, *(fate for fate in Fate if fate is not Fate.EMITTED)])
def test_what_did_not_go_on_has_no_command_and_a_reason(folder: Folder, fate: Fate | None) -> None:
    folder.flow("ship")
    (judged,) = folder.replayer().judge(record(), fate, NOW_MS)
    assert judged.command is None
    expected = "pending" if fate is None else fate.name.lower().replace("_", "-")
    assert expected == judged.reason


def test_a_flow_runs_again_only_if_all_its_actions_may(folder: Folder) -> None:
    folder.flow("ship")
    folder.flow("bill", "forbidden")
    folder.flow("mail", "sandbox-only")
    folder.flow(
        "call", more="fallback: {kind: noop, idempotency_key: command, replay: forbidden}\n"
    )
    expected = {
        "bill": "forbidden",
        "call": "forbidden",
        "mail": "sandbox-only",
        "ship": "replayed",
    }
    assert expected == reasons(folder.replayer(), record())


def test_a_record_is_written_again_only_while_its_readers_remember_the_first(
    folder: Folder,
) -> None:
    known = CLEAN | {"name": "shop.label.wanted", "emit": {"topic": "shop.label.accepted"}}
    folder.shelf.add(known | {"dedupe": {"key": ["source", "id"], "ttl": "2d"}})
    folder.flow("known", action="kind: record, topic: shop.label.wanted")
    folder.flow("blind", action="kind: record, topic: shop.label.printed, partitions: 2")
    young, old = record(at_ms=NOW_MS - DAY_MS), record(at_ms=NOW_MS - 2 * DAY_MS)
    assert {"known": "replayed", "blind": "doubles"} == reasons(folder.replayer(), young)
    assert {"known": "doubles", "blind": "doubles"} == reasons(folder.replayer(), old)
    assert {"known": "replayed", "blind": "replayed"} == reasons(
        folder.replayer(may_double=True), old
    )


def test_conditions_of_the_flow_and_of_the_replay_both_hold(folder: Folder) -> None:
    folder.flow(
        "cheap", on='{topic: shop.order.placed, match: {data: {total: [{numeric: ["<", 10]}]}}}'
    )
    folder.flow("exact", on="{topic: shop.order.placed, where: data.total == data.limit}")
    replayer = folder.replayer(Condition(parse_pattern({"data": {"id": ["k"]}})))
    assert {"cheap": "replayed", "exact": "undecided"} == reasons(replayer, record())
    dear = record(data={"id": "k", "total": 50, "limit": 50})
    assert {"cheap": "not-wanted", "exact": "replayed"} == reasons(replayer, dear)
    other = record(data={"id": "x", "total": 5, "limit": 5})
    assert {"cheap": "filtered", "exact": "filtered"} == reasons(replayer, other)


@pytest.mark.parametrize(
    ("where", "detail"),
    [
        ("data.nofield == 1", "nofield"),
        ("data.total", "expected true or false, found a"),
    ],
)
def test_what_where_cannot_be_judged_on_is_left_out_with_a_reason_of_its_own(
    folder: Folder, where: str, detail: str
) -> None:
    folder.flow("ship")
    folder.flow("bill", "forbidden")
    replayer = folder.replayer(Condition(where=WhereExpression(where)))
    judged = {one.flow: one for one in replayer.judge(record(), Fate.EMITTED, NOW_MS)}
    assert {"ship": "where-failed", "bill": "forbidden"} == {
        name: one.reason for name, one in judged.items()
    }
    assert judged["ship"].command is None
    assert detail in judged["ship"].detail
    assert not judged["bill"].detail


def told(folder: Folder, counts: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> list[Result]:
    """What the command says of a replay that ended so, as text and as JSON."""

    async def ended(self: Replay) -> Progress:
        failure = WhereFailure(f"{TOPIC}/3/7", "No such key: nofield")
        failed = failure if counts.get("where-failed") else None
        self.progress = Progress({}, {}, {"ship": Counter(counts)}, 9, failed)
        return self.progress

    folder.flow("ship")
    monkeypatch.setattr(Replay, "run", ended)
    environment = {"EDO_TOPICS": str(folder.shelf.root), "EDO_BROKER": "127.0.0.1:1"}
    command = ["replay", TOPIC, "--where", "data.nofield == 1"]
    return [
        CliRunner().invoke(app, [*command, *more], env=environment) for more in ([], ["--json"])
    ]


def test_where_that_fails_is_told_once_with_its_place(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, as_json = told(folder, {"where-failed": 4, "filtered": 5}, monkeypatch)
    assert (1, 1) == (text.exit_code, as_json.exit_code)
    assert (
        f"--where could not be judged on some events: first on {TOPIC}/3/7: No such key: nofield"
    ) in text.stdout
    document = json.loads(as_json.stdout)
    assert {"position": f"{TOPIC}/3/7", "detail": "No such key: nofield"} == document["whereFailed"]
    assert {"where-failed": 4, "filtered": 5} == document["flows"]["ship"]["counts"]


def test_where_that_chose_some_or_failed_nowhere_is_done(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for counts in ({"where-failed": 4, "replayed": 5}, {"filtered": 9}):
        text, as_json = told(folder, counts, monkeypatch)
        assert (0, 0) == (text.exit_code, as_json.exit_code)
        has_failed = "where-failed" in counts
        assert has_failed == ("could not be judged" in text.stdout)
        assert has_failed == (json.loads(as_json.stdout)["whereFailed"] is not None)


def test_what_cannot_be_made_a_command_was_a_dead_letter_and_stays_one(folder: Folder) -> None:
    folder.flow("ship")
    replayer = folder.replayer()
    assert {"ship": "no-command"} == reasons(replayer, record(data={"total": 1}))
    broken = StoredRecord(TOPIC, 3, 7, NOW_MS, b"k", b"{}", ())
    assert {"ship": "invalid"} == reasons(replayer, broken)


def test_only_the_chosen_flows_are_judged(folder: Folder) -> None:
    folder.flow("ship")
    folder.flow("bill")
    registry, flows = folder.load()
    routes = flows.routes(TOPIC)
    assert routes is not None
    contract = registry.contracts[TOPIC]
    topic = Replayable("a", contract, decoder(contract), routes, {"bill": Bounds()})
    assert {"bill": "replayed"} == reasons(Replayer(topic, "r", ALL), record())


def test_what_waits_for_several_events_and_sagas_are_left_out(folder: Folder) -> None:
    act = "{kind: noop, idempotency_key: command, replay: safe}"
    (folder.root / "flows" / "ready.yaml").write_text(
        "name: ready\nowner: a\ndescription: b\nwhen: {within: 1d, any: {x: {topic: "
        f"{TOPIC}}}}}}}\naction: {act}\n"
    )
    (folder.root / "flows" / "sagas").mkdir()
    (folder.root / "flows" / "sagas" / "order.yaml").write_text(
        f"name: order\nversion: 1\nowner: a\ndescription: b\non: {TOPIC}\n"
        f"steps: [{{name: x, action: {act}}}]\n"
    )
    _, flows = folder.load()
    assert {"order": "saga", "ready": "waits"} == left_out(flows, TOPIC)
    environment = {"EDO_TOPICS": str(folder.shelf.root), "EDO_BROKER": "127.0.0.1:1"}
    result = CliRunner().invoke(app, ["replay", TOPIC], env=environment)
    assert "order: a saga, whose key has had its instance" in str(result.exception)
    folder.flow("ship")
    assert {"ship": "replayed"} == reasons(folder.replayer(), record())


# What became of records.


def account(*runs: Run, settled: tuple[Run, ...] = (), start: int | None = None) -> Account:
    return Account("a", "g", TOPIC, 0, NOW_MS, runs, settled, start)


def test_accounts_say_what_became_of_each_record() -> None:
    fates = Fates(10, 20)
    fates.take(account(Run(8, 4, "e"), Run(12, 2, "h"), start=0))
    fates.take(account(Run(14, 1, "d"), Run(18, 9, "x"), settled=(Run(12, 1, "e"),)))
    found = {offset: fate for offset in range(10, 20) if (fate := fates.of(offset)) is not None}
    expected = {10: "e", 11: "e", 12: "e", 13: "h", 14: "d", 18: "x", 19: "x"}
    assert expected == {offset: fate.value for offset, fate in found.items()}
    assert not fates.is_cut


def test_what_went_on_once_went_on_whatever_a_later_reading_says() -> None:
    fates = Fates(0, 3)
    fates.take(account(Run(0, 2, "e"), Run(2, 1, "x"), start=0))
    fates.take(account(Run(0, 2, "d"), Run(2, 1, "e"), start=0))
    assert [Fate.EMITTED] * 3 == [fates.of(offset) for offset in range(3)]


def test_without_the_accounts_of_the_range_the_results_tell_what_went_on() -> None:
    fates = Fates(0, 6)
    assert fates.is_cut
    fates.take(account(Run(4, 2, "d")))
    assert fates.is_cut
    for offset in (1, 3, 9):
        fates.went_on(offset)
    went_on = Counter(fates.of(offset) for offset in range(6))
    assert {None: 2, Fate.EMITTED: 2, Fate.DUPLICATE: 2} == went_on
    late = Fates(4, 6)
    late.take(account(Run(4, 2, "d")))
    assert not late.is_cut


# The command line, as far as no broker is asked.


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["shop.order.paced"], "did you mean shop.order.placed?"),
        ([TOPIC, "--from", "yesterday"], "--from: write an offset or a time"),
        ([TOPIC, "--from", "5", "--to", "2"], "--to: it is before --from"),
        (
            [TOPIC, "--from", "2026-01-31T12:00:00Z", "--to", "2026-01-31T11:00:00Z"],
            "before --from",
        ),
        ([TOPIC, "--partition", "4"], "has no partition 4"),
        ([TOPIC, "--where", "{"], "--where: "),
        ([TOPIC, "--where", '{"data": 5}'], "--where: "),
        ([TOPIC, "--where", "data.total >"], "--where: not an expression in CEL"),
        ([TOPIC, "--where", "@nowhere"], "--where @nowhere: No such file"),
        ([TOPIC, "--flow", "shop"], "no flow shop on shop.order.placed: did you mean ship?"),
    ],
)
def test_what_makes_no_sense_is_said(folder: Folder, arguments: list[str], said: str) -> None:
    folder.flow("ship")
    environment = {"EDO_TOPICS": str(folder.shelf.root), "EDO_BROKER": "127.0.0.1:1"}
    result = CliRunner().invoke(app, ["replay", *arguments], env=environment)
    assert result.exception is not None
    assert said in str(result.exception)
