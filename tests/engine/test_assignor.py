"""What members and leader of a group tell each other, in Faust's own words."""

from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from aiokafka import TopicPartition
from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata
from faust.assignor.partition_assignor import PartitionAssignor
from yarl import URL

from edo_stream.engine.assignor import TaskAssignor

TOPICS = ("placed", "paid", "changed")
PARTITIONS = {"placed": 4, "paid": 4, "changed": 2}


def plan(group: str, partitions: int, *topics: str) -> Any:
    tables = [SimpleNamespace(name=f"{group}-{name}") for name in ("state", "ids")]
    spec = SimpleNamespace(sources=dict.fromkeys(topics))
    return SimpleNamespace(partitions=partitions, tables=tables, spec=spec)


PLANS = {
    "orders": plan("orders", 4, "placed", "paid"),
    "customers": plan("customers", 2, "changed"),
}
CLUSTER = SimpleNamespace(
    partitions_for_topic=lambda topic: set(range(PARTITIONS[topic])),
)


def member(folder: Path, standbys: int = 1, kind: type = TaskAssignor) -> Any:
    app = SimpleNamespace(
        tables=SimpleNamespace(data={}, changelog_topics=set()),
        conf=SimpleNamespace(canonical_url=URL("http://worker"), tabledir=folder),
        plans=PLANS,
        worker_settings=SimpleNamespace(standbys=standbys),
        tracer=None,
        sensors=SimpleNamespace(
            on_assignment_start=lambda *_: None, on_assignment_completed=lambda *_: None
        ),
    )
    return kind(app)


def rebalance(members: dict[str, Any], leader: str) -> dict[str, list[TopicPartition]]:
    """One rebalance, over the wire; what each consumes afterwards."""
    told = {
        name: ConsumerProtocolMemberMetadata.decode(one.metadata(set(TOPICS)).encode())
        for name, one in members.items()
    }
    given = members[leader].assign(CLUSTER, told)
    for name, one in members.items():
        one.on_assignment(given[name])
    return {
        name: sorted(TopicPartition(t, n) for t, numbers in one.assignment for n in numbers)
        for name, one in given.items()
    }


def test_each_partition_is_worked_on_once_and_stood_by_for_elsewhere(tmp_path: Path) -> None:
    members = {name: member(tmp_path) for name in ("a", "b", "c")}
    consumed = rebalance(members, "a")
    all_partitions = sorted(TopicPartition(t, n) for t in TOPICS for n in range(PARTITIONS[t]))
    assert sorted(chain(*consumed.values())) == all_partitions
    standbys = {name: one.assigned_standby_partitions() for name, one in members.items()}
    assert sorted(chain(*standbys.values())) == all_partitions
    for name in members:
        # Nothing is consumed of what a worker only stands by for.
        assert not set(consumed[name]) & set(standbys[name])
        numbers = {t: {p.partition for p in consumed[name] if p.topic == t} for t in TOPICS}
        assert numbers["placed"] == numbers["paid"]


def test_the_leader_says_how_many_standbys_there_are(tmp_path: Path) -> None:
    members = {"a": member(tmp_path, standbys=0), "b": member(tmp_path, standbys=1)}
    rebalance(members, "a")
    assert [one.assigned_standby_partitions() for one in members.values()] == [[], []]
    rebalance(members, "b")
    assert all(one.assigned_standby_partitions() for one in members.values())


def test_partitions_and_standbys_stay_where_they_are(tmp_path: Path) -> None:
    members = {name: member(tmp_path) for name in ("a", "b", "c")}
    before = rebalance(members, "a")
    standbys = {name: one.assigned_standby_partitions() for name, one in members.items()}
    assert rebalance(members, "c") == before
    assert {n: one.assigned_standby_partitions() for n, one in members.items()} == standbys


def test_a_worker_that_starts_with_disks_gets_their_partitions(tmp_path: Path) -> None:
    for name in ("orders-state-1", "orders-ids-1", "orders-state-3", "orders-ids-3"):
        (tmp_path / "kept" / name).mkdir(parents=True)
    members = {"a": member(tmp_path / "none", 0), "b": member(tmp_path / "kept", 0)}
    consumed = rebalance(members, "a")
    assert {p.partition for p in consumed["b"] if p.topic == "placed"} == {1, 3}


def test_workers_of_before_are_in_one_group_with_these(tmp_path: Path) -> None:
    # A rolling upgrade: either kind may lead.
    members = {"old": member(tmp_path, 1, PartitionAssignor), "new": member(tmp_path)}
    for leader in ("old", "new", "old"):
        consumed = rebalance(members, leader)
        assert sorted(map(len, consumed.values())) == [5, 5]
