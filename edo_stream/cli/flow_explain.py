"""`edo flow explain`: the last events of a flow's topics, and which condition each did not meet."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import ConsumerRecord
from rich.table import Table
from rich.text import Text

from edo_stream.cli.contracts_broker import Broker
from edo_stream.cli.contracts_live import judged_as_workers_do, newest
from edo_stream.cli.contracts_read import AsJson, print_json
from edo_stream.cli.environment import Environment, unreachable
from edo_stream.cli.flow_read import FlowName, require_flow
from edo_stream.cli.operate import readable, shown_time
from edo_stream.cli.screen import screen
from edo_stream.core.event import Event, Violation
from edo_stream.core.record import Record
from edo_stream.flows.trial import Trial, topics_of, trial_of
from edo_stream.schemas.enforcement import Decode

_TOLD = {
    "command": "a command",
    "input": "an input",
    "lookup": "wanted, with",
    "no-match": "not wanted",
    "dead-letter": "a dead letter",
}


def explain(
    name: FlowName,
    key: Annotated[
        str | None, typer.Option("--key", help="Only events, or commands, of this key, as text.")
    ] = None,
    last: Annotated[
        int, typer.Option("--last", min=1, max=100_000, help="Records of each topic, the newest.")
    ] = 20,
    as_json: AsJson = False,
) -> None:
    """Tell of the last events of a flow's topics whether they trigger it, and if not, why not.

    Events are judged by the flow and the contracts as the files have them now. Nothing is written
    or committed.

    Exit codes: 0 told, 2 no such flow, 3 the broker does not answer.
    """
    environment = Environment.read()
    require_flow(environment.flows, name)
    topics = topics_of(name, environment.flows)
    with unreachable(environment.settings.broker):
        records = asyncio.run(_read(environment, topics, last))
    told = list(explained(environment, name, records, None if key is None else key.encode()))
    if as_json:
        print_json({"flow": name, "on": topics, "events": told})
    else:
        _show(name, told)


async def _read(environment: Environment, topics: Sequence[str], last: int) -> list[ConsumerRecord]:
    """The newest records of each topic, oldest first; a topic that is not there has none."""
    async with Broker(environment.access) as broker:
        seen = await broker.seen(topics)
    if not seen:
        return []
    consumer = AIOKafkaConsumer(
        **environment.access.client(),
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    found: list[ConsumerRecord] = []
    try:
        await consumer.start()
        for topic in seen:
            places = [TopicPartition(topic, number) for number in range(seen[topic].partitions)]
            records = [record async for record in newest(consumer, places, last)]
            records.sort(key=_when)
            found += records[-last:]
    finally:
        await consumer.stop()
    return sorted(found, key=_when)


def _when(record: ConsumerRecord) -> tuple[int, str, int, int]:
    return record.timestamp, record.topic, record.partition, record.offset


def explained(
    environment: Environment, name: str, records: Sequence[Record], key: bytes | None
) -> Iterator[dict[str, Any]]:
    """What came of each record of the flow's topics, as plain values; of one key, or of all."""
    entries = environment.registry.entries
    decoders: dict[str, Decode] = {
        topic: judged_as_workers_do(entries[topic]) for topic in topics_of(name, environment.flows)
    }
    for record in records:
        said: dict[str, Any] = {
            "place": f"{record.topic}/{record.partition}/{record.offset}",
            "timeMs": record.timestamp,
        }
        event = decoders[record.topic](record)
        if not isinstance(event, Event):
            if key in (None, record.key):
                detail = event.detail if isinstance(event, Violation) else ""
                yield {
                    **said,
                    "result": "no-event",
                    "why": f"{event.reason}: {detail}".rstrip(": "),
                }
            continue
        contract = environment.registry.topics[record.topic].contract
        app = environment.settings.app_id
        trial = trial_of(name, environment.flows, contract, app, (record, event))
        keys = {event.key, record.key, None if trial.written is None else trial.written.key}
        if key is not None and key not in keys:
            continue
        result = "command" if trial.is_command else "input"
        if trial.reason is not None:
            result = "dead-letter"
        is_wanted = trial.written is not None or trial.waits_for is not None
        if trial.waits_for is not None:
            result = "lookup"
        yield {
            **said,
            "event": event.id,
            "key": readable(event.key),
            "result": result if is_wanted else "no-match",
            "why": trial.why,
            "command": _id_of(trial) if trial.is_command else None,
            **(_wait_of(trial) if result == "input" and is_wanted else {}),
        }


def _wait_of(trial: Trial) -> dict[str, Any]:
    """Which input an event is, where they have names, and of which key."""
    assert trial.written is not None, "it is written to the task of its key"
    named = {} if trial.input is None else {"input": trial.input}
    return {**named, "wait": {"key": readable(trial.written.key or b"")}}


def _id_of(trial: Trial) -> str:
    """Id of the command that the event was, if the worker had the same files."""
    assert trial.written is not None, "a command is written"
    return (dict(trial.written.headers)["ce_id"] or b"").decode()


def _because(one: dict[str, Any]) -> str:
    """Why an event came to nothing; of an input, which it is and of which key."""
    if "wait" not in one:
        return one["why"] or ""
    key = f"of key {one['wait']['key']}"
    return f"{one['input']}, {key}" if "input" in one else key


def _show(name: str, told: Sequence[dict[str, Any]]) -> None:
    console = screen()
    if not told:
        console.print(f"{name}: there are no such events", markup=False)
        return
    table = Table("place", "at", "event", "key", "it is", "because")
    for one in told:
        table.add_row(
            one["place"],
            shown_time(one["timeMs"]),
            Text(one.get("event", "")),
            Text(one.get("key", "")),
            _TOLD.get(one["result"], "no event"),
            Text(_because(one)),
        )
    console.print(table)
    counts = Counter(one["result"] for one in told)
    said = ", ".join(
        f"{_TOLD.get(result, 'no event')}: {count:,}" for result, count in counts.items()
    )
    console.print(f"{name}: {len(told):,} events; {said}", markup=False)
