"""What the proxy reads of Kafka's protocol, and what it writes: shapes that aiokafka reads back."""

from io import BytesIO
from typing import Any

import pytest
from aiokafka.protocol.commit import OffsetFetchRequest_v3
from aiokafka.protocol.coordination import FindCoordinatorRequest_v1
from aiokafka.protocol.fetch import FetchRequest_v11
from aiokafka.protocol.group import (
    HeartbeatRequest_v1,
    JoinGroupRequest_v5,
    SyncGroupRequest_v3,
)
from aiokafka.protocol.metadata import MetadataRequest_v5
from aiokafka.protocol.produce import ProduceRequest_v7
from aiokafka.protocol.transaction import (
    AddOffsetsToTxnRequest_v0,
    AddPartitionsToTxnRequest_v0,
    EndTxnRequest_v0,
    InitProducerIdRequest_v0,
    TxnOffsetCommitRequest_v0,
)

from edo_stream.engine.transaction_v2.requests import (
    EndTxnRequest,
    EndTxnResponse,
    ProduceRequest,
    TxnOffsetCommitRequest,
)
from load.proxy.rules import Api, Code
from load.proxy.wire import (
    Call,
    UnknownVersionError,
    addresses,
    error_answer,
    read_call,
    readdressed,
    with_error,
)

REQUESTS = [
    ProduceRequest_v7("id", -1, 1_000, [("t", [(0, b"data"), (3, b"data")]), ("u", [(1, b"")])]),
    FetchRequest_v11(-1, 100, 1, 9, 1, 0, -1, [("t", [(0, -1, 5, -1, 9)])], [], ""),
    InitProducerIdRequest_v0("id", 1_000),
    AddPartitionsToTxnRequest_v0("id", 1, 2, [("t", [0, 3]), ("u", [1])]),
    AddOffsetsToTxnRequest_v0("id", 1, 2, "group"),
    TxnOffsetCommitRequest_v0("id", "group", 1, 2, [("t", [(0, 5, "")])]),
    EndTxnRequest_v0("id", 1, 2, True),
    JoinGroupRequest_v5("group", 1, 2, "member", None, "consumer", [("a", b"x")]),
    SyncGroupRequest_v3("group", 1, "member", None, []),
    HeartbeatRequest_v1("group", 1, "member"),
    OffsetFetchRequest_v3("group", [("t", [0, 1])]),
    FindCoordinatorRequest_v1("group", 0),
    ProduceRequest.of("id", 1_000, {"t": [(0, b"data"), (3, b"data")], "u": [(1, b"")]}),
    TxnOffsetCommitRequest.of("id", "group", (1, 2), {"t": [(0, 5)], "u": [(1, 6)]}),
    EndTxnRequest.of("id", (1, 2), True),
]


def call_of(request: Any, client_id: str | None = "client") -> Call:
    header = request.build_request_header(correlation_id=7, client_id=client_id)
    return read_call(header.encode() + request.encode())


def codes_in(answer: Any) -> set[int]:
    if isinstance(answer, dict):
        found = {value for name, value in answer.items() if name == "error_code"}
        return found.union(*(codes_in(value) for value in answer.values()))
    if isinstance(answer, list):
        return set().union(*(codes_in(value) for value in answer))
    return set()


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda one: type(one).__name__)
def test_an_error_is_made_up_for_all_that_was_asked(request_: Any) -> None:
    answer = error_answer(call_of(request_), Code.NOT_COORDINATOR)

    body = BytesIO(answer)
    assert request_.parse_response_header(body).correlation_id == 7
    decoded = request_.RESPONSE_TYPE.decode(body).to_object()
    assert body.read() == b""
    assert codes_in(decoded) == {Code.NOT_COORDINATOR}


def test_an_error_is_made_up_for_each_partition() -> None:
    request = REQUESTS[0]
    decoded = request.RESPONSE_TYPE.decode(error_answer(call_of(request), 6)[4:])
    places = [(t, [p[0] for p in partitions]) for t, partitions in decoded.topics]
    assert places == [("t", [0, 3]), ("u", [1])]


def test_an_answer_gets_another_error_and_keeps_the_rest() -> None:
    request = EndTxnRequest_v0("id", 1, 2, True)
    answer = b"\0\0\0\7" + request.RESPONSE_TYPE(30, 0).encode()

    changed = request.RESPONSE_TYPE.decode(with_error(call_of(request), answer, 51)[4:])

    assert (changed.throttle_time_ms, changed.error_code) == (30, 51)


def test_an_answer_of_the_second_version_keeps_its_epoch() -> None:
    request = EndTxnRequest.of("id", (1, 2), True)
    answer = b"\0\0\0\7\0" + EndTxnResponse(30, 0, 1, 3, {}).encode()

    changed = EndTxnResponse.decode(with_error(call_of(request), answer, 51)[5:])

    assert (changed.throttle_time_ms, changed.error_code, changed.producer_epoch) == (30, 51, 3)


def test_answers_name_the_proxy_instead_of_the_brokers() -> None:
    request = MetadataRequest_v5(["t"], False)
    brokers = [(1, "kafka-1", 9092, None), (2, "kafka-2", 9092, None)]
    answer = b"\0\0\0\7" + request.RESPONSE_TYPE(0, brokers, "c", 1, []).encode()
    call = call_of(request)
    moved = {("kafka-1", 9092): ("here", 1), ("kafka-2", 9092): ("here", 2)}

    assert list(addresses(call, answer)) == list(moved)
    changed = request.RESPONSE_TYPE.decode(readdressed(call, answer, moved.__getitem__)[4:])
    assert [one[:3] for one in changed.brokers] == [(1, "here", 1), (2, "here", 2)]


def test_a_coordinator_that_is_not_known_has_no_address() -> None:
    request = FindCoordinatorRequest_v1("group", 0)
    answer = b"\0\0\0\7" + request.RESPONSE_TYPE(0, 15, None, -1, "", -1).encode()
    assert list(addresses(call_of(request), answer)) == []


def test_a_client_may_have_no_id() -> None:
    call = call_of(HeartbeatRequest_v1("group", 1, "member"), client_id=None)
    assert call.client_id is None
    assert (call.api_key, call.version, call.correlation_id) == (Api.HEARTBEAT, 1, 7)


@pytest.mark.parametrize(("acks", "expected"), [(0, True), (1, False), (-1, False)])
def test_a_produce_request_without_acknowledgement_has_no_answer(acks: int, expected: bool) -> None:
    assert call_of(ProduceRequest_v7(None, acks, 1, [])).is_silent is expected


def test_a_version_that_nobody_here_speaks_is_said() -> None:
    with pytest.raises(UnknownVersionError, match="API key 3, version 12"):
        error_answer(Call(Api.METADATA, 12, 1, None, b""), 6)
