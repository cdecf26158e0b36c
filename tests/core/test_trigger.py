"""Commands that events trigger."""

import pytest
from msgspec.structs import replace

from edo_stream.core.act.command import Command, parse_command
from edo_stream.core.effects import Publish
from edo_stream.core.event import Event
from edo_stream.core.record import StoredRecord
from edo_stream.core.trigger import FlowTrigger, Trigger
from tests.core.bench import IDENTITY, NOW_MS, TOPIC, contract

RECORD = StoredRecord(TOPIC, 5, 7, NOW_MS, b"record", b"{}")
EVENT = Event("e-1", "/shop", "order.placed", b"key", b'{"order": {"id": "o-9"}}', subject="s")


def published(key: str | None = None, event: Event = EVENT) -> Publish:
    flow = FlowTrigger("ship", "edo.commands.ship", "edo.dead-letters.ship", 8, key)
    return Trigger(IDENTITY, contract(), flow).command(RECORD, event, NOW_MS)


def command_of(record: Publish) -> Command:
    stored = StoredRecord(record.topic, record.partition, 0, 0, record.key, record.value,
                          tuple(record.headers))  # fmt: skip
    command = parse_command(stored, "ship")
    assert isinstance(command, Command)
    return command


@pytest.mark.parametrize(
    ("key", "expected"),
    [(None, b"key"), ("record", b"record"), ("subject", b"s"), ("/order/id", b"o-9")],
)
def test_a_command_is_keyed_as_its_flow_says(key: str | None, expected: bytes) -> None:
    command = published(key)
    assert (command.topic, command.key, command.value) == (
        "edo.commands.ship",
        expected,
        EVENT.data,
    )
    assert dict(command.headers)["ce_causationid"] == b"e-1"


def test_an_event_without_the_key_is_a_dead_letter_of_the_flow() -> None:
    letter = published("/order/number")
    assert letter.topic == "edo.dead-letters.ship"
    assert dict(letter.headers)["edo-reason"] == b"no-key"


def test_the_same_event_triggers_the_same_command() -> None:
    assert published() == published()


def test_an_event_cannot_say_how_often_its_command_was_tried() -> None:
    forged = (("edo-attempt", b"99"), ("edo-first-ms", b"1"), ("edo-redrive", b"3"),
              ("edo-origin", b"x/0/0"), ("tenant", b"t"))  # fmt: skip
    event = replace(EVENT, extensions=forged)
    command = command_of(published(event=event))
    assert (command.attempt, command.first_ms, command.redrive) == (1, None, 0)
    assert command.origin == f"edo.commands.ship/{published().partition}/0"
    assert ("tenant", b"t") in command.headers
