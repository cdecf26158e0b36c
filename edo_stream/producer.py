"""Write events to Kafka as their contracts say: ``from edo_stream import Producer``.

.. code-block:: python

    async with Producer("/shop/checkout") as producer:
        sent = await producer.send("shop.order.placed", {"order": {"id": "17"}}, key="17")

Settings come from the environment, as for a worker (``EDO_BROKER``, ``EDO_TOPICS`` and the rest);
contracts are read once. Each event is checked against its contract before anything is sent
(:mod:`edo_stream.outgoing`), and goes to the partition that Java's producers would choose. The
client is idempotent and waits for all in-sync replicas: what ``send`` returned from is written
once. What it raised from may be written: send it again with the same ``id``, and the contract's
dedupe makes it one event.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from aiokafka import AIOKafkaProducer

from edo_stream.core.event import Event
from edo_stream.engine.admin import Admin
from edo_stream.engine.security import BrokerAccess, broker_access
from edo_stream.outgoing import (
    ContractError,
    Envelope,
    NotProducedError,
    Outgoing,
    Writer,
    caused_by,
)
from edo_stream.registry import Registry, load
from edo_stream.settings import Settings, read_settings

__all__ = ["ContractError", "Envelope", "NotProducedError", "Producer", "Sent"]


_ENVELOPE_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Sent:
    """Where an event is written."""

    topic: str
    partition: int
    offset: int
    id: str
    """The event's id."""


class Producer:
    """A producer of events of any declared topic; an async context manager."""

    def __init__(
        self,
        source: str,
        *,
        settings: Settings | None = None,
        registry: Registry | None = None,
        schema_ids: Mapping[str, Mapping[int, int]] | None = None,
    ) -> None:
        """Read settings and contracts; ``source`` is the events' CloudEvents source.

        ``schema_ids`` are ids of a schema registry, by topic and version, for topics whose data
        has Confluent's wire format (:func:`edo_stream.schema_ids.schema_ids`).

        Raises:
            SettingsError: the environment has mistakes.
            RegistryError: the contracts have mistakes.
        """
        known = settings or read_settings()
        self._source = source
        self._registry = registry or load(known.topics)
        self._access: BrokerAccess = broker_access(known)
        self._compression = None if known.compression == "none" else known.compression
        self._schema_ids = schema_ids or {}
        self._writers: dict[str, Writer] = {}
        self._present: set[str] = set()
        self._client: Any = None

    async def __aenter__(self) -> Self:
        self._client = AIOKafkaProducer(
            **self._access.client(
                enable_idempotence=True,
                acks="all",
                linger_ms=2,
                compression_type=self._compression,
                max_request_size=self._request_bytes_max(),
            )
        )
        try:
            await self._client.start()
        except BaseException:
            await self._client.stop()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._client.stop()

    def prepare(self, topic: str, data: Any, envelope: Envelope | None = None) -> Outgoing:
        """Build the record of an event without sending it.

        Raises:
            ContractError: it breaks its contract.
            NotProducedError: there is no such topic, or it is not ours to write.
        """
        return self._writer(topic).record(data, envelope or Envelope())

    def _request_bytes_max(self) -> int:
        """What the largest record that a contract allows needs; the client's default is 1 MiB."""
        entries = self._registry.entries.values()
        largest = max((entry.declaration.record_bytes_max for entry in entries), default=0)
        return int(max(largest, 1 << 20)) + _ENVELOPE_BYTES

    async def send(
        self, topic: str, data: Any, *, cause: Event | None = None, **envelope: Any
    ) -> Sent:
        """Write one event, and wait until all in-sync replicas have it.

        ``envelope`` are the fields of :class:`Envelope`: ``id``, ``key``, ``subject``, ``version``
        and so on. With ``cause`` the event has that one's correlation id, and its id as cause.

        Raises:
            ContractError: it breaks its contract; nothing was sent.
            NotProducedError: there is no such topic, or it is not ours to write.
            KafkaError: it may be written or not: send it again, with the same id.
        """
        told = Envelope(**envelope)
        record = self.prepare(topic, data, told if cause is None else caused_by(cause, told))
        [sent] = await self.deliver(record)
        return sent

    async def deliver(self, *records: Outgoing) -> list[Sent]:
        """Send prepared records in their order, and wait until all are written.

        Raises:
            NotProducedError: a topic is not there, or not as its contract says; nothing was sent.
            KafkaError: some may be written or not.
        """
        assert self._client is not None, "use the producer as an async context manager"
        for topic in {record.topic for record in records}:
            await self._require_partitions(topic)
        waiting = [await self._enqueue(record) for record in records]
        told = await asyncio.gather(*waiting)
        return [
            Sent(record.topic, place.partition, place.offset, record.id)
            for record, place in zip(records, told, strict=True)
        ]

    async def _enqueue(self, record: Outgoing) -> Any:
        return await self._client.send(
            record.topic,
            value=record.value,
            key=record.key,
            partition=record.partition,
            timestamp_ms=record.timestamp_ms,
            headers=record.headers,
        )

    async def _require_partitions(self, topic: str) -> None:
        """Events of a key would go astray in a topic of other partitions."""
        if topic in self._present:
            return
        wanted = self._writer(topic).partitions
        # Asked of the admin: the producer's own question would create a topic that is not there.
        async with Admin(self._access) as admin:
            found = (await admin.present([topic])).get(topic)
        if found is None:
            raise NotProducedError(f"{topic} is not there: create it with edo topics apply")
        if found.partitions != wanted:
            raise NotProducedError(
                f"{topic} has {found.partitions} partitions at the broker, its contract "
                f"says {wanted}"
            )
        self._present.add(topic)

    def _writer(self, topic: str) -> Writer:
        if topic not in self._writers:
            entry = self._registry.entries.get(topic)
            if entry is None:
                raise NotProducedError(f"{topic} is not declared: known are {self._known()}")
            ids = self._schema_ids.get(topic)
            self._writers[topic] = Writer(entry, self._source, ids)
        return self._writers[topic]

    def _known(self) -> str:
        return ", ".join(sorted(self._registry.entries)) or "none"
