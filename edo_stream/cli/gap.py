"""`edo gap`: what waits for a missing number, and what an operator can do about it."""

import asyncio
import json
import secrets
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, Final

import typer
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from rich.console import Console
from rich.table import Table
from rich.text import Text

from edo_stream.cli.environment import CommandError, Environment, unreachable
from edo_stream.core.headers import time_text
from edo_stream.core.notices import key_json
from edo_stream.engine.plans import group_tables
from edo_stream.observe.held import HeldKey, read_held
from edo_stream.registry import control_topic
from edo_stream.registry.plan import GAPS, GAPS_PARTITIONS

app = typer.Typer(no_args_is_help=True, help="Events that wait for a missing number.")

_NOT_DONE: Final = 1
_USAGE: Final = 2
_UNREACHABLE: Final = 3

OPERATION_DONE: Final = b"edo.operation.done"
OPERATION_REFUSED: Final = b"edo.operation.refused"

Topic = Annotated[str, typer.Argument(help="Topic that the events were read from.")]
Key = Annotated[str | None, typer.Argument(help="Key, as text.")]
KeyBase64 = Annotated[
    str | None, typer.Option("--key-base64", help="Key in base64, where it is no text.")
]
Partition = Annotated[
    int | None, typer.Option(min=0, help="Partition, where a key waits in more than one.")
]
Timeout = Annotated[float, typer.Option(min=0.0, help="Seconds to wait for the worker's answer.")]


@dataclass(frozen=True, slots=True)
class _Target:
    """What an operator wants to act on."""

    topic: str
    key: bytes
    partition: int | None


@app.callback()
def gap() -> None:
    """Events that wait for a missing number."""


@app.command("list")
def list_(
    topic: Annotated[str | None, typer.Option(help="Only of this topic.")] = None,
    key: Annotated[str | None, typer.Option(help="Only of this key, as text.")] = None,
    key_base64: KeyBase64 = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the keys that wait, for which number, since when and for how long."""
    wanted = None if key is None and key_base64 is None else _key(key, key_base64)
    environment = Environment.read()
    with unreachable(environment.settings.broker):
        found = asyncio.run(_held(environment, topic, wanted))
    if as_json:
        print(json.dumps([_as_json(held) for held in found]))
    else:
        _show(found)


@app.command()
def skip(  # noqa: PLR0913 - the command line
    topic: Topic,
    key: Key = None,
    to: Annotated[
        int | None, typer.Option(min=0, help="Give up the missing numbers up to this one.")
    ] = None,
    key_base64: KeyBase64 = None,
    partition: Partition = None,
    timeout: Timeout = 30.0,
) -> None:
    """Give up the missing numbers of a key up to --to, and let go on what waits for them."""
    if to is None:
        raise CommandError("--to is missing: write the last number to give up", _USAGE)
    target = _Target(topic, _key(key, key_base64), partition)
    _operate(target, {"op": "gap.skip", "to": to}, timeout)


@app.command()
def release(
    topic: Topic,
    key: Key = None,
    key_base64: KeyBase64 = None,
    partition: Partition = None,
    timeout: Timeout = 30.0,
) -> None:
    """Let go on, in order, all that waits of a key, and give up every gap in it."""
    target = _Target(topic, _key(key, key_base64), partition)
    _operate(target, {"op": "gap.release"}, timeout)


def _key(text: str | None, base64: str | None) -> bytes:
    if (text is None) == (base64 is None):
        raise CommandError("write the key, or --key-base64: one of them", _USAGE)
    if text is not None:
        # As it came from the command line, which may not have been UTF-8.
        return text.encode("utf-8", "surrogateescape")
    try:
        return b64decode(base64 or "", validate=True)
    except (Base64Error, ValueError) as error:
        raise CommandError(f"--key-base64 {base64}: {error}", _USAGE) from error


async def _held(environment: Environment, topic: str | None, key: bytes | None) -> list[HeldKey]:
    """Keys that wait, read from the changelogs of all groups that may have them."""
    registry, app_id = environment.registry, environment.settings.app_id
    if topic is not None and topic not in registry.topics:
        raise CommandError(
            f"{topic} is not declared in {environment.settings.topics}: there are "
            f"{', '.join(registry.topics)}",
            _USAGE,
        )
    groups = registry.groups if topic is None else [registry.contracts[topic].group]
    changelogs = {group: group_tables(app_id, group)[0].changelog for group in groups}
    found = await read_held(changelogs, environment.access.client())
    return [
        held for held in found if topic in (None, held.topic) and (key is None or key == held.key)
    ]


def _as_json(held: HeldKey) -> dict[str, Any]:
    return {
        "topic": held.topic,
        "partition": held.partition,
        "group": held.group,
        "key": key_json(held.key),
        "next": held.next,
        "held": held.held,
        "lowest": held.lowest,
        "highest": held.highest,
        "sinceMs": held.since_ms,
        "deadlineMs": held.due_ms,
    }


def _show(found: Sequence[HeldKey]) -> None:
    if not found:
        print("nothing is held")
        return
    table = Table("topic", "partition", "key", "next", "held", "since", "deadline")
    for column in table.columns:
        column.overflow = "fold"
    for held in found:
        table.add_row(
            held.topic,
            str(held.partition),
            Text(_readable(held.key)),
            str(held.next),
            f"{held.held} ({held.lowest}..{held.highest})",
            _time(held.since_ms),
            "none" if held.due_ms is None else _time(held.due_ms),
        )
    Console().print(table)


def _readable(key: bytes) -> str:
    """Key as text, or as the option that names it where it is none or would not show."""
    text = key_json(key)
    if isinstance(text, str) and text.isprintable():
        return text
    return f"--key-base64 {b64encode(key).decode()}"


def _time(at_ms: int) -> str:
    return (time_text(at_ms) or b"").decode()


def _operate(target: _Target, request: Mapping[str, Any], timeout_s: float) -> None:
    environment = Environment.read()
    with unreachable(environment.settings.broker):
        held = _only(asyncio.run(_held(environment, target.topic, target.key)), target)
        # The id names the request: its answer repeats it.
        name = secrets.token_hex(8)
        whole = {**request, "topic": held.topic, "key": key_json(held.key), "id": name}
        done, reason = asyncio.run(_ask(environment, held, whole, timeout_s))
    what = f"{request['op']} of {_name(held)}"
    if not done:
        raise CommandError(f"{what} was refused: {reason}", _NOT_DONE)
    print(f"{what} is done")


def _only(found: Sequence[HeldKey], target: _Target) -> HeldKey:
    """Where the key waits; the request goes to that partition and no other."""
    partition = target.partition
    here = [held for held in found if partition in (None, held.partition)]
    match here:
        case [held]:
            return held
        case []:
            where = "" if partition is None else f" in partition {partition}"
            raise CommandError(
                f"nothing is held for key {_readable(target.key)} of {target.topic}{where}: "
                "'edo gap list' shows what is",
                _NOT_DONE,
            )
        case _:
            partitions = ", ".join(str(held.partition) for held in here)
            raise CommandError(
                f"key {_readable(target.key)} of {target.topic} waits in partitions {partitions}: "
                "choose one with --partition",
                _NOT_DONE,
            )


async def _ask(
    environment: Environment, held: HeldKey, request: Mapping[str, Any], timeout_s: float
) -> tuple[bool, str]:
    """Send a request to the task that holds the key; whether it was done, or else why not."""
    broker = environment.access.client()
    place = TopicPartition(control_topic(held.group), held.partition)
    answers = TopicPartition(GAPS, held.partition % GAPS_PARTITIONS)
    consumer = AIOKafkaConsumer(
        **broker,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    try:
        await consumer.start()
        # Before the request is sent: the answer lies behind this end.
        end = (await consumer.end_offsets([answers]))[answers]
        consumer.assign([answers])
        consumer.seek(answers, end)
        offset = await _send(broker, place, held.key, json.dumps(request).encode())
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                return await _answer(consumer, request["id"])
    finally:
        await consumer.stop()
    raise CommandError(
        f"no worker has answered within {timeout_s:g} s: the request stays at {place.topic}-"
        f"{place.partition}, offset {offset}, and is carried out once a worker runs",
        _UNREACHABLE,
    )


async def _send(broker: Mapping[str, Any], place: TopicPartition, key: bytes, value: bytes) -> int:
    producer = AIOKafkaProducer(**broker, acks="all", enable_idempotence=True)
    try:
        await producer.start()
        sent = await producer.send_and_wait(place.topic, value, key=key, partition=place.partition)
    finally:
        await producer.stop()
    return int(sent.offset)


async def _answer(consumer: AIOKafkaConsumer, name: str) -> tuple[bool, str]:
    async for record in consumer:
        kind = dict(record.headers).get("ce_type")
        if kind not in (OPERATION_DONE, OPERATION_REFUSED):
            continue
        answer = json.loads(record.value)
        if answer.get("id") == name:
            return kind == OPERATION_DONE, answer.get("reason", "")
    raise AssertionError("the consumer goes on until it is stopped")


def _name(held: HeldKey) -> str:
    return f"key {_readable(held.key)} of {held.topic}-{held.partition}"
