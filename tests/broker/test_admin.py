"""What a start says about topics: all that is wrong, and what limits batches."""

import asyncio

import pytest

from edo_stream.engine.admin import PreparationError, Wanted, prepare
from edo_stream.engine.security import BrokerAccess
from edo_stream.local.kafka import LocalKafka


def test_all_findings_are_said_at_once(kafka: LocalKafka) -> None:
    access = BrokerAccess(kafka.bootstrap)
    there = Wanted("admin.findings.there", 2, is_internal=True)
    asyncio.run(prepare(access, [there]))

    with pytest.raises(PreparationError) as raised:
        asyncio.run(
            prepare(
                access,
                [
                    Wanted("admin.findings.there", 3, why="group a"),
                    Wanted("admin.findings.missing", 1, why="group b"),
                ],
            )
        )

    missing, other = raised.value.findings
    assert missing.startswith("topic admin.findings.missing does not exist (group b)")
    assert other.startswith("topic admin.findings.there has 2 partitions but group a wants 3")


def test_a_topic_that_the_broker_refuses_is_a_finding(kafka: LocalKafka) -> None:
    wanted = Wanted("admin.refused.copies", 1, replication=3, is_internal=True)
    with pytest.raises(PreparationError, match=r"refused\.copies cannot be created: Inv"):
        asyncio.run(prepare(BrokerAccess(kafka.bootstrap), [wanted]))


def test_limits_of_topics_are_known_from_their_creation_on(kafka: LocalKafka) -> None:
    small = Wanted(
        "admin.limits.small", 1, config={"max.message.bytes": "100000"}, is_internal=True
    )
    usual = Wanted("admin.limits.usual", 1, is_internal=True)
    for _ in ("created", "found"):
        limits = asyncio.run(prepare(BrokerAccess(kafka.bootstrap), [small, usual]))
        assert limits == {"admin.limits.small": 100_000}
