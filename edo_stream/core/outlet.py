"""The way out of one source: results, dead letters, and the fate that goes with each."""

from collections.abc import Callable
from functools import lru_cache
from hashlib import sha1
from typing import Final

import msgspec

from edo_stream.core.accounts import Fate
from edo_stream.core.contract import TRANSACTION_KEY, Contract
from edo_stream.core.dead_letter import dead_letter
from edo_stream.core.effects import Publish
from edo_stream.core.event import Event, Violation, id_start
from edo_stream.core.headers import (
    LATE,
    SPECVERSION,
    WRITTEN,
    Header,
    publishable_ms,
    size_of,
    time_text,
)
from edo_stream.core.ledger import Ledger
from edo_stream.core.native import IS_COMPILED
from edo_stream.core.partitioner import partition_of
from edo_stream.core.record import Headers, Record
from edo_stream.core.redrive import REDRIVE
from edo_stream.core.routing import Router
from edo_stream.core.sizes import FRAME_BYTES, HEADROOM_BYTES
from edo_stream.core.task import Step, TaskIdentity

if IS_COMPILED:
    from edo_stream.core._native import PlainOrder, PlainWay, ResultHeaders

#: Names that an event's extensions never override.
_RESERVED: Final = WRITTEN | {"ce_edoposition", "ce_edolate", REDRIVE}


class Outlet:
    """Publishes what a source's records end as; each call marks the record's fate."""

    def __init__(
        self, identity: TaskIdentity, contract: Contract, step: Step, ledger: Ledger
    ) -> None:
        self._identity = identity
        self._contract = contract
        self._step = step
        self._ledger = ledger
        self._topic = contract.emit
        # Changes of one transaction come from many partitions, and must meet in one.
        is_regrouped = contract.order_key == TRANSACTION_KEY
        is_same_partition = contract.emit_partitions == contract.partitions and not is_regrouped
        self._partition = identity.partition if is_same_partition else None
        self._write_metadata = contract.write_metadata
        self._bytes_max = contract.record_bytes_max + HEADROOM_BYTES - FRAME_BYTES
        if contract.emit_bytes_max is not None:
            self._bytes_max = min(self._bytes_max, contract.emit_bytes_max - FRAME_BYTES)
        topic, partition = contract.topic, identity.partition
        cause = ("result", identity.app, topic, str(partition))
        self._id_of = _id_of(*cause)
        self._source = ("ce_source", f"/edo/{identity.app}".encode())
        self._place = f"{topic}/{partition}/".encode()
        self._headers_of = self._headers_in_python
        self._compiled: ResultHeaders | None = None
        if IS_COMPILED:
            compiled = ResultHeaders(id_start(*cause), self._source[1], self._place, _RESERVED)
            plain, in_python = compiled.of, self._headers_in_python
            self._headers_of = lambda *result: plain(*result) or in_python(*result)
            self._compiled = compiled
        self.router: Router | None = None
        """What an event that goes on triggers besides."""

    def emit(self, record: Record, event: Event, is_late: bool = False) -> None:
        """Publish the event to the contract's topic of results."""
        offset, key, data = record.offset, event.key, event.data
        headers = self._headers_of(offset, event, is_late)
        if self._write_metadata and data is not None:
            data = _with_metadata(data, event.correlation_id or event.id, event.id)
        size_bytes = len(key) + len(data or b"") + size_of(headers)
        if size_bytes > self._bytes_max:
            detail = f"result: expected at most {self._bytes_max} bytes, found {size_bytes}"
            self.dead_letter(record, Violation("too-large", detail))
            return
        partition = self._partition
        if partition is None:
            partition = partition_of(key, self._contract.emit_partitions)
        step, ledger, timestamp_ms = self._step, self._ledger, record.timestamp
        if not 0 <= timestamp_ms <= step.now_ms:
            timestamp_ms = publishable_ms(timestamp_ms, step.now_ms)
        step.publish.append(Publish(self._topic, partition, key, data, headers, timestamp_ms))
        ledger.mark(offset, Fate.EMITTED)
        ledger.times_ms.append(timestamp_ms if event.time_ms is None else event.time_ms)
        if self.router is not None:
            step.publish += self.router.fastest.commands(record, event, step.now_ms)

    def plain_way(self, order: "PlainOrder | None") -> "PlainWay | None":
        """The compiled way of plain events, ``None`` where each has something more to it.

        ``order`` is that of their keys, ``None`` where these have no numbers.
        """
        if self._compiled is None or self._partition is None:
            return None
        if self._write_metadata:
            return None
        return PlainWay(
            self._compiled, self._topic, self._partition,
            (Fate.EMITTED, Fate.HELD, Fate.DUPLICATE), REDRIVE.encode(), self._bytes_max, order,
            None if self.router is None else self.router.fastest,
        )  # fmt: skip

    def _headers_in_python(self, offset: int, event: Event, is_late: bool) -> Headers:
        causation = event.id.encode("utf-8", "replace")
        correlation = event.correlation_id
        headers: list[Header] = [
            SPECVERSION,
            ("ce_id", self._id_of(offset)),
            self._source,
            _header("ce_type", event.type),
            (
                "ce_correlationid",
                causation if correlation is None else correlation.encode("utf-8", "replace"),
            ),
            ("ce_causationid", causation),
            ("ce_edoposition", self._place + b"%d" % offset),
        ]
        if event.subject is not None:
            headers.append(("ce_subject", event.subject.encode("utf-8", "replace")))
        time = event.time_text
        if time is None and event.time_ms is not None:
            time = time_text(event.time_ms)
        if time is not None:
            headers.append(("ce_time", time))
        if event.content_type is not None:
            headers.append(_header("content-type", event.content_type))
        if event.extensions:
            headers += [header for header in event.extensions if header[0] not in _RESERVED]
        if is_late:
            headers.append(LATE)
        return headers

    def dead_letter(self, record: Record, violation: Violation) -> None:
        """Publish the original record to the contract's topic of dead letters."""
        letter = dead_letter(self._identity, self._contract, record, violation, self._step.now_ms)
        self._step.publish.append(letter)
        self._ledger.mark(record.offset, Fate.DEAD_LETTERED)
        if self.router is not None:
            self._step.publish += self.router.refused(record, violation, self._step.now_ms)

    def mark(self, record: Record, fate: Fate) -> None:
        """Note the fate of a record that leaves nothing to publish."""
        self._ledger.mark(record.offset, fate)


@lru_cache(maxsize=4_096)
def _header(name: str, value: str) -> Header:
    """Header of a value that many events share."""
    return (name, value.encode("utf-8", "replace"))


#: First digit of a UUID's variant field, by the digit of the hash that it replaces (RFC 9562 §4.1).
_VARIANTS: Final = {f"{digit:x}": f"{digit & 0x3 | 0x8:x}" for digit in range(16)}


def _id_of(*parts: str) -> Callable[[int], bytes]:
    """Fast form of :func:`edo_stream.core.event.derive_id` for ids that end in an offset."""
    start = sha1(id_start(*parts), usedforsecurity=False)

    def derive(offset: int) -> bytes:
        hashed = start.copy()
        hashed.update(b"%d" % offset)
        text = hashed.hexdigest()
        variant = _VARIANTS[text[16]]
        return (
            f"{text[:8]}-{text[8:12]}-5{text[13:16]}-{variant}{text[17:20]}-{text[20:32]}".encode()
        )

    return derive


_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def _with_metadata(data: bytes, correlation_id: str, causation_id: str) -> bytes:
    """Repeat the ids in ``metadata`` of a JSON object; all else keeps its bytes, digit for digit.

    Data that is no object, or whose ``metadata`` is none, stays as it is.
    """
    try:
        document = _OBJECT.decode(data)
        metadata = _OBJECT.decode(document.get("metadata", b"{}"))
        metadata["correlationId"] = msgspec.Raw(msgspec.json.encode(correlation_id))
        metadata["causationId"] = msgspec.Raw(msgspec.json.encode(causation_id))
        document["metadata"] = msgspec.Raw(msgspec.json.encode(metadata))
        return msgspec.json.encode(document)
    except (ValueError, RecursionError):
        return data
