"""Events on their way to Kafka: built as their contract says, and judged as workers will judge.

A record is put together in binary mode of CloudEvents, then given to the same decoder, with the
same rules, that a worker has for the topic. What a worker would refuse is refused here, before it
is anybody's problem: its data, its version, its producer, its key, its number. A violation is
refused at once, also where the contract only warns those who read.
"""

import hashlib
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgspec

from edo_stream.core.contract import Codec
from edo_stream.core.event import Event, Violation, derive_id
from edo_stream.core.headers import time_text
from edo_stream.core.partitioner import partition_of
from edo_stream.core.pointer import parse_pointer, resolve
from edo_stream.core.record import StoredRecord
from edo_stream.engine.clock import now_ms
from edo_stream.registry.contracts import contract_of
from edo_stream.registry.enforced import rules_of, schema_file
from edo_stream.registry.entry import Entry
from edo_stream.schemas.enforcement import Tally, enforced
from edo_stream.schemas.validators import AvroCodec
from edo_stream.schemas.wire import framed
from edo_stream.sources import decoder

_JSON: Final = "application/json"
_AVRO: Final = "application/avro"
_WRITER: Final = msgspec.json.Encoder(decimal_format="number")


class ContractError(ValueError):
    """An event is not what its contract says; nothing was sent."""

    def __init__(self, violation: Violation) -> None:
        super().__init__(violation.detail)
        self.violation = violation


class NotProducedError(ValueError):
    """Events of this topic cannot be written like this; says why."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """What is said of an event besides its data; ``None`` leaves it to the contract, or out."""

    id: str | None = None
    """Its identity: the same id (of one source) is the same event, however often it is sent."""
    key: str | bytes | None = None
    """What it is ordered by; where the contract has it in the data or subject, it is read there."""
    subject: str | None = None
    type: str | None = None
    source: str | None = None
    time_ms: int | None = None
    correlation_id: str | None = None
    causation_id: str | None = None
    version: int | None = None
    """Schema version of the data; ``None`` is the newest."""
    content_type: str | None = None
    extensions: Mapping[str, str] = field(default_factory=dict)
    """Further attributes, such as ``sequence``."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record to be sent."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]
    timestamp_ms: int
    id: str


def caused_by(event: Event, envelope: Envelope) -> Envelope:
    """The envelope of an event that another one is the cause of."""
    return replace(
        envelope,
        correlation_id=envelope.correlation_id or event.correlation_id or event.id,
        causation_id=envelope.causation_id or event.id,
    )


class Writer:
    """Builds the records of one topic."""

    def __init__(
        self, entry: Entry, source: str, schema_ids: Mapping[int, int] | None = None
    ) -> None:
        """Compile the contract; ``schema_ids`` are the registry's, by version.

        Raises:
            NotProducedError: the topic's records are not ours to write.
            RegistryError: a schema cannot be used.
        """
        declaration = entry.declaration
        if declaration.codec != Codec.CLOUDEVENTS.value:
            raise NotProducedError(
                f"{entry.name}: records of codec {declaration.codec} are written by its connector"
            )
        self.topic = entry.name
        self.partitions = declaration.partitions
        self._source = source
        self._key_place = declaration.record_key
        self._schema = declaration.schema_
        self._file = entry.file
        self._ids = dict(schema_ids or {})
        self._avro: dict[int, AvroCodec] = {}
        rules = replace(rules_of(declaration, entry.file, self._ids), warn_until_ms=None)
        self._newest = None if rules.versions is None else rules.versions.newest
        self._judge = enforced(decoder(contract_of(declaration)), rules, now_ms, Tally())

    def record(self, data: Any, envelope: Envelope) -> Outgoing:
        """Build a record and judge it.

        ``data`` is a JSON value (of an Avro topic: a value of its schema), or bytes that are it
        already; ``None`` is no data.

        Raises:
            ContractError: it breaks its contract.
            NotProducedError: the version, or its id in the schema registry, is not known.
        """
        at_ms = now_ms()
        version = envelope.version or self._newest
        payload = self._payload(data, version)
        identity = envelope.id or random_id()
        subject = envelope.subject
        key = self._key(envelope, data, payload)
        headers = self._headers(envelope, identity, subject, version, at_ms)
        value = payload if payload is None else self._framed(payload, version)
        partition = partition_of(identity.encode() if key is None else key, self.partitions)
        place = (self.topic, partition, 0, at_ms)
        found = self._judge(StoredRecord(*place, key, value, tuple(headers)))
        if isinstance(found, Violation):
            raise ContractError(found)
        return Outgoing(self.topic, partition, key, value, headers, at_ms, identity)

    def _payload(self, data: Any, version: int | None) -> bytes | None:
        if data is None or isinstance(data, bytes):
            return data
        if self._schema is not None and self._schema.format == "avro":
            assert version is not None, "an Avro topic has versions"
            try:
                return self._avro_codec(version).encode(data)
            except ValueError as error:
                raise ContractError(
                    Violation("schema", f"{self.topic} v{version}: {error}")
                ) from None
        try:
            return _WRITER.encode(data)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            # What JSON has no form for: half a surrogate, an object of one's own.
            raise ContractError(Violation("undecodable", f"data: {error}")) from None

    def _avro_codec(self, version: int) -> AvroCodec:
        if version not in self._avro:
            assert self._schema is not None
            if version not in self._schema.versions:
                raise NotProducedError(f"{self.topic}: there is no version {version}")
            file = schema_file(self._file, self._schema, version)
            self._avro[version] = AvroCodec(msgspec.json.decode(file.read_bytes()))
        return self._avro[version]

    def _framed(self, payload: bytes, version: int | None) -> bytes:
        if self._schema is None or self._schema.wire != "confluent":
            return payload
        schema_id = self._ids.get(version or 0)
        if schema_id is None:
            raise NotProducedError(
                f"{self.topic}: the schema registry has no id for version {version}: "
                "set EDO_SCHEMA_REGISTRY, and register it with edo contracts register"
            )
        return framed(schema_id, payload)

    def _key(self, envelope: Envelope, data: Any, payload: bytes | None) -> bytes | None:
        """The record's key: as given, or from where the contract says that it is."""
        place = self._key_place
        if envelope.key is not None:
            return envelope.key if isinstance(envelope.key, bytes) else envelope.key.encode()
        if place in ("subject", "record"):
            return None if envelope.subject is None else envelope.subject.encode()
        document = _parsed(payload) if isinstance(data, bytes) else data
        found = resolve(document, parse_pointer(place))
        if isinstance(found, str):
            return found.encode()
        if isinstance(found, int) and not isinstance(found, bool):
            return b"%d" % found
        detail = f"{self.topic}: {place}: the key has to be a string or a whole number [key]"
        raise ContractError(Violation("invalid", detail))

    def _headers(
        self,
        envelope: Envelope,
        identity: str,
        subject: str | None,
        version: int | None,
        at_ms: int,
    ) -> list[tuple[str, bytes]]:
        time = time_text(at_ms if envelope.time_ms is None else envelope.time_ms)
        schema = None if version is None else f"urn:edo:{self.topic}:v{version}"
        is_avro = self._schema is not None and self._schema.format == "avro"
        said: dict[str, str | None] = {
            "ce_specversion": "1.0",
            "ce_id": identity,
            "ce_source": envelope.source or self._source,
            "ce_type": envelope.type or self.topic,
            "ce_subject": subject,
            "ce_time": None if time is None else time.decode(),
            "ce_dataschema": schema,
            "ce_correlationid": envelope.correlation_id or identity,
            "ce_causationid": envelope.causation_id,
            "content-type": envelope.content_type or (_AVRO if is_avro else _JSON),
        }
        said |= {f"ce_{name}": text for name, text in envelope.extensions.items()}
        return [(name, text.encode()) for name, text in said.items() if text is not None]


def random_id() -> str:
    """An id of an event that nothing else tells apart."""
    return str(uuid.UUID(bytes=os.urandom(16), version=4))


def repeatable_id(topic: str, source: str, data: Any, index: int) -> str:
    """An id that the same data has whenever it is published; ``index`` tells twins apart."""
    content = hashlib.sha256(_WRITER.encode(data)).hexdigest()
    return derive_id("publish", topic, source, content, str(index))


def _parsed(payload: bytes | None) -> Any:
    try:
        return msgspec.json.decode(payload or b"null")
    except (ValueError, RecursionError):
        return None
