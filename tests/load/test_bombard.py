"""Which faults of the protocol are drawn: by the seed alone, and of every API that is named."""

import asyncio
import random

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


def drawn(seed: int, count: int) -> list[object]:
    chance = random.Random(seed)
    return [draw(chance) for _ in range(count)]


def test_the_seed_decides() -> None:
    assert drawn(1, 50) == drawn(1, 50) != drawn(2, 50)


def test_every_api_and_every_kind_comes_up() -> None:
    chance = random.Random(1)
    faults = [draw(chance) for _ in range(2_000)]
    assert {api for api, _ in faults} == APIS == ERRORS.keys()
    assert {harm.kind for _, harm in faults} == set(Kind)


def test_errors_are_those_that_the_api_has() -> None:
    chance = random.Random(1)
    for api, harm in (draw(chance) for _ in range(2_000)):
        if harm.kind is Kind.ERROR:
            assert harm.code in ERRORS[api]
        if harm.kind is Kind.ERROR_AFTER:
            assert harm.code in ERRORS_AFTER[api]


def test_a_bombardment_counts_what_fired_and_what_met_no_call() -> None:
    with Proxy("127.0.0.1:1") as proxy:
        bombardment = Bombardment(proxy, faults=5, chance=random.Random(1), pause_s=0.0)

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
