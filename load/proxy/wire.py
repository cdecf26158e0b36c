"""Just enough of Kafka's protocol: request headers, addresses in answers, and made-up errors.

The shapes are aiokafka's own, of the versions that it speaks, and the engine's; what neither knows
passes through untouched, except answers that name addresses: those must be understood.
"""

import io
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from aiokafka.protocol import commit, coordination, fetch, group, metadata, offset, produce
from aiokafka.protocol import transaction as txn
from aiokafka.protocol.types import Array, CompactString, Int32, Schema, String, TaggedFields

from edo_stream.engine.transaction_v2.requests import SPOKEN
from load.proxy.rules import Api

Address = tuple[str, int]

_REQUESTS = (
    produce.ProduceRequest,
    fetch.FetchRequest,
    offset.OffsetRequest,
    metadata.MetadataRequest,
    commit.OffsetCommitRequest,
    commit.OffsetFetchRequest,
    coordination.FindCoordinatorRequest,
    group.JoinGroupRequest,
    group.HeartbeatRequest,
    group.LeaveGroupRequest,
    group.SyncGroupRequest,
    txn.InitProducerIdRequest,
    txn.AddPartitionsToTxnRequest,
    txn.AddOffsetsToTxnRequest,
    txn.EndTxnRequest,
    txn.TxnOffsetCommitRequest,
)
_CLASSES: dict[tuple[int, int], Any] = {
    (one.API_KEY, version.API_VERSION): version
    for one in _REQUESTS
    for version in one._CLASSES  # noqa: SLF001 - the package is pinned
} | {(one.API_KEY, one.API_VERSION): one for one in SPOKEN}
_NO_TAGS = b"\0"


class UnknownVersionError(Exception):
    """A call must be understood, and its version is none that is spoken here."""


class Call(NamedTuple):
    """A request as far as its header tells."""

    api_key: int
    version: int
    correlation_id: int
    client_id: str | None
    body: bytes

    @property
    def is_flexible(self) -> bool:
        """Whether tagged fields end the headers, as of those versions that are known here."""
        known = _CLASSES.get((self.api_key, self.version))
        return known is not None and known.FLEXIBLE_VERSION

    @property
    def is_silent(self) -> bool:
        """Whether the broker sends no answer: a produce request with ``acks=0``."""
        if self.api_key != Api.PRODUCE:
            return False
        body = io.BytesIO(self.body)
        if self.version >= 9:  # Flexible, known here or not.
            if not self.is_flexible:
                TaggedFields.decode(body)
            CompactString("utf-8").decode(body)
        elif self.version >= 3:  # It begins with a transactional id.
            String("utf-8").decode(body)
        return body.read(2) == b"\0\0"


def read_call(frame: bytes) -> Call:
    """Read the header of a request frame, without its length."""
    api_key, version, correlation_id, length = struct.unpack_from(">hhih", frame)
    start = 10
    client_id = None
    if length >= 0:
        client_id = frame[start : start + length].decode()
        start += length
    call = Call(api_key, version, correlation_id, client_id, frame[start:])
    if not call.is_flexible:
        return call
    body = io.BytesIO(call.body)
    TaggedFields.decode(body)
    return call._replace(body=body.read())


def names_addresses(call: Call) -> bool:
    """Whether the answer tells the client where to connect."""
    return call.api_key in (Api.METADATA, Api.FIND_COORDINATOR)


def readdressed(call: Call, answer: bytes, moved: Callable[[Address], Address]) -> bytes:
    """The answer with other addresses, so that the client stays on the proxy."""
    response = _response_type(call).decode(io.BytesIO(answer[4:]))
    if call.api_key == Api.METADATA:
        response.brokers = [
            (node, *moved((host, port)), *rest) for node, host, port, *rest in response.brokers
        ]
    elif response.port > 0:
        response.host, response.port = moved((response.host, response.port))
    return answer[:4] + bytes(response.encode())


def addresses(call: Call, answer: bytes) -> Iterator[Address]:
    """All addresses in an answer."""
    response = _response_type(call).decode(io.BytesIO(answer[4:]))
    if call.api_key == Api.METADATA:
        for _, host, port, *_ in response.brokers:
            yield host, port
    elif response.port > 0:
        yield response.host, response.port


def with_error(call: Call, answer: bytes, code: int) -> bytes:
    """The broker's answer with every error code replaced."""
    type_ = _response_type(call)
    body = io.BytesIO(answer[4:])
    if call.is_flexible:
        TaggedFields.decode(body)
    response = type_.decode(body)
    values = [getattr(response, name) for name in type_.SCHEMA.names]
    return _header(call) + bytes(type_.SCHEMA.encode(_recoded(type_.SCHEMA, values, code)))


def error_answer(call: Call, code: int) -> bytes:
    """An answer with an error for all that was asked, without the broker."""
    request = _request_type(call).decode(io.BytesIO(call.body))
    places = [
        (topic, [part if isinstance(part, int) else part[0] for part in partitions])
        for topic, partitions, *_ in getattr(request, "topics", None) or ()
    ]
    schema = _response_type(call).SCHEMA
    values = [
        _made_up(name, kind, code, places)
        for name, kind in zip(schema.names, schema.fields, strict=True)
    ]
    return _header(call) + bytes(schema.encode(values))


def _header(call: Call) -> bytes:
    """Of an answer; no tagged field of a header has a meaning yet."""
    return bytes(Int32.encode(call.correlation_id)) + (_NO_TAGS if call.is_flexible else b"")


def _made_up(name: str, kind: Any, code: int, places: Sequence[tuple[str, Sequence[int]]]) -> Any:
    """A value of a response's field: codes are the error, numbers unknown, the rest empty."""
    if name == "error_code":
        return code
    if kind is TaggedFields:
        return {}
    if isinstance(kind, Array):
        return _made_up_topics(kind, code, places) if name in ("topics", "errors") else []
    if isinstance(kind, String):
        return ""
    if kind.__name__ == "Bytes":
        return b""
    return 0 if name in ("throttle_time_ms", "session_id") else -1


def _made_up_topics(kind: Any, code: int, places: Sequence[tuple[str, Sequence[int]]]) -> list[Any]:
    _, partitions, *tags = kind.array_of.fields
    part: Schema = partitions.array_of
    rest = list(zip(part.names, part.fields, strict=True))[1:]
    return [
        (
            topic,
            [(number, *(_made_up(n, k, code, ()) for n, k in rest)) for number in numbers],
            *({} for _ in tags),
        )
        for topic, numbers in places
    ]


def _recoded(schema: Schema, values: Sequence[Any], code: int) -> list[Any]:
    changed: list[Any] = []
    for name, kind, value in zip(schema.names, schema.fields, values, strict=True):
        if name == "error_code":
            changed.append(code)
        elif kind is TaggedFields:
            changed.append({})  # Who the leader is, say: the client's types do not write it.
        elif isinstance(kind, Array) and isinstance(kind.array_of, Schema) and value is not None:
            changed.append([_recoded(kind.array_of, one, code) for one in value])
        else:
            changed.append(value)
    return changed


def _request_type(call: Call) -> Any:
    try:
        return _CLASSES[call.api_key, call.version]
    except KeyError:
        raise UnknownVersionError(f"API key {call.api_key}, version {call.version}") from None


def _response_type(call: Call) -> Any:
    return _request_type(call).RESPONSE_TYPE
