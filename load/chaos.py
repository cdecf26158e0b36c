"""Hurt the workers while a burst goes through them, then judge what came out of the topics.

The judge believes nobody: what must come out is computed from the burst's profile, the accounts
are audited against the topics, and the tables are recounted from their changelogs.
"""

import asyncio
import random
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Final

from edo_stream.core.idle import SEQUENCE
from edo_stream.core.sequence import decode_sequence
from edo_stream.observe.audit.reader import AuditSpec, audit_topics
from edo_stream.observe.audit.report import Report
from edo_stream.observe.outcome import Verdict
from edo_stream.registry import Registry
from edo_stream.registry.plan import ACCOUNTS
from load.expect import Comparison, Expectation, compare, expect
from load.fleet import LocalWorker
from load.outcome import judge_topics
from load.plan import plan
from load.profile import Profile
from load.read import count_records, read_ids, records
from load.send import SendPolicy, send

SOURCE: Final = "shop.order.placed"
EMIT: Final = "shop.order.accepted"
DEAD_LETTERS: Final = f"edo.dead-letters.{SOURCE}"
GROUP: Final = "orders"

SESSION_TIMEOUT_S: Final = 6.0
_FROZEN_S: Final = SESSION_TIMEOUT_S + 2.0
_SETTLE_S: Final = 90.0
_POLL_S: Final = 2.0
_DIGEST_BYTES: Final = 16


class Harm(Enum):
    """What is done to one worker."""

    KILL = "kill -9"
    STOP = "SIGTERM"
    FREEZE = "SIGSTOP past the session timeout"


@dataclass(frozen=True, slots=True)
class Storm:
    """A run: a burst through ``workers``, and the harms that they suffer, one after another."""

    profile: Profile
    harms: Sequence[Harm]
    workers: int = 2
    pause_s: tuple[float, float] = (0.5, 2.5)
    """Between two harms, drawn from the profile's seed."""


@dataclass(slots=True)
class Outcome:
    """What a storm has left behind."""

    comparison: Comparison
    """What came out, against what the burst's profile says must come out."""
    verdict: Verdict
    """What came out, against what is in the source topic."""
    audit: Report
    """The accounts, against source, results and dead letters."""
    harms: list[str] = field(default_factory=list)
    recount: list[str] = field(default_factory=list)
    """Where the tables differ from the burst."""


@contextmanager
def fleet(
    directory: Path, count: int, environment: Mapping[str, str]
) -> Iterator[list[LocalWorker]]:
    """Run workers side by side; they end with the block."""
    hurried = {
        "EDO_SESSION_TIMEOUT_MS": str(int(SESSION_TIMEOUT_S * 1000)),
        "EDO_HEARTBEAT_INTERVAL_MS": "1000",
        **environment,
    }
    workers = [LocalWorker(directory / f"worker-{n}", hurried) for n in range(count)]
    with ExitStack() as stack:
        for worker in workers:
            worker.launch()
            stack.callback(worker.stop)
        for worker in workers:
            worker.wait_ready(60.0)
        yield workers


async def run(  # noqa: PLR0913 - what a run is made of
    storm: Storm,
    workers: Sequence[LocalWorker],
    broker: str,
    app: str,
    registry: Registry,
    report: Callable[[str], None],
) -> Outcome:
    """Send the burst, hurt the workers meanwhile, and judge when all has settled."""
    access = {"bootstrap_servers": broker}
    sending = asyncio.create_task(
        send(plan(storm.profile), SOURCE, access, SendPolicy(), lambda _: None)
    )
    harms = await _hurt(storm, workers, report)
    sent = await sending
    report(f"sent {sent.sent:,} records, {len(harms)} harms done")
    expectation = expect(storm.profile)
    comparison = await _settled(expectation, access, report)
    contract = registry.contracts[SOURCE]
    spec = AuditSpec(app, [contract], [], ACCOUNTS)
    return Outcome(
        comparison,
        await judge_topics(contract, access),
        await audit_topics(spec, access, lambda _: None),
        harms,
        await recount_tables(expectation, access, app),
    )


async def _hurt(
    storm: Storm, workers: Sequence[LocalWorker], report: Callable[[str], None]
) -> list[str]:
    chance = random.Random(storm.profile.seed)
    done = []
    for harm in storm.harms:
        await asyncio.sleep(chance.uniform(*storm.pause_s))
        worker = chance.choice(workers)
        name = f"{harm.value} of {worker.directory.name}"
        report(name)
        await asyncio.to_thread(_do, harm, worker)
        done.append(name)
    return done


def _do(harm: Harm, worker: LocalWorker) -> None:
    match harm:
        case Harm.KILL:
            worker.kill()
            worker.launch()
        case Harm.STOP:
            worker.stop()
            worker.launch()
        case Harm.FREEZE:
            worker.freeze()
            time.sleep(_FROZEN_S)
            worker.thaw()
            # It learns that it was replaced, and comes back; or it has left by itself.
            time.sleep(_POLL_S)
            if not worker.is_running:
                worker.launch()


async def _settled(
    expectation: Expectation, access: Mapping[str, str], report: Callable[[str], None]
) -> Comparison:
    """Compare until all has come out, or for as long as it may take."""
    deadline = time.monotonic() + _SETTLE_S
    while True:
        ids = await read_ids(EMIT, access, expectation.emitted.keys())
        dead = await count_records(DEAD_LETTERS, access, expectation.emitted.keys())
        comparison = compare(expectation, ids, dead)
        waits = comparison.missing or comparison.dead_letters_missing > 0
        if not waits or time.monotonic() > deadline:
            return comparison
        report(f"{comparison.emitted:,} of {expectation.events:,} are out")
        await asyncio.sleep(_POLL_S)


async def recount_tables(
    expectation: Expectation, access: Mapping[str, str], app: str
) -> list[str]:
    """Compare the tables, as their changelogs have them, with the burst."""
    state = await read_table(f"{app}-{GROUP}-state-changelog", access)
    differences = []
    for key, numbers in expectation.emitted.items():
        raw = state.get(SEQUENCE + SOURCE.encode() + b"\0" + key)
        if raw is None:
            differences.append(f"{key!r}: no row")
            continue
        row = decode_sequence(raw)
        if row.next <= numbers[-1] or row.held:
            differences.append(
                f"{key!r}: next {row.next} with {row.held} held, after {numbers[-1]}"
            )
    return differences


async def read_table(changelog: str, access: Mapping[str, str]) -> dict[bytes, bytes]:
    """Rows of a table over all partitions, from committed records of its changelog."""
    rows: dict[bytes, bytes] = {}
    async for record in records(changelog, access, lambda _: True):
        if record.value is None:
            rows.pop(record.key, None)
        else:
            rows[record.key] = record.value
    return rows


def clear(directory: Path) -> None:
    """Remove what an earlier run left."""
    shutil.rmtree(directory, ignore_errors=True)
