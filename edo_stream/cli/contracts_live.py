"""`edo contracts test`: the last records of live topics, judged as workers would judge them."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Final

import typer
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import ConsumerRecord
from rich.table import Table
from rich.text import Text

from edo_stream.cli.contracts_broker import Broker
from edo_stream.cli.contracts_read import AsJson, entry_of, print_json
from edo_stream.cli.environment import Environment, unreachable
from edo_stream.cli.screen import screen
from edo_stream.core.event import Decoded, Event, Violation
from edo_stream.engine.clock import now_ms
from edo_stream.registry.contracts import contract_of
from edo_stream.registry.enforced import rules_of
from edo_stream.registry.entry import Entry
from edo_stream.schemas.enforcement import Decode, Tally, enforced
from edo_stream.sources import decoder

_SHOWN_MAX: Final = 20
_FETCH_MS: Final = 500


@dataclass(slots=True)
class Outcome:
    """What became of the records of one topic."""

    topic: str
    is_there: bool = True
    records: int = 0
    events: int = 0
    ignored: int = 0
    rules: Counter[str] = field(default_factory=Counter)
    """Violations by reason."""
    shown: list[dict[str, Any]] = field(default_factory=list)
    """The first of them, with their places."""

    @property
    def violations(self) -> int:
        """How many records a worker would refuse."""
        return self.rules.total()


def judged_as_workers_do(entry: Entry) -> Decode:
    """The decoder of a topic with all that its contract enforces, dates of adoption left out.

    Raises:
        RegistryError: a schema cannot be used.
    """
    rules = replace(rules_of(entry.declaration, entry.file), warn_until_ms=None)
    return enforced(decoder(contract_of(entry.declaration)), rules, now_ms, Tally())


def judge_live(
    topics: Annotated[
        list[str] | None, typer.Argument(metavar="[TOPIC]...", help="Default: all.")
    ] = None,
    last: Annotated[
        int, typer.Option("--last", min=1, help="Records of each topic, the newest.")
    ] = 100,
    as_json: AsJson = False,
) -> None:
    """Judge the last records that are on the topics; nothing is committed or changed.

    Exit codes: 0 all keep their contract, 1 some do not, 3 no broker.
    """
    environment = Environment.read()
    entries = [entry_of(environment.registry, name) for name in topics or ()]
    chosen = entries or list(environment.registry.entries.values())
    decoders = {entry.name: judged_as_workers_do(entry) for entry in chosen}
    with unreachable(environment.settings.broker):
        outcomes = asyncio.run(_judge(environment, decoders, last))
    if as_json:
        print_json([_as_json(outcome) for outcome in outcomes])
    else:
        _show(outcomes)
    is_well = all(outcome.is_there and not outcome.violations for outcome in outcomes)
    raise typer.Exit(0 if is_well else 1)


async def _judge(
    environment: Environment, decoders: Mapping[str, Decode], last: int
) -> list[Outcome]:
    async with Broker(environment.access) as broker:
        seen = await broker.seen(decoders)
    if not seen:
        # Nothing to read; besides, a consumer that is stopped as soon as it started raises.
        return [Outcome(topic, is_there=False) for topic in decoders]
    consumer = AIOKafkaConsumer(
        **environment.access.client(),
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    outcomes = []
    try:
        await consumer.start()
        for topic, decode in decoders.items():
            if topic not in seen:
                outcomes.append(Outcome(topic, is_there=False))
                continue
            places = [TopicPartition(topic, number) for number in range(seen[topic].partitions)]
            found = [record async for record in newest(consumer, places, last)]
            found.sort(key=lambda record: (record.timestamp, record.partition, record.offset))
            outcomes.append(_outcome(topic, found[-last:], decode))
    finally:
        await consumer.stop()
    return outcomes


async def newest(
    consumer: AIOKafkaConsumer, places: Sequence[TopicPartition], last: int
) -> AsyncIterator[ConsumerRecord]:
    """Up to so many records from before the end of each partition, as of now."""
    ends = await consumer.end_offsets(places)
    firsts = await consumer.beginning_offsets(places)
    left = {place for place in places if firsts[place] < ends[place]}
    if not left:
        return
    consumer.assign(sorted(left))
    for place in left:
        # Some offsets hold no record but a transaction's end.
        consumer.seek(place, max(firsts[place], ends[place] - 2 * last))
    while left:
        for place, records in (await consumer.getmany(*left, timeout_ms=_FETCH_MS)).items():
            for record in records:
                if record.offset < ends[place]:
                    yield record
        for place in list(left):
            if await consumer.position(place) >= ends[place]:
                left.discard(place)
                consumer.pause(place)
    consumer.unsubscribe()


def _outcome(topic: str, records: Sequence[ConsumerRecord], decode: Decode) -> Outcome:
    outcome = Outcome(topic, records=len(records))
    for record in records:
        found = decode(record)
        if isinstance(found, Event):
            outcome.events += 1
        elif isinstance(found, Violation):
            outcome.rules[found.reason] += 1
            if len(outcome.shown) < _SHOWN_MAX:
                outcome.shown.append(_shown(record, found))
        else:
            outcome.ignored += 1
    return outcome


def _shown(record: ConsumerRecord, found: Decoded) -> dict[str, Any]:
    assert isinstance(found, Violation)
    return {
        "partition": record.partition,
        "offset": record.offset,
        "reason": found.reason,
        "detail": found.detail,
    }


def _as_json(outcome: Outcome) -> dict[str, Any]:
    return {
        "topic": outcome.topic,
        "there": outcome.is_there,
        "records": outcome.records,
        "events": outcome.events,
        "ignored": outcome.ignored,
        "violations": outcome.violations,
        "reasons": dict(outcome.rules),
        "shown": outcome.shown,
    }


def _show(outcomes: Sequence[Outcome]) -> None:
    console = screen()
    table = Table("topic", "records", "events", "ignored", "violations", "reasons")
    table.columns[0].overflow = "fold"
    for outcome in outcomes:
        if not outcome.is_there:
            table.add_row(Text(outcome.topic), "", "", "", "", "is not at the broker")
            continue
        counts = (outcome.records, outcome.events, outcome.ignored, outcome.violations)
        reasons = ", ".join(f"{name} {count}" for name, count in outcome.rules.items())
        table.add_row(Text(outcome.topic), *(f"{count:,}" for count in counts), Text(reasons))
    console.print(table)
    for outcome in outcomes:
        for one in outcome.shown:
            console.print(
                f"{outcome.topic}[{one['partition']}] at {one['offset']}: {one['detail']}",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )
