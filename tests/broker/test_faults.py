"""A worker behind the proxy, with faults of every API that it uses: nothing lost, doubled, swapped.

A few of each kind, one after another; `make chaos` injects hundreds, by chance and at once.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from edo_stream.engine.admin import Wanted, prepare
from edo_stream.engine.security import BrokerAccess
from edo_stream.engine.transaction_v2.choice import TransactionProtocol
from edo_stream.local.kafka import LocalKafka
from load.bombard import ERRORS, TRIGGERS
from load.fleet import LocalWorker
from load.proxy.rules import Api, Code, Harm, Kind, Rule
from load.proxy.server import Proxy
from tests.broker.bench import PATIENCE_S, Bench, event, wait_for, wait_until_logged

#: Most of what may go wrong is over within a retry or a reset; a stall is none of it.
STALL_MAX_S = 30.0
DISCONNECTS = (Harm(Kind.DISCONNECT_BEFORE), Harm(Kind.DISCONNECT_AFTER), Harm(Kind.DELAY, 0, 0.5))
BLACK_HOLE = Harm(Kind.BLACK_HOLE)


def errors(*codes: Code) -> tuple[Harm, ...]:
    return tuple(Harm(Kind.ERROR, code=code) for code in codes)


#: For each API an error that is retried and one that is not, and what it alone is prone to.
HARMS: Mapping[Api, Sequence[Harm]] = {
    Api.PRODUCE: (
        *errors(Code.NOT_LEADER_OR_FOLLOWER, Code.OUT_OF_ORDER_SEQUENCE_NUMBER),
        Harm(Kind.ERROR_AFTER, code=Code.REQUEST_TIMED_OUT),
        BLACK_HOLE,
    ),
    Api.FETCH: (*errors(Code.KAFKA_STORAGE_ERROR, Code.OFFSET_OUT_OF_RANGE), BLACK_HOLE),
    Api.INIT_PRODUCER_ID: errors(Code.CONCURRENT_TRANSACTIONS, Code.UNKNOWN_SERVER_ERROR),
    Api.ADD_PARTITIONS_TO_TXN: errors(Code.NOT_COORDINATOR, Code.INVALID_PRODUCER_ID_MAPPING),
    Api.ADD_OFFSETS_TO_TXN: errors(Code.CONCURRENT_TRANSACTIONS, Code.INVALID_TXN_STATE),
    Api.TXN_OFFSET_COMMIT: errors(Code.COORDINATOR_NOT_AVAILABLE, Code.INVALID_PRODUCER_EPOCH),
    Api.END_TXN: (
        *errors(Code.COORDINATOR_LOAD_IN_PROGRESS, Code.UNKNOWN_SERVER_ERROR),
        Harm(Kind.ERROR_AFTER, code=Code.UNKNOWN_SERVER_ERROR),
    ),
    Api.JOIN_GROUP: errors(Code.COORDINATOR_LOAD_IN_PROGRESS, Code.UNKNOWN_SERVER_ERROR),
    Api.SYNC_GROUP: errors(Code.REBALANCE_IN_PROGRESS, Code.UNKNOWN_SERVER_ERROR),
    Api.HEARTBEAT: (*errors(Code.NOT_COORDINATOR, Code.UNKNOWN_SERVER_ERROR), BLACK_HOLE),
    Api.OFFSET_FETCH: errors(Code.NOT_COORDINATOR, Code.UNKNOWN_SERVER_ERROR),
}
#: What only the second version of transactions knows.
ABORTABLE = errors(Code.TRANSACTION_ABORTABLE, Code.CONCURRENT_TRANSACTIONS, Code.PRODUCER_FENCED)
FIRST, SECOND = TransactionProtocol.FIRST, TransactionProtocol.SECOND
TRANSACTIONAL = (
    Api.PRODUCE,
    Api.ADD_PARTITIONS_TO_TXN,
    Api.ADD_OFFSETS_TO_TXN,
    Api.TXN_OFFSET_COMMIT,
    Api.END_TXN,
)
CASES = [
    *((SECOND, api) for api in ERRORS[SECOND]),
    *((FIRST, api) for api in TRANSACTIONAL),
]


class Stream:
    """Events through a worker that sits behind a proxy, one after another for all tests."""

    def __init__(self, bench: Bench, worker: LocalWorker, proxy: Proxy) -> None:
        self.worker = worker
        self.proxy = proxy
        self.sent: list[str] = []
        self._bench = bench
        self._topic = bench.declare("faulty", partitions=1)
        bench.apply()

    def send(self, count: int) -> None:
        ids = [f"e-{len(self.sent) + n}" for n in range(count)]
        self._bench.send(self._topic, [event(one) for one in ids])
        self.sent += ids

    def results(self) -> list[str]:
        found = self._bench.read(f"{self._topic}.out")
        return [dict(record.headers)["ce_causationid"].decode() for record in found]

    def results_when_done(self) -> list[str]:
        wait_for(lambda: len(self.results()) >= len(self.sent), "results", STALL_MAX_S)
        return self.results()


@contextmanager
def stream_by(protocol: TransactionProtocol, root: Path, kafka: LocalKafka) -> Iterator[Stream]:
    bench = Bench(root, f"faults{protocol.value}", {"EDO_BROKER": kafka.bootstrap})
    try:
        with Proxy(kafka.bootstrap) as proxy:
            worker = bench.worker(
                EDO_BROKER=proxy.bootstrap,
                EDO_TRANSACTION_TIMEOUT_MS="3000",
                EDO_REBALANCE_TIMEOUT_MS="6000",
                EDO_TRANSACTION_PROTOCOL="1" if protocol is FIRST else "auto",
            )
            stream = Stream(bench, worker, proxy)
            worker.start()
            yield stream
            assert proxy.failures == []
    finally:
        bench.close()


@pytest.fixture(scope="module")
def streams(
    tmp_path_factory: pytest.TempPathFactory, kafka: LocalKafka
) -> Iterator[Callable[[TransactionProtocol], Stream]]:
    """A stream for each protocol, from the first test on that needs it."""
    made: dict[TransactionProtocol, Stream] = {}
    with ExitStack() as stack:

        def stream_of(protocol: TransactionProtocol) -> Stream:
            if protocol not in made:
                root = tmp_path_factory.mktemp("faults")
                made[protocol] = stack.enter_context(stream_by(protocol, root, kafka))
            return made[protocol]

        yield stream_of


def test_every_api_of_the_list_is_harmed() -> None:
    assert {api for _, api in CASES} == HARMS.keys()


@pytest.mark.parametrize(("protocol", "api"), CASES, ids=lambda one: one.name)
def test_faults_of_an_api_lose_double_and_swap_nothing(
    protocol: TransactionProtocol, api: Api, streams: Callable[[TransactionProtocol], Stream]
) -> None:
    stream = streams(protocol)
    stream.send(5)
    assert stream.results_when_done() == stream.sent
    more = ABORTABLE if protocol is SECOND and api in TRANSACTIONAL else ()
    harms = (*HARMS[api], *more, *DISCONNECTS)
    rules = [stream.proxy.rule(api, harm).once() for harm in harms]
    deadline_s = time.monotonic() + 5 * PATIENCE_S
    trigger: Rule | None = None
    while not all(rule.times_triggered for rule in rules):
        assert time.monotonic() < deadline_s, [r.name for r in rules if not r.times_triggered]
        # One at a time: a worker that is quick sends many events between two heartbeats.
        if api in TRIGGERS and (trigger is None or trigger.times_triggered):
            other, code = TRIGGERS[api]
            trigger = stream.proxy.on(other).error(code).once()
        stream.send(5)
        assert stream.results_when_done() == stream.sent
    if trigger is not None:
        trigger.off()

    assert stream.worker.is_running


def test_a_worker_starts_although_the_first_node_that_it_asks_is_away(
    bench: Bench, kafka: LocalKafka
) -> None:
    topic = bench.declare("prepared")
    bench.apply()
    with Proxy(kafka.bootstrap) as proxy:
        # The first connection finds the cluster; the second is to one of its nodes.
        rule = proxy.on(Api.API_VERSIONS).disconnect_before().on_call(2)
        asyncio.run(prepare(BrokerAccess(proxy.bootstrap), [Wanted(topic, 1)]))
    assert rule.times_triggered == 1


def test_a_gap_is_given_up_although_a_question_for_the_end_of_the_log_is_lost(
    bench: Bench, kafka: LocalKafka
) -> None:
    topic = bench.declare("asked", "ordering: {policy: sequence, start: 1, gap_timeout: 2s}")
    bench.apply()
    with Proxy(kafka.bootstrap) as proxy:
        worker = bench.worker(EDO_BROKER=proxy.bootstrap)
        worker.start()
        wait_until_logged(worker, "task running")
        # By a client of its own, which sees what is not committed yet.
        rule = proxy.on(Api.LIST_OFFSETS, client_id="aiokafka").black_hole().once()
        bench.send(topic, [event("e-1", number=1), event("e-3", number=3)])
        wait_for(lambda: rule.times_triggered, rule.name)
        start_s = time.monotonic()

        assert bench.result_ids(topic, 2) == ["e-1", "e-3"]

        assert time.monotonic() - start_s < STALL_MAX_S


def test_a_transaction_that_nobody_answers_does_not_hold_up_a_rebalance(
    bench: Bench, kafka: LocalKafka
) -> None:
    topic = bench.declare("held-up", partitions=2)
    bench.apply()
    with Proxy(kafka.bootstrap) as proxy:
        first = bench.worker(
            "first",
            EDO_BROKER=proxy.bootstrap,
            EDO_TRANSACTION_TIMEOUT_MS="600000",
            EDO_REBALANCE_TIMEOUT_MS="600000",
        )
        second = bench.worker("second")
        first.start()
        wait_until_logged(first, "task running", 2)
        rule = proxy.on(Api.PRODUCE).black_hole().once()
        bench.send(topic, [event("e")])
        wait_for(lambda: rule.times_triggered, rule.name)

        second.launch()
        # Neither for the transaction's timeout nor for that of the rebalance: it waits for less.
        wait_until_logged(second, "task running")

        assert bench.result_ids(topic, 1) == ["e"]
