"""The requests of the protocol and their answers, as Kafka's message definitions have them.

Each in the one version that is spoken here: brokers that do not know it are not asked
(:mod:`edo_stream.engine.transaction_v2.choice`). All are flexible: lengths are varints, one more
than what they count so that 0 is for ``null``, and every structure ends in tagged fields.
"""

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any, Self

from aiokafka.protocol.api import RequestStruct, Response, ResponseHeader_v0
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactBytes,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
)

_TAGS = ("tags", TaggedFields)
_TEXT = CompactString("utf-8")
_NO_TAGS: dict[int, bytes] = {}

NO_GENERATION = -1
NO_MEMBER = ""
NO_LEADER_EPOCH = -1
ALL_REPLICAS = -1
"""Acknowledgements that a Produce waits for."""


def _by_topic(*of_partition: tuple[str, Any]) -> tuple[str, Any]:
    """The field of what is said of partitions, topic by topic."""
    partitions = CompactArray(*of_partition, _TAGS)
    return "topics", CompactArray(("topic", _TEXT), ("partitions", partitions), _TAGS)


def _told_by_topic(topics: Mapping[str, Sequence[tuple[Any, ...]]], *rest: Any) -> list[Any]:
    """Its value: each partition's own fields, and the rest, which is the same for all."""
    return [
        (topic, [(*part, *rest, _NO_TAGS) for part in parts], _NO_TAGS)
        for topic, parts in topics.items()
    ]


class FlexibleRequest(RequestStruct):  # type: ignore[misc]
    """A request of one version; sent as it is, whatever others the broker knows."""

    FLEXIBLE_VERSION = True
    API_KEY = API_VERSION = -1
    RESPONSE_TYPE: Any = Response
    SCHEMA = Schema()

    def prepare(self, versions: Any) -> Self:
        """Choose no version: there is one."""
        return self


class ApiVersionsResponse(Response):  # type: ignore[misc]
    API_KEY, API_VERSION = 18, 3
    SCHEMA = Schema(
        ("error_code", Int16),
        (
            "versions",
            CompactArray(("api_key", Int16), ("minimum", Int16), ("maximum", Int16), _TAGS),
        ),
        ("throttle_time_ms", Int32),
        _TAGS,
    )

    @classmethod
    def decode(cls, data: BytesIO) -> Self:
        """Read an answer; a broker that does not know the version answers in another one."""
        error_code = Int16.decode(data)
        if error_code:
            return cls(error_code, [], 0, {})
        return cls(error_code, *(field.decode(data) for field in cls.SCHEMA.fields[1:]))


class ApiVersionsRequest(FlexibleRequest):
    API_KEY, API_VERSION = 18, 3
    RESPONSE_TYPE = ApiVersionsResponse
    SCHEMA = Schema(("software_name", _TEXT), ("software_version", _TEXT), _TAGS)

    @classmethod
    def by(cls, name: str, version: str) -> Self:
        """Ask in the name of a client."""
        return cls(name, version, _NO_TAGS)

    def parse_response_header(self, read_buffer: Any) -> Any:
        """Read the header of old: the client may not know yet what the broker speaks."""
        return ResponseHeader_v0.decode(read_buffer)


FINALIZED_FEATURES_TAG = 2
FINALIZED_FEATURES = CompactArray(
    ("name", _TEXT), ("maximum_level", Int16), ("minimum_level", Int16), _TAGS
)


class ProduceResponse(Response):  # type: ignore[misc]
    API_KEY, API_VERSION = 0, 12
    SCHEMA = Schema(
        _by_topic(
            ("partition", Int32),
            ("error_code", Int16),
            ("offset", Int64),
            ("timestamp", Int64),
            ("log_start_offset", Int64),
            (
                "record_errors",
                CompactArray(("batch_index", Int32), ("message", _TEXT), _TAGS),
            ),
            ("error_message", _TEXT),
        ),
        ("throttle_time_ms", Int32),
        _TAGS,
    )


class ProduceRequest(FlexibleRequest):
    API_KEY, API_VERSION = 0, 12
    RESPONSE_TYPE = ProduceResponse
    SCHEMA = Schema(
        ("transactional_id", _TEXT),
        ("required_acks", Int16),
        ("timeout", Int32),
        _by_topic(("partition", Int32), ("records", CompactBytes)),
        _TAGS,
    )

    @classmethod
    def of(
        cls,
        transactional_id: str,
        timeout_ms: int,
        topics: Mapping[str, Sequence[tuple[int, bytes | bytearray]]],
    ) -> Self:
        """Batches by topic and partition, one of each."""
        places = _told_by_topic(topics)
        return cls(transactional_id, ALL_REPLICAS, timeout_ms, places, _NO_TAGS)


class TxnOffsetCommitResponse(Response):  # type: ignore[misc]
    API_KEY, API_VERSION = 28, 5
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        _by_topic(("partition", Int32), ("error_code", Int16)),
        _TAGS,
    )


class TxnOffsetCommitRequest(FlexibleRequest):
    API_KEY, API_VERSION = 28, 5
    RESPONSE_TYPE = TxnOffsetCommitResponse
    SCHEMA = Schema(
        ("transactional_id", _TEXT),
        ("group_id", _TEXT),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        ("generation_id", Int32),
        ("member_id", _TEXT),
        ("group_instance_id", _TEXT),
        _by_topic(
            ("partition", Int32), ("offset", Int64), ("leader_epoch", Int32), ("metadata", _TEXT)
        ),
        _TAGS,
    )

    @classmethod
    def of(
        cls,
        transactional_id: str,
        group_id: str,
        identity: tuple[int, int],
        topics: Mapping[str, Sequence[tuple[int, int]]],
    ) -> Self:
        """Offsets by topic and partition, in the name of no member."""
        places = _told_by_topic(topics, NO_LEADER_EPOCH, "")
        member = NO_GENERATION, NO_MEMBER, None
        return cls(transactional_id, group_id, *identity, *member, places, _NO_TAGS)


class EndTxnResponse(Response):  # type: ignore[misc]
    API_KEY, API_VERSION = 26, 5
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        _TAGS,
    )


class EndTxnRequest(FlexibleRequest):
    API_KEY, API_VERSION = 26, 5
    RESPONSE_TYPE = EndTxnResponse
    SCHEMA = Schema(
        ("transactional_id", _TEXT),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        ("is_commit", Boolean),
        _TAGS,
    )

    @classmethod
    def of(cls, transactional_id: str, identity: tuple[int, int], is_commit: bool) -> Self:
        """Commit or abort what the identity has open."""
        return cls(transactional_id, *identity, is_commit, _NO_TAGS)


SPOKEN = (ProduceRequest, TxnOffsetCommitRequest, EndTxnRequest)
"""What a broker must know for transactions of the second version."""
