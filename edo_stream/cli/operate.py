"""Operators' requests: how a key is written, and how a request is sent and answered.

A request goes to the control topic of a group, to the partition of the task that it is for; the
task's transaction carries the answer, a notice that repeats the request's id.
"""

import asyncio
import getpass
import json
import os
import secrets
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any, Final

import typer
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from edo_stream.cli.environment import CommandError, Environment
from edo_stream.core.headers import time_text
from edo_stream.core.notices import key_json
from edo_stream.registry import control_topic
from edo_stream.registry.plan import GAPS, GAPS_PARTITIONS

NOT_DONE: Final = 1
USAGE: Final = 2
UNREACHABLE: Final = 3

OPERATION_DONE: Final = b"edo.operation.done"
OPERATION_REFUSED: Final = b"edo.operation.refused"

Key = Annotated[str | None, typer.Argument(help="Key, as text.")]
KeyBase64 = Annotated[
    str | None, typer.Option("--key-base64", help="Key in base64, where it is no text.")
]
Partition = Annotated[
    int | None, typer.Option(min=0, help="Partition, where a key waits in more than one.")
]
Timeout = Annotated[float, typer.Option(min=0.0, help="Seconds to wait for the worker's answer.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def key_bytes(text: str | None, base64: str | None) -> bytes:
    """A key as it was written on the command line, in one of two ways.

    Raises:
        CommandError: in none or both, or not in base64.
    """
    if (text is None) == (base64 is None):
        raise CommandError("write the key, or --key-base64: one of them", USAGE)
    if text is not None:
        # As it came from the command line, which may not have been UTF-8.
        return text.encode("utf-8", "surrogateescape")
    try:
        return b64decode(base64 or "", validate=True)
    except (Base64Error, ValueError) as error:
        raise CommandError(f"--key-base64 {base64}: {error}", USAGE) from error


def operator(by: str | None) -> str:
    """Who does it, as they say, or the user; a container's may have a number and no name."""
    if by:
        return by
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def readable(key: bytes) -> str:
    """Key as text, or as the option that names it where it is none or would not show."""
    text = key_json(key)
    if isinstance(text, str) and text.isprintable():
        return text
    return f"--key-base64 {b64encode(key).decode()}"


def shown_time(at_ms: int) -> str:
    """Epoch ms as people read it."""
    return (time_text(at_ms) or b"").decode()


async def ask(
    environment: Environment,
    task: tuple[str, int],
    key: bytes,
    request: Mapping[str, Any],
    timeout_s: float,
) -> None:
    """Have the task of a group and partition carry out a request about a key.

    Raises:
        CommandError: it was refused, or no worker has answered in time.
    """
    group, partition = task
    # The id names the request: its answer repeats it.
    whole = {**request, "key": key_json(key), "id": secrets.token_hex(8)}
    done, reason = await _ask(environment, task, key, whole, timeout_s)
    if not done:
        where = f"key {readable(key)} of {group}-{partition}"
        raise CommandError(f"{request['op']} of {where} was refused: {reason}", NOT_DONE)


async def _ask(
    environment: Environment,
    task: tuple[str, int],
    key: bytes,
    request: Mapping[str, Any],
    timeout_s: float,
) -> tuple[bool, str]:
    """Send a request to a task; whether it was done, or else why not."""
    group, partition = task
    broker = environment.access.client()
    place = TopicPartition(control_topic(group), partition)
    answers = TopicPartition(GAPS, partition % GAPS_PARTITIONS)
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
        offset = await _send(broker, place, key, json.dumps(request).encode())
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                return await _answer(consumer, request["id"])
    finally:
        await consumer.stop()
    raise CommandError(
        f"no worker has answered within {timeout_s:g} s: the request stays at {place.topic}-"
        f"{place.partition}, offset {offset}, and is carried out once a worker runs",
        UNREACHABLE,
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
