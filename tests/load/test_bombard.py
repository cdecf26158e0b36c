"""Which faults of the protocol are drawn: by the seed alone, and of every API that is named."""

import asyncio
import random

import pytest

from edo_stream.engine.transaction_v2.choice import TransactionProtocol
from load.bombard import ERRORS, ERRORS_AFTER, Bombardment, draw
from load.proxy.rules import Api, Kind
from load.proxy.server import Proxy

#: As the issue lists them.
APIS = {
    Api.PRODUCE,
    Api.FETCH,
    Api.INIT_PRODUCER_ID,
    Api.ADD_PARTITIONS_TO_TXN,
    Api.ADD_OFFSETS_TO_TXN,
    Api.TXN_OFFSET_COMMIT,
    Api.END_TXN,
    Api.JOIN_GROUP,
    Api.SYNC_GROUP,
    Api.HEARTBEAT,
    Api.OFFSET_FETCH,
}


FIRST, SECOND = TransactionProtocol.FIRST, TransactionProtocol.SECOND


def drawn(seed: int, count: int) -> list[object]:
    chance = random.Random(seed)
    return [draw(chance, SECOND) for _ in range(count)]


def test_the_seed_decides() -> None:
    assert drawn(1, 50) == drawn(1, 50) != drawn(2, 50)


@pytest.mark.parametrize(
    ("protocol", "apis"),
    [(FIRST, APIS), (SECOND, APIS - {Api.ADD_PARTITIONS_TO_TXN, Api.ADD_OFFSETS_TO_TXN})],
)
def test_every_api_and_every_kind_comes_up(protocol: TransactionProtocol, apis: set[Api]) -> None:
    chance = random.Random(1)
    faults = [draw(chance, protocol) for _ in range(2_000)]
    assert {api for api, _ in faults} == apis == ERRORS[protocol].keys()
    assert {harm.kind for _, harm in faults} == set(Kind)


@pytest.mark.parametrize("protocol", TransactionProtocol)
def test_errors_are_those_that_the_api_has(protocol: TransactionProtocol) -> None:
    chance = random.Random(1)
    for api, harm in (draw(chance, protocol) for _ in range(2_000)):
        if harm.kind is Kind.ERROR:
            assert harm.code in ERRORS[protocol][api]
        if harm.kind is Kind.ERROR_AFTER:
            assert harm.code in ERRORS_AFTER[api]


def test_a_bombardment_counts_what_fired_and_what_met_no_call() -> None:
    with Proxy("127.0.0.1:1") as proxy:
        bombardment = Bombardment(proxy, 5, random.Random(1), SECOND, pause_s=0.0)

        async def go() -> None:
            running = asyncio.create_task(bombardment.run())
            while not running.done():
                for rule in tuple(proxy.rules):
                    rule.decide(rule.api, "client")
                await asyncio.sleep(0.01)
            await running

        asyncio.run(go())

    assert bombardment.fired.total() >= 5
    assert bombardment.missed == 0
    assert proxy.rules == []
