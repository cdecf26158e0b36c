"""What a batch is compressed by, by its topic."""

import asyncio

import pytest

from edo_stream.core.effects import Publish
from edo_stream.core.native import IS_COMPILED
from edo_stream.engine.compression import PASSED_ON, Compression
from edo_stream.engine.producer import producer_factory
from edo_stream.engine.record_batch import CODEC_MASK, CODECS
from edo_stream.engine.security import BrokerAccess
from edo_stream.engine.transaction_v2.choice import TransactionProtocol
from edo_stream.flows.correlation import joins_topic
from edo_stream.flows.flow import commands_topic, tier_topic
from edo_stream.flows.lookup import group_name
from edo_stream.registry.names import INTERNAL_PREFIX
from edo_stream.registry.plan import ACCOUNTS, retry_topic

BOTH = Compression(kept="zstd", passed_on="lz4")


def test_what_tasks_write_for_one_another_has_a_codec_of_its_own() -> None:
    passed_on = [
        commands_topic("f"),
        joins_topic("g"),
        tier_topic("g", 1_000),
        retry_topic("g", 1_000),
        f"{INTERNAL_PREFIX}{group_name(4)}",
        f"{INTERNAL_PREFIX}saga-starts.s",
    ]
    kept = ["shop.order.accepted", ACCOUNTS, "edo.outcomes.f", "edo.dead-letters.f", "a-changelog"]
    assert {CODECS["lz4"]} == {BOTH.codec(topic) for topic in passed_on}
    assert {CODECS["zstd"]} == {BOTH.codec(topic) for topic in kept}
    assert {0} == {Compression().codec(topic) for topic in (*passed_on, *kept)}
    assert [] == [kind for kind in PASSED_ON if not any(one.startswith(kind) for one in passed_on)]


@pytest.mark.parametrize("protocol", TransactionProtocol, ids=lambda one: one.name)
@pytest.mark.parametrize(("topic", "codec"), [("edo.joins.g", "lz4"), ("shop.order.ok", "zstd")])
def test_a_batch_says_the_codec_of_its_topic(
    topic: str, codec: str, protocol: TransactionProtocol
) -> None:
    async def build() -> bytes:
        make = producer_factory(BrokerAccess("127.0.0.1:1"), 10_000, BOTH, protocol)
        producer = make("id")
        batch = producer.create_batch(topic)
        await producer.stop()
        batch.fill([Publish(topic, 0, b"k", b"v" * 1_000, (), 1_000)], 0)
        await batch.pack()
        built = batch._build() if IS_COMPILED else batch._builder.build()  # type: ignore[attr-defined]
        return bytes(built)

    assert CODECS[codec] == asyncio.run(build())[22] & CODEC_MASK
