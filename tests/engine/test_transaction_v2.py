"""The second version of transactions against a broker that loses and refuses what it is told to.

Whatever is done to a call, a transaction is committed once or not at all, and says which; its
successor goes on with the epoch that the broker has told.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from edo_stream.core.effects import Publish
from edo_stream.engine.compression import Compression
from edo_stream.engine.security import BrokerAccess
from edo_stream.engine.transaction import (
    Change,
    FencedError,
    OutcomeUnknownError,
    Transaction,
    TransactionAbortedError,
    TransactionError,
)
from edo_stream.engine.transaction_v2.choice import TransactionProtocol, choose_protocol
from edo_stream.engine.transaction_v2.producer import SecondProducer
from tests.engine.scripted_broker import (
    API_VERSIONS,
    END_TXN,
    FIND_COORDINATOR,
    INIT_PRODUCER_ID,
    LAST_EPOCH,
    PRODUCE,
    TXN_OFFSET_COMMIT,
    Abilities,
    Harm,
    ScriptedBroker,
)

OUT, ROWS = ("out", 0), ("rows", 1)
SOURCE = TopicPartition("in", 0)
BEFORE, AFTER = Harm(None), Harm(None, is_after=True)
LOST = (BEFORE, AFTER)


def errors(*codes: int, is_after: bool = False) -> list[Harm]:
    return [Harm(code, is_after) for code in codes]


async def new_producer(broker: ScriptedBroker) -> SecondProducer:
    producer = SecondProducer(BrokerAccess(broker.address), "id", 5_000, Compression())
    try:
        await producer.start()
    except BaseException:
        await producer.stop()
        raise
    return producer


async def transact(producer: SecondProducer, number: int, timeout_s: float = 5.0) -> None:
    """Commit so many results, two rows and an offset."""
    results = [Publish(*OUT, b"k", b"%d" % n, (), 1_000) for n in range(number)]
    change = Change(*ROWS, {b"one": b"1", b"two": b"2"})
    transaction = Transaction(producer, "group", timeout_s)
    await transaction.run(results, [change], {SOURCE: number}, 1_000)


def with_broker(
    test: Callable[[ScriptedBroker], Awaitable[None]], abilities: Abilities | None = None
) -> None:
    async def run() -> None:
        async with ScriptedBroker({"out": 1, "rows": 2}, abilities) as broker:
            await test(broker)
            assert broker.mistakes == []
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left

    asyncio.run(run())


async def outcomes(broker: ScriptedBroker, numbers: Sequence[int]) -> list[type[Exception] | None]:
    """Transactions one after another; after one that failed with another producer, as a task."""
    told: list[type[Exception] | None] = []
    producer = await new_producer(broker)
    try:
        for number in numbers:
            try:
                await transact(producer, number)
                told.append(None)
            except TransactionError as error:
                told.append(type(error))
                await producer.stop()
                producer = await new_producer(broker)
    finally:
        await producer.stop()
    return told


def assert_committed(broker: ScriptedBroker, numbers: Sequence[int]) -> None:
    transactions = broker.transactions
    assert transactions.committed(OUT) == list(numbers)
    assert transactions.committed(ROWS) == [2] * len(numbers)
    assert transactions.committed_offset(("in", 0)) == (numbers[-1] if numbers else None)


def test_a_transaction_takes_three_requests_and_the_next_one_has_the_next_epoch() -> None:
    async def test(broker: ScriptedBroker) -> None:
        producer = await new_producer(broker)
        try:
            # The first one asks where its topics are, in between.
            await transact(producer, 1)
            broker.calls.clear()
            await transact(producer, 2)
            await transact(producer, 3)
        finally:
            await producer.stop()

        assert broker.calls == {PRODUCE: 2, TXN_OFFSET_COMMIT: 2, END_TXN: 2}
        assert_committed(broker, [1, 2, 3])
        batches = broker.transactions.logs[OUT]
        assert [one.identity for one in batches] == [(77, 0), (77, 1), (77, 2)]
        assert [one.sequence for one in batches] == [0, 0, 0]

    with_broker(test)


@pytest.mark.parametrize("is_lost", [False, True])
def test_a_producer_id_whose_epochs_are_used_up_is_followed_by_another_one(is_lost: bool) -> None:
    async def test(broker: ScriptedBroker) -> None:
        broker.transactions.epoch = LAST_EPOCH - 2
        if is_lost:
            broker.script[END_TXN].extend([AFTER, Harm(51, is_after=True)] * 3)
        assert await outcomes(broker, [1, 2, 3]) == [None, None, None]

        assert_committed(broker, [1, 2, 3])
        identities = [one.identity for one in broker.transactions.logs[OUT]]
        assert identities == [(77, LAST_EPOCH - 1), (77, LAST_EPOCH), (78, 0)]

    with_broker(test)


#: Retried until it is done: the transaction commits.
RETRIED = {
    PRODUCE: [
        *LOST,
        *errors(3, 6, 7, 13, 14, 15, 16, 19, 51, 56),
        *errors(7, 20, 51, is_after=True),
    ],
    TXN_OFFSET_COMMIT: [*LOST, *errors(3, 7, 13, 14, 15, 16, 51), *errors(7, 15, is_after=True)],
    END_TXN: [*LOST, *errors(13, 14, 15, 16, 51), *errors(7, 14, 15, 16, 51, is_after=True)],
}


@pytest.mark.parametrize(
    ("key", "harm"), [(key, harm) for key, harms in RETRIED.items() for harm in harms], ids=str
)
def test_what_may_pass_is_asked_again_to_the_byte_and_done_once(key: int, harm: Harm) -> None:
    async def test(broker: ScriptedBroker) -> None:
        producer = await new_producer(broker)
        try:
            await transact(producer, 1)
            broker.script[key].append(harm)
            asked = len(broker.bodies[key])
            await transact(producer, 2)
            await transact(producer, 3)
        finally:
            await producer.stop()
        assert_committed(broker, [1, 2, 3])
        harmed, again, *_ = broker.bodies[key][asked:]
        assert harmed == again
        is_moved = key != PRODUCE and harm.code in (None, 7, 15, 16)
        assert not is_moved or broker.calls[FIND_COORDINATOR] == 3

    with_broker(test)


@pytest.mark.parametrize("harm", [*LOST, *errors(14, 15, 16, 51), Harm(15, True)], ids=str)
def test_an_initialisation_is_asked_for_until_it_is_done(harm: Harm) -> None:
    async def test(broker: ScriptedBroker) -> None:
        broker.script[INIT_PRODUCER_ID].append(harm)
        broker.script[FIND_COORDINATOR].extend((Harm(15), *LOST))
        assert await outcomes(broker, [1, 2]) == [None, None]
        assert_committed(broker, [1, 2])

    with_broker(test)


#: Codes that no retry mends, and what the task is told.
FATAL = {
    PRODUCE: {
        45: TransactionAbortedError,
        48: TransactionAbortedError,
        59: TransactionAbortedError,
    },
    TXN_OFFSET_COMMIT: {
        -1: TransactionAbortedError,
        22: TransactionAbortedError,
        48: TransactionAbortedError,
    },
    END_TXN: {-1: OutcomeUnknownError, 48: OutcomeUnknownError, 49: OutcomeUnknownError},
}
for codes in FATAL.values():
    codes |= {47: FencedError, 90: FencedError}
for key in (PRODUCE, TXN_OFFSET_COMMIT):
    FATAL[key][120] = TransactionAbortedError
FATAL[END_TXN][120] = OutcomeUnknownError


@pytest.mark.parametrize("is_after", [False, True])
@pytest.mark.parametrize(
    ("key", "code", "expected"),
    [(key, code, kind) for key, kinds in FATAL.items() for code, kind in kinds.items()],
)
def test_what_does_not_pass_ends_the_transaction_and_says_how(
    key: int, code: int, expected: type[Exception], is_after: bool
) -> None:
    async def test(broker: ScriptedBroker) -> None:
        await outcomes(broker, [1])
        broker.script[key].append(Harm(code, is_after))

        assert await outcomes(broker, [2, 3]) == [expected, None]

        # Asked for, and not confirmed: it is for the task to find out.
        is_done = key == END_TXN and is_after
        assert_committed(broker, [1, 2, 3] if is_done else [1, 3])

    with_broker(test)


@pytest.mark.parametrize("key", [PRODUCE, TXN_OFFSET_COMMIT])
def test_what_was_aborted_is_ended_at_once_and_the_producer_could_go_on(key: int) -> None:
    async def test(broker: ScriptedBroker) -> None:
        producer = await new_producer(broker)
        try:
            broker.script[key].append(Harm(120, is_after=True))
            with pytest.raises(TransactionAbortedError):
                await transact(producer, 1)
            assert broker.transactions.fates == {(77, 0): False}
            broker.script[END_TXN].append(AFTER)
            await transact(producer, 2)
        finally:
            await producer.stop()
        assert_committed(broker, [2])

    with_broker(test)


@pytest.mark.parametrize("code", [45, 59, 120])
def test_no_offsets_go_out_and_nothing_commits_over_a_batch_that_was_refused(code: int) -> None:
    async def test(broker: ScriptedBroker) -> None:
        producer = await new_producer(broker)
        try:
            broker.script[PRODUCE].append(Harm(code))
            with pytest.raises(TransactionAbortedError):
                await transact(producer, 1)
            assert broker.calls[TXN_OFFSET_COMMIT] == 0

            # Not even for a caller that does not look.
            await producer.begin_transaction()
            for is_refused in (False, True):
                batch = producer.create_batch("t")
                batch.fill([Publish(*OUT, b"k", b"v", (), 1_000)], 0)
                if is_refused:
                    broker.script[PRODUCE].append(Harm(code))
                landed = await producer.send_batch(batch, OUT[0], partition=OUT[1])
                if not is_refused:
                    await landed
            with pytest.raises(KafkaError):
                await producer.commit_transaction()
        finally:
            await producer.stop()
        assert True not in broker.transactions.fates.values()

    with_broker(test)


def test_batches_of_a_partition_go_one_after_another_though_an_answer_is_lost() -> None:
    async def test(broker: ScriptedBroker) -> None:
        producer = await new_producer(broker)
        results = [Publish(*OUT, b"k", b"%04d" % n, (), 1_000) for n in range(10)]
        try:
            broker.script[PRODUCE].extend((AFTER, Harm(51), Harm(6), AFTER))
            transaction = Transaction(producer, "group", 5.0, {"out": 40})
            await transaction.run(results, [], {SOURCE: 1}, 1_000)
        finally:
            await producer.stop()
        batches = broker.transactions.logs[OUT]
        assert sum(broker.transactions.committed(OUT)) == 10
        assert len(batches) > 2
        ends = [one.sequence + one.count for one in batches]
        assert [one.sequence for one in batches] == [0, *ends[:-1]]

    with_broker(test)


def test_a_batch_that_the_broker_knows_already_has_landed_it_does_not_say_where() -> None:
    async def test(broker: ScriptedBroker) -> None:
        producer = await new_producer(broker)
        try:
            broker.script[PRODUCE].append(Harm(46, is_after=True))
            change = Change(*ROWS, {b"one": b"1"})
            transaction = Transaction(producer, "group", 5.0)
            last = await transaction.run([], [change], {}, 1_000)
        finally:
            await producer.stop()
        assert last == {TopicPartition(*ROWS): -1}
        assert broker.transactions.committed(ROWS) == [1]

    with_broker(test)


def test_a_transaction_with_nothing_in_it_is_none_for_the_broker() -> None:
    async def test(broker: ScriptedBroker) -> None:
        producer = await new_producer(broker)
        try:
            await producer.begin_transaction()
            await producer.commit_transaction()
            assert broker.calls[END_TXN] == 0
            await transact(producer, 1)
        finally:
            await producer.stop()
        assert_committed(broker, [1])

    with_broker(test)


@pytest.mark.parametrize("key", [PRODUCE, TXN_OFFSET_COMMIT, END_TXN])
def test_a_call_that_never_succeeds_ends_with_the_task_s_patience(key: int) -> None:
    async def test(broker: ScriptedBroker) -> None:
        producer = await new_producer(broker)
        try:
            broker.script[key].extend([Harm(14)] * 100)
            expected = OutcomeUnknownError if key == END_TXN else TransactionAbortedError
            with pytest.raises(expected, match="TimeoutError"):
                await transact(producer, 1, timeout_s=2.0)
            # What was given up is not sent any more.
            asked = broker.calls[key]
            await asyncio.sleep(0.2)
            assert broker.calls[key] == asked
        finally:
            await producer.stop()
        broker.script[key].clear()
        assert await outcomes(broker, [2]) == [None]
        assert_committed(broker, [2])

    with_broker(test)


def test_a_producer_fenced_meanwhile_says_so_and_its_transaction_is_gone() -> None:
    async def test(broker: ScriptedBroker) -> None:
        former = await new_producer(broker)
        try:
            await transact(former, 1)
            successor = await new_producer(broker)
            try:
                with pytest.raises(FencedError):
                    await transact(former, 2)
                await transact(successor, 3)
            finally:
                await successor.stop()
        finally:
            await former.stop()
        assert_committed(broker, [1, 3])

    with_broker(test)


def chosen(abilities: Abilities, wanted: str = "auto") -> TransactionProtocol:
    found = []

    async def test(broker: ScriptedBroker) -> None:
        found.append(await choose_protocol(BrokerAccess(broker.address), wanted))

    with_broker(test, abilities)
    return found[0]


def without(key: int, highest: int) -> Abilities:
    abilities = Abilities()
    abilities.versions[key] = (0, highest)
    return abilities


def test_the_second_version_is_chosen_where_the_brokers_have_agreed_upon_it() -> None:
    assert chosen(Abilities()) is TransactionProtocol.SECOND
    later = Abilities({"metadata.version": 30, "transaction.version": 3})
    assert chosen(later) is TransactionProtocol.SECOND


@pytest.mark.parametrize(
    "abilities",
    [
        Abilities(None),
        Abilities({}),
        Abilities({"metadata.version": 30}),
        Abilities({"metadata.version": 30, "transaction.version": 1}),
        Abilities({"metadata.version": 25, "transaction.version": 2}),
        Abilities({"transaction.version": 2}),
        without(API_VERSIONS, 2),
        without(PRODUCE, 11),
        without(TXN_OFFSET_COMMIT, 4),
        without(END_TXN, 4),
    ],
    ids=[
        "no-features",
        "none",
        "others",
        "level-1",
        "4.0",
        "unknown",
        "old",
        "produce",
        "offsets",
        "end",
    ],
)
def test_the_first_version_is_chosen_anywhere_else(abilities: Abilities) -> None:
    assert chosen(abilities) is TransactionProtocol.FIRST


def test_the_first_version_is_chosen_where_it_is_wanted() -> None:
    assert chosen(Abilities(), "1") is TransactionProtocol.FIRST
