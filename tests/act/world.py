"""One task of the act plane over logs in memory: crashes, aborts, executors by seed, a clock.

The world does what the engine does around the pipeline: it reads records from logs at the
positions that were committed, runs what is ready for some time, and commits or aborts what a step
wants. It writes down every run and every end, and judges the history when all has come to rest.
"""

import random
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

import msgspec

from edo_stream.core.accounts import Account, Fate
from edo_stream.core.act.ladder import Ladder, RetryPolicy
from edo_stream.core.act.outcome import Done, Failed, FailureClass, Outcome
from edo_stream.core.act.pipeline import ActPipeline
from edo_stream.core.act.policy import (
    ActSpec,
    Delivery,
    FlowPolicy,
    Order,
    Singleton,
)
from edo_stream.core.act.tags import CANCEL_TAG, TAGS, encode_tag, encode_tags
from edo_stream.core.act.turns import KeyLimit, Throttle
from edo_stream.core.act.work import Work
from edo_stream.core.effects import Effects, Publish
from edo_stream.core.record import Batch, StoredRecord
from edo_stream.core.state import Table
from edo_stream.core.task import InternalTopics, TaskIdentity
from tests.core.memory import Memory

PARTITION = 2
CONTROL = "edo.control.act"
INTERNAL = InternalTopics("edo.accounts", 3, "edo.gaps", 3, CONTROL)
IDENTITY = TaskIdentity("app", "act", PARTITION)
START_MS = 1_700_000_000_000
RETRY = RetryPolicy(initial_ms=1_000, factor=2, max_ms=4_000, retries=3)
TIERS = {1_000: "edo.retry.act.1s", 2_000: "edo.retry.act.2s", 4_000: "edo.retry.act.4s"}


def policy(flow: str = "ship", **rest: Any) -> FlowPolicy:
    """A flow's rules with the values that the tests do not care about."""
    parts: dict[str, Any] = {
        "owner": "shop-team",
        "commands": f"edo.commands.{flow}",
        "outcomes": f"edo.outcomes.{flow}",
        "dead_letters": f"edo.dead.{flow}",
        "retry": RETRY,
    }
    return FlowPolicy(flow, **{**parts, **rest})


def spec(*flows: FlowPolicy, **rest: Any) -> ActSpec:
    """A group of flows on the ladder of the tests."""
    ladder = Ladder(tuple(TIERS))
    return ActSpec({flow.flow: flow for flow in flows}, ladder, TIERS, "edo.dead", **rest)


@dataclass
class Run:
    """One run of a command's executor."""

    command_id: str
    attempt: int
    at_ms: int
    number: int
    is_fresh: bool
    """Not a retry."""


@dataclass
class World:
    """Logs, committed state, and the task that works on them."""

    spec: ActSpec
    now_ms: int = START_MS
    logs: dict[str, list[StoredRecord]] = field(default_factory=lambda: defaultdict(list))
    memory: Memory = field(default_factory=Memory)
    runs: list[Run] = field(default_factory=list)
    published: list[Publish] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Start the task anew from what is committed."""
        self.state = Table(self.memory)
        self.pipeline = ActPipeline(IDENTITY, self.spec, self.state, INTERNAL)
        topics = [flow.commands for flow in self.spec.flows.values()]
        for topic in (*topics, *self.spec.tiers.values(), CONTROL):
            if topic not in self.pipeline.positions():
                self.commit(self.pipeline.start(topic, 0, self.now_ms))
        self.reading = dict(self.pipeline.positions())

    def abort(self) -> None:
        """What the step wanted did not commit: the task reads again."""
        self.pipeline.discard()
        self.reading = dict(self.pipeline.positions())

    def commit(self, effects: Effects) -> None:
        """Append what a step published to the logs, and its rows to the disk."""
        for publish in effects.publish:
            self.published.append(publish)
            self.append(publish.topic, publish.key, publish.value, list(publish.headers))
        self.memory.write(self.state.local)
        self.state.settle()

    def append(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: list[tuple[str, bytes | None]],
    ) -> None:
        """Write a record to a log; every seventh offset is a transaction marker."""
        log = self.logs[topic]
        offset = log[-1].offset + 1 if log else 0
        offset += offset % 7 == 6
        log.append(StoredRecord(topic, PARTITION, offset, self.now_ms, key, value, tuple(headers)))

    def send(self, command_id: str, key: str, flow: str = "ship", tag: str = "") -> None:
        """Write a command as the decide plane does."""
        headers: list[tuple[str, bytes | None]] = [
            ("ce_id", command_id.encode()),
            ("ce_type", b"ship.order"),
        ]
        if tag:
            headers.append((TAGS, encode_tags({FIELD: tag})))
        self.append(self.spec.flows[flow].commands, key.encode(), b"{}", headers)

    def send_cancel(
        self,
        event: str,
        key: str,
        flow: str = "ship",
        is_announced: bool = True,
        is_tag: bool = False,
    ) -> None:
        """Write what the decide plane does for an event that cancels, by a key or a tag."""
        headers: list[tuple[str, bytes | None]] = [
            ("ce_id", f"cancel-{event}".encode()),
            ("ce_type", b"shop.order.cancelled"),
            ("ce_causationid", event.encode()),
            ("edo-position", b"shop.order.cancelled/0/7"),
            ("edo-flow", flow.encode()),
            ("edo-cancel", b"announced" if is_announced else b"alone"),
        ]
        if is_tag:
            headers.append((CANCEL_TAG, encode_tag(FIELD, key)))
        if is_announced:
            self.append(CONTROL, key.encode(), None, headers)
        self.append(self.spec.flows[flow].commands, key.encode(), None, headers)

    def ask(self, op: str, key: str, flow: str = "ship") -> None:
        """Write an operator's request."""
        request = {"op": op, "flow": flow, "key": key}
        self.append(CONTROL, None, msgspec.json.encode(request), [])

    def batches(self, records_max: int = 50) -> list[Batch]:
        """Read on where there is something and room for it."""
        batches = []
        for topic, position in self.reading.items():
            room = min(records_max, self.pipeline.room(topic))
            found = [record for record in self.logs[topic] if record.offset >= position][:room]
            if found:
                self.reading[topic] = found[-1].offset + 1
                batches.append(Batch(topic, PARTITION, found))
        return batches

    def step(self, records_max: int = 50) -> Effects:
        """Read and decide; what it wants is not committed yet."""
        return self.pipeline.step(self.batches(records_max), self.now_ms, self.now_ms)

    def settle(self) -> None:
        """Step and commit until nothing is to be decided at this moment."""
        while True:
            effects = self.step()
            wants = bool(effects.publish or self.state.changelog)
            self.commit(effects)
            due_ms = self.pipeline.next_due_ms()
            if not wants and (due_ms is None or due_ms > self.now_ms):
                return

    def take(self, flow: str = "ship") -> Work:
        """Take the next command that may run, its start committed where that is asked for."""
        work = self.pipeline.take(flow)
        if work is None:
            self.commit(self.step())
            (work,) = self.pipeline.begun()
        self.ran(work)
        return work

    def ran(self, work: Work) -> None:
        """Write down that a command's executor was called."""
        command = work.command
        number = len(self.runs)
        is_fresh = command.first_ms is None
        self.runs.append(Run(command.id, command.attempt, self.now_ms, number, is_fresh))

    def run(self, outcome: Outcome, flow: str = "ship") -> str:
        """Run the next command to an end, and settle; returns its id."""
        work = self.take(flow)
        self.pipeline.finish(work, outcome)
        self.settle()
        return work.command.id

    def ids(self, topic: str) -> list[str]:
        """Causes of what was published to a topic."""
        return [cause_of(one) for one in self.published if one.topic == topic]

    def fates(self) -> dict[tuple[str, int], str]:
        """Final fates by topic and offset, from the accounts; each offset read only once."""
        found: dict[tuple[str, int], str] = {}
        for one in self.published:
            if one.topic != INTERNAL.accounts:
                continue
            account = msgspec.json.decode(one.value or b"", type=Account)
            for run in account.runs:
                for offset in range(run.offset, run.offset + run.length):
                    assert (account.topic, offset) not in found, f"twice: {account}"
                    found[account.topic, offset] = run.fate
            for run in account.settled:
                for offset in range(run.offset, run.offset + run.length):
                    assert found[account.topic, offset] == Fate.HELD.value, f"not held: {account}"
                    found[account.topic, offset] = run.fate
        return found


def header(publish: Publish, name: str) -> str:
    """Value of a header, empty when there is none."""
    return next((value.decode() for key, value in publish.headers if key == name and value), "")


def cause_of(publish: Publish) -> str:
    """Id of the command that a record is about."""
    return header(publish, "ce_causationid") or header(publish, "ce_id")


TRANSIENT = Failed(FailureClass.TRANSIENT, "http-503")
POISON = Failed(FailureClass.POISON, "http-400")
BUSINESS = Failed(FailureClass.BUSINESS, "no-stock")
PATIENT = Failed(FailureClass.TRANSIENT, "http-503", retry_after_ms=9_500)
FIELD = "/order"
STOPPED = Failed(FailureClass.CANCELLED, "cancelled")
#: Ends without a run, or with one that was ended.
UNRUN = ("skipped", "limited", "cancelled")
THROTTLED = Failed(FailureClass.THROTTLED, "http-429", retry_after_ms=3_000)


class History:
    """A random history of a world, and its judgement."""

    def __init__(self, seed: int, pauses: float = 0.2) -> None:
        self.chance = random.Random(seed)
        chance = self.chance
        order = chance.choice([Order.STRICT, Order.STRICT, Order.RELAXED])
        is_strict = order is Order.STRICT
        self.ship = policy(
            order=order,
            singleton=chance.choice([None, None, None, *Singleton]) if is_strict else None,
            throttle=chance.choice([None, None, Throttle(2, 1_000), Throttle(3, 9_000, 2)]),
            rate_limit=chance.choice([None, None, KeyLimit(1, 2_000), KeyLimit(3, 10_000)]),
            delivery=chance.choice([Delivery.AT_LEAST_ONCE, Delivery.AT_MOST_ONCE]),
            retry=RetryPolicy(
                1_000, 2, 4_000, chance.randrange(0, 4), jitter=chance.choice([0, 0.5])
            ),
            parked_per_key_max=chance.choice([1, 3, 100]),
            has_tags=is_strict and seed % 2 == 0,
        )
        self.world = World(
            spec(
                self.ship,
                policy("bill"),
                window_max=chance.choice([3, 20, 100]),
                parked_max=chance.choice([4, 1_000]),
            )
        )
        self.sent: dict[str, tuple[str, str]] = {}
        self.tags: dict[str, str] = {}
        self.running: list[Work] = []
        self.ends: Counter[str] = Counter()
        self.moves = [
            (self.send, 4.0),
            (self.turn, 8.0),
            (self.start, 6.0),
            (self.end, 6.0),
            (self.pass_time, 2.0),
            (self.crash, 0.3),
            (self.abort, 0.5),
            (self.pause, pauses),
            (self.resume, 2 * pauses),
        ]
        if is_strict and chance.random() < 0.5:
            self.moves.append((self.send_cancel, 0.8))
        self.stopped: set[str] = set()
        """Commands whose runs are to be ended."""
        self.cancels = 0

    def play(self, moves: int = 120) -> None:
        """Let things happen, then let all come to rest."""
        possible, weights = zip(*self.moves, strict=True)
        for _ in range(moves):
            self.chance.choices(possible, weights)[0]()
        self.resume()
        for _ in range(10_000):
            self.turn(is_sure=True)
            while self.start():
                pass
            if self.running:
                self.end()
                continue
            due_ms = self.world.pipeline.next_due_ms()
            if due_ms is not None:
                self.world.now_ms = max(self.world.now_ms, due_ms)
            elif not self.world.batches():
                return
            else:
                self.world.abort()
        raise AssertionError("it never comes to rest")

    def send(self) -> None:
        flow, key = self.chance.choice(["ship", "ship", "bill"]), self.chance.choice("abc")
        command_id = f"{flow}-{key}-{len(self.sent)}"
        self.sent[command_id] = (flow, key)
        tag = self.chance.choice(["", "x", "y"]) if self.ship.has_tags else ""
        self.tags[command_id] = tag
        self.world.send(command_id, key, flow, tag)

    def send_cancel(self) -> None:
        self.cancels += 1
        is_announced = self.chance.random() < 0.8
        is_tag = self.ship.has_tags and self.chance.random() < 0.5
        key = self.chance.choice("xy" if is_tag else "abc")
        name = f"e-{self.cancels}"
        self.world.send_cancel(name, key, is_announced=is_announced, is_tag=is_tag)

    def pause(self) -> None:
        self.world.ask("flow.pause", "", self.chance.choice(["ship", "bill"]))

    def resume(self) -> None:
        for flow in ("ship", "bill"):
            self.world.ask("flow.resume", "", flow)

    def turn(self, is_sure: bool = False) -> None:
        """One step that commits, or fails to."""
        world = self.world
        effects = world.step(self.chance.choice([1, 5, 50]))
        if not is_sure and self.chance.random() < 0.05:
            self.running.clear()
            world.abort()
            return
        world.commit(effects)
        begun = world.pipeline.begun()
        for work in begun:
            world.ran(work)
        self.running += begun
        self.stopped |= {command.id for command in world.pipeline.cancelled()}

    def start(self) -> bool:
        paused = self.world.pipeline.paused()
        flows = [flow for flow in self.world.pipeline.ready_flows() if flow not in paused]
        if not flows:
            return False
        work = self.world.pipeline.take(self.chance.choice(flows))
        if work is not None:
            self.world.ran(work)
            self.running.append(work)
        return True

    def end(self) -> None:
        if self.running:
            work = self.running.pop(self.chance.randrange(len(self.running)))
            outcomes = [Done(b"{}"), TRANSIENT, THROTTLED, PATIENT, BUSINESS, POISON]
            outcome = self.chance.choices(outcomes, [6, 4, 0.5, 0.5, 0.5, 0.5])[0]
            if work.command.id in self.stopped and self.chance.random() < 0.8:
                outcome = STOPPED
            self.world.pipeline.finish(work, outcome)

    def pass_time(self) -> None:
        self.world.now_ms += self.chance.choice([1, 500, 3_000])

    def crash(self) -> None:
        self.running.clear()
        self.world.begin()

    def abort(self) -> None:
        self.running.clear()
        self.world.abort()

    def judge(self) -> None:
        """Every command has one end; attempts, times and orders are right."""
        world = self.world
        ends: dict[str, list[Publish]] = defaultdict(list)
        for one in world.published:
            if one.topic.startswith(("edo.outcomes.", "edo.dead")):
                ends[cause_of(one)].append(one)
        assert sorted(ends) == sorted(self.sent), "each command ends"
        assert [cause for cause, found in ends.items() if len(found) > 1] == [], "it ends once"
        self._judge_order(ends)
        self._judge_retries()
        self._judge_control(ends)
        fates = world.fates()
        for topic, log in world.logs.items():
            if topic.startswith(("edo.commands.", "edo.retry.")):
                for record in log:
                    fate = fates.get((topic, record.offset))
                    assert fate not in (None, Fate.HELD.value), f"{topic} {record.offset}: {fate}"
                assert world.pipeline.positions()[topic] > log[-1].offset if log else True
        # Those of limits go when their time has passed.
        leftovers = [row for row in world.memory.rows if row != b"o" and row[:1] not in b"tl"]
        assert leftovers == [], "no row outlives its command"

    def _judge_order(self, ends: dict[str, list[Publish]]) -> None:
        place = {
            one: index
            for index, (one, (end,)) in enumerate(ends.items())
            if header(end, "ce_type").rpartition(".")[2] not in UNRUN
        }
        if self.ship.order is Order.RELAXED:
            place = {one: index for one, index in place.items() if not one.startswith("ship")}
        by_key: dict[tuple[str, str], list[int]] = defaultdict(list)
        for command_id, queue in self.sent.items():
            if command_id in place:
                by_key[queue].append(place[command_id])
        for queue, places in by_key.items():
            assert places == sorted(places), f"{queue} ended out of order"

    def _judge_retries(self) -> None:
        tiers: dict[tuple[str, int], list[int]] = defaultdict(list)
        for one in self.world.published:
            if one.topic in TIERS.values():
                at_ms = int(header(one, "edo-not-before-ms") or header(one, "edo-due-ms"))
                tiers[cause_of(one), int(header(one, "edo-attempt"))].append(at_ms)
        for run in self.world.runs:
            if run.attempt > 1:
                due = tiers[run.command_id, run.attempt]
                assert due, f"{run}: an attempt that nothing announced"
                assert run.at_ms >= min(due), f"{run}: early, due {due}"
        for command_id, attempt in tiers:
            retry = self.ship.retry if command_id.startswith("ship") else RETRY
            assert attempt <= retry.retries + 1, f"{command_id}: attempt {attempt}"
        once = Counter((run.command_id, run.attempt) for run in self.world.runs)
        if self.ship.delivery is Delivery.AT_MOST_ONCE:
            for (command_id, attempt), count in once.items():
                announced = len(tiers[command_id, attempt]) + (attempt == 1)
                assert not command_id.startswith("ship") or count <= announced

    def _judge_control(self, ends: dict[str, list[Publish]]) -> None:
        log = self.world.logs["edo.commands.ship"]
        names = [(name_of(record), record) for record in log]
        ended = {one: index for index, one in enumerate(ends)}
        kinds = {one: header(end, "ce_type").rpartition(".")[2] for one, (end,) in ends.items()}
        order = {name: index for index, (name, _) in enumerate(names)}
        keys = {name: record.key for name, record in names}
        for name, kind in kinds.items():
            told = msgspec.json.decode(ends[name][0].value or b"null") if kind in UNRUN else {}
            if kind == "cancelled" and told["reason"] == "event":
                cancel = f"cancel-{told['event']}"
                meant = (keys[name], self.tags[name].encode())
                assert keys[cancel] in meant, f"{name}: not its key, nor its tag"
                assert order[name] < order[cancel], f"{name}: was made behind {cancel}"
            elif kind == "skipped":
                other = told.get("running") or told["replaced-by"]
                assert keys[other] == keys[name], f"{name}: not its key"
                assert ended[other] > ended[name], f"{name}: skipped for {other}, which had ended"
                assert (order[other] < order[name]) is ("running" in told), f"{name}: {told}"
        if self.ship.throttle is not None:
            self._judge_throttle(self.ship.throttle)

    def _judge_throttle(self, throttle: Throttle) -> None:
        starts: dict[str, list[int]] = defaultdict(list)
        for run in self.world.runs:
            flow, key, _ = run.command_id.split("-")
            if flow == "ship" and run.is_fresh:
                starts[key].append(run.at_ms)
        interval_ms = throttle.per_ms / throttle.limit
        for key, times in starts.items():
            for index, first_ms in enumerate(times):
                for count, last_ms in enumerate(times[index:], start=1):
                    most = throttle.burst + (last_ms - first_ms) / interval_ms
                    assert count <= most + 1e-6, f"{key}: {count} from {first_ms} to {last_ms}"


def name_of(record: StoredRecord) -> str:
    """Id of a command, or of what cancels some."""
    return dict(record.headers)["ce_id"].decode()  # type: ignore[union-attr]
