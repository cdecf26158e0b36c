"""What the topics of all groups have in common."""

import pytest

from edo_stream.core.state import as_is
from edo_stream.core.task import refusal
from edo_stream.engine.assignment import GroupTable
from edo_stream.engine.group_topics import (
    compacted_hourly,
    control_config,
    internal_topics,
    state_table,
    wanted_internal,
)


def test_a_group_is_in_the_names_of_its_state_and_of_its_control() -> None:
    table = GroupTable("orders-state", "app-orders-state-changelog", as_is, refusal)
    assert table == state_table("app", "orders", refusal)
    assert internal_topics("orders").control == "edo.control.orders"


@pytest.mark.parametrize(("replication", "in_sync"), [(1, "1"), (2, "1"), (3, "2"), (5, "2")])
def test_one_replica_of_three_may_be_down(replication: int, in_sync: str) -> None:
    (topic,) = wanted_internal({"control": control_config()}, 4, replication, "group orders")
    assert topic.config == {
        "cleanup.policy": "delete",
        "retention.ms": "604800000",
        "max.message.bytes": "1048576",
        "min.insync.replicas": in_sync,
    }
    assert (topic.partitions, topic.replication, topic.is_internal) == (4, replication, True)


def test_a_changelog_is_compacted_by_the_hour_and_holds_the_largest_row() -> None:
    expected = {
        "cleanup.policy": "compact",
        "min.cleanable.dirty.ratio": "0.1",
        "delete.retention.ms": "604800000",
        "segment.ms": "3600000",
        "segment.bytes": "67108864",
        "max.message.bytes": "5000",
    }
    assert expected == compacted_hourly(5_000)
