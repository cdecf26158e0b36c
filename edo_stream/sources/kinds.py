"""The kinds of sources by name: what a contract's ``codec`` may say, and what a probe decodes.

Theory of operation. A source is a codec and a mapping, nothing more. The *codec* knows a format:
it turns a raw record into an event, a violation or nothing (ignored). The *mapping* is what the
contract adds: which key orders (``key``), where the position is (``ordering.field``), and for
formats that leave it open where id, type and time are (``mapping``). A kind brings both together:
its ``decoder`` is compiled once from a contract, then called for every record, and never raises.

A record has one fate, so a decoder gives one event. A format that carries several events in one
message (a batch) has a ``reader`` as well, which gives them all, in order. What receives messages
outside Kafka (the gateway) reads with it and writes each event as a record of its own; from a
topic, the decoder refuses a record of several events by :func:`only`, with that advice.
A probe shows all of them.

To add a kind: a module with ``decoder(contract)``, a row in :data:`KINDS`, a member of
:class:`~edo_stream.core.contract.Codec`. ``docs/add-a-source.md`` does it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from edo_stream.core.contract import Contract
from edo_stream.core.event import Decoded, Event, Ignored, Violation
from edo_stream.core.record import Record
from edo_stream.sources import (
    azure,
    cloudevents,
    debezium,
    eventbridge,
    gcs,
    mapped,
    maxwell,
    outbox,
    s3,
)

Decode = Callable[[Record], Decoded]
"""One fate for a record."""
Read = Callable[[Record], Sequence[Event] | Violation | Ignored]
"""All events of a message, one or more, in their order."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One format of records.

    Both functions compile, and raise :class:`~edo_stream.sources.refused.MappingError` for a
    mapping that they cannot use; what they return never raises.
    """

    summary: str
    """For people who choose a kind, in one line."""
    decoder: Callable[[Contract], Decode]
    reader: Callable[[Contract], Read] | None = None
    """For formats that can carry several events in one message."""


def _of_messages(summary: str, read: Callable[[Contract], Read]) -> Kind:
    return Kind(summary, lambda contract: only(read(contract)), read)


KINDS: Final[dict[str, Kind]] = {
    "cloudevents": Kind("CloudEvents 1.0, binary and structured mode", cloudevents.decoder),
    "debezium": Kind("row changes of Debezium, JSON", debezium.decoder),
    "maxwell": Kind("row changes of MySQL, by Maxwell's daemon", maxwell.decoder),
    "outbox": Kind("events of an outbox table, captured or routed by Debezium", outbox.decoder),
    "s3": _of_messages("objects created in S3: bare, by SNS, SQS or EventBridge", s3.reader),
    "minio": _of_messages("objects created in MinIO", s3.reader),
    "gcs": _of_messages("objects created in Google Cloud Storage: Pub/Sub, Eventarc", gcs.reader),
    "azure-blob": _of_messages("objects created in Azure Blob Storage: Event Grid", azure.reader),
    "eventbridge": _of_messages("events of Amazon EventBridge, any source", eventbridge.reader),
    "mapped": Kind("other people's JSON, Avro or bytes, by the contract's mapping", mapped.decoder),
}


def reader(kind: Kind, contract: Contract) -> Read:
    """Return what reads all events of a message of this kind."""
    if kind.reader is not None:
        return kind.reader(contract)
    decode = kind.decoder(contract)

    def read(record: Record) -> Sequence[Event] | Violation | Ignored:
        decoded = decode(record)
        return (decoded,) if isinstance(decoded, Event) else decoded

    return read


def only(read: Read) -> Decode:
    """Make a decoder of a reader: a record of several events is refused."""

    def decode(record: Record) -> Decoded:
        found = read(record)
        if isinstance(found, Violation | Ignored):
            return found
        if len(found) == 1:
            return found[0]
        return Violation(
            "invalid",
            f"record holds {len(found)} events: a record of a topic is one event; "
            "send the message to the gateway, which writes one record an event",
            record.key,
        )

    return decode
