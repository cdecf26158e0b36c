"""What is known of each command when all has settled: from its topics, and from the ledger."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from aiokafka.structs import ConsumerRecord

from load.act_chaos.place import INITIAL_MS, Place
from load.act_chaos.plan import RETRIES, FlowPlan, Job
from load.effects import Line, Moment, read_ledger
from load.read import records

_POLL_S: Final = 1.0
#: Without an end for so long, a run is over.
_STILL_S: Final = 60.0
#: A run that is being done with when the last end is seen may still write into the ledger.
_STRAY_S: Final = 3.0


@dataclass(slots=True)
class Retry:
    """What a tier says: one attempt has failed, and another may run."""

    attempt: int
    """The next one."""
    at_ms: float
    """It may not run before, epoch ms."""
    reason: str
    """What the one before has failed of."""


@dataclass(slots=True)
class Command:
    """One command, and all that is known of it."""

    id: str
    job: Job
    ends: list[tuple[str, int]] = field(default_factory=list)
    """Kind and number of attempts of each."""
    retries: list[Retry] = field(default_factory=list)
    runs: list[Line] = field(default_factory=list)
    effects: list[Line] = field(default_factory=list)

    @property
    def is_unknown(self) -> bool:
        """Whether nobody knows if it ran."""
        return any(kind == "unknown" for kind, _ in self.ends)


@dataclass(slots=True)
class Evidence:
    """Of one flow."""

    flow: FlowPlan
    commands: dict[str, Command]
    """By id."""
    lines: list[Line]
    """Of the ledger, in its order."""
    asked: Counter[str]
    """Commands by the event that triggered them; 0 for an event that triggered none."""


async def settle(
    place: Place, jobs: Mapping[str, Sequence[Job]], say: Callable[[str], None]
) -> int:
    """Wait until every command has an end, or none comes any more; gives how many have not."""
    wanted = sum(len(made) for made in jobs.values())
    ended, moved_s = -1, time.monotonic()
    while time.monotonic() - moved_s < _STILL_S:
        found = 0
        for flow in place.flows:
            for topic in (f"edo.outcomes.{flow.name}", f"edo.dead-letters.{flow.name}"):
                found += len(await _read(place, topic))
        if found != ended:
            ended, moved_s = found, time.monotonic()
            say(f"{ended:,} of {wanted:,} commands have ended")
        if ended >= wanted:
            break
        await asyncio.sleep(_POLL_S)
    await asyncio.sleep(_STRAY_S)
    return wanted - ended


async def gather(place: Place, jobs: Mapping[str, Sequence[Job]]) -> list[Evidence]:
    """Read all that there is."""
    lines = read_ledger(place.ledger)
    tiers = [
        _headers(record)
        for number in range(RETRIES)
        for record in await _read(place, f"edo.retry.{place.name}.{_tier(number)}")
    ]
    return [
        await _of_flow(
            place, flow, jobs[flow.name], [line for line in lines if line.flow == flow.name], tiers
        )
        for flow in place.flows
    ]


def _tier(number: int) -> str:
    wait_ms = INITIAL_MS * 2**number
    return f"{wait_ms // 1000}s" if wait_ms % 1000 == 0 else f"{wait_ms}ms"


async def _of_flow(
    place: Place,
    flow: FlowPlan,
    jobs: Sequence[Job],
    lines: list[Line],
    tiers: Sequence[Mapping[str, str]],
) -> Evidence:
    by_event = {f"{flow.name}-{job.number}": job for job in jobs}
    commands: dict[str, Command] = {}
    asked = Counter(dict.fromkeys(by_event, 0))
    for record in await _read(place, f"edo.commands.{flow.name}"):
        headers = _headers(record)
        asked[headers["ce_causationid"]] += 1
        commands[headers["ce_id"]] = Command(headers["ce_id"], by_event[headers["ce_causationid"]])
    for record in await _read(place, f"edo.outcomes.{flow.name}"):
        headers = _headers(record)
        kind = headers["ce_type"].rpartition(".")[2]
        commands[headers["ce_causationid"]].ends.append((kind, int(headers["edo-attempt"])))
    for record in await _read(place, f"edo.dead-letters.{flow.name}"):
        headers = _headers(record)
        commands[headers["ce_id"]].ends.append(("letter", int(headers["edo-attempts"])))
    for headers in tiers:
        command = commands.get(headers["ce_id"])
        if command is not None:
            at_ms = float(headers.get("edo-not-before-ms") or headers["edo-due-ms"])
            reason = headers["edo-error"].partition(": ")[2]
            command.retries.append(Retry(int(headers["edo-attempt"]), at_ms, reason))
    for line in lines:
        command = commands[line.command]
        (command.runs if line.moment is Moment.BEGAN else command.effects).append(line)
    return Evidence(flow, commands, lines, asked)


async def _read(place: Place, topic: str) -> list[ConsumerRecord]:
    access = {"bootstrap_servers": place.broker}
    return [record async for record in records(topic, access, lambda _: True)]


def _headers(record: ConsumerRecord) -> Mapping[str, str]:
    return {name: value.decode() for name, value in record.headers}
