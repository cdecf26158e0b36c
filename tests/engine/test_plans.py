"""From contracts to the tasks of a group, and to every topic that they need."""

from pathlib import Path

import pytest

from edo_stream.core.contract import DAY_MS, Start
from edo_stream.core.dedupe import expand_ids
from edo_stream.core.state import Table
from edo_stream.core.task import TaskRow, save_task
from edo_stream.engine.admin import Wanted
from edo_stream.engine.plans import expire_ids, group_plans, wanted_topics
from edo_stream.engine.task_spec import TaskSpec
from edo_stream.registry import Registry, load
from tests.engine.memory import MemoryDisk

CONTRACT = """\
name: {name}
owner: team-tests
description: Something happened.
codec: cloudevents
partitions: 4
group: orders
emit: {{topic: {name}.out}}
{more}
"""
SHARED = TaskSpec(app="app", group="", sources={}, transaction_timeout_s=1.0, session_timeout_s=1.0)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    for name, more in (
        ("shop.order.placed", "start: latest\ndedupe: {ttl: 8h}\nrecord_bytes_max: 4MiB"),
        ("shop.order.paid", "dedupe: off"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "contract.yaml").write_text(CONTRACT.format(name=name, more=more))
    return load(tmp_path)


def wanted(registry: Registry, replication: int = 1) -> dict[str, Wanted]:
    return {topic.name: topic for topic in wanted_topics(registry, "app", replication)}


def test_a_group_has_its_topics_its_control_topic_and_two_tables(registry: Registry) -> None:
    plan = group_plans(registry, SHARED)["orders"]
    assert plan.spec.sources == {
        "shop.order.placed": Start(latest=True),
        "shop.order.paid": Start(),
        "edo.control.orders": Start(),
    }
    assert (plan.spec.app, plan.spec.group, plan.partitions) == ("app", "orders", 4)
    assert [(table.name, table.changelog) for table in plan.tables] == [
        ("orders-state", "app-orders-state-changelog"),
        ("orders-ids", "app-orders-ids-changelog"),
    ]


def test_each_partition_has_a_transactional_id_of_its_own(registry: Registry) -> None:
    spec = group_plans(registry, SHARED)["orders"].spec
    assert [spec.transactional_id(n) for n in (0, 3)] == ["app.orders.0", "app.orders.3"]


def test_all_topics_of_the_decide_plane_are_wanted(registry: Registry) -> None:
    assert {name: topic.partitions for name, topic in wanted(registry).items()} == {
        "shop.order.placed": 4,
        "shop.order.placed.out": 4,
        "shop.order.paid": 4,
        "shop.order.paid.out": 4,
        "edo.dead-letters.shop.order.placed": 4,
        "edo.dead-letters.shop.order.paid": 4,
        "edo.control.orders": 4,
        "edo.accounts": 8,
        "edo.gaps": 8,
        "app-orders-state-changelog": 4,
        "app-orders-ids-changelog": 4,
    }


def test_the_engine_creates_what_is_its_own_and_nothing_else(registry: Registry) -> None:
    foreign = {name for name, topic in wanted(registry).items() if not topic.is_internal}
    assert foreign == {
        "shop.order.placed",
        "shop.order.placed.out",
        "shop.order.paid",
        "shop.order.paid.out",
    }


def test_the_changelog_of_the_state_is_compacted_and_holds_the_largest_record(
    registry: Registry,
) -> None:
    config = wanted(registry)["app-orders-state-changelog"].config
    assert config["cleanup.policy"] == "compact"
    assert config["delete.retention.ms"] == str(7 * DAY_MS)
    assert int(config["max.message.bytes"]) >= (4 << 20) + 64 * 1024


def test_the_changelog_of_the_ids_is_kept_for_twice_the_time_to_live(registry: Registry) -> None:
    config = wanted(registry)["app-orders-ids-changelog"].config
    assert config["cleanup.policy"] == "delete"
    assert config["retention.ms"] == str(16 * 3_600_000)


@pytest.mark.parametrize(("replication", "in_sync"), [(1, "1"), (3, "2")])
def test_three_copies_want_two_in_sync(registry: Registry, replication: int, in_sync: str) -> None:
    topic = wanted(registry, replication)["app-orders-state-changelog"]
    assert (topic.replication, topic.config["min.insync.replicas"]) == (replication, in_sync)


def test_a_standby_forgets_the_ids_that_its_task_has_forgotten() -> None:
    state, ids = MemoryDisk(), MemoryDisk()
    rows = {
        name: value
        for expiry_s in range(100)
        for name, value in expand_ids(
            b"%04d" % expiry_s, expiry_s.to_bytes(4, "big") + b"%016d" % expiry_s
        )
    }
    ids.write({**rows}, 7, 0)
    row = TaskRow(stream_ms=60_000)
    tables = [Table(state), Table(ids, expand_ids)]
    save_task(tables[0], row)
    state.write(tables[0].local, 7, 0)

    for turn in expire_ids(tables):
        assert turn is None
        # Bounded, whatever there is to forget.
        assert 0 < len(tables[1].local) < 50
        ids.write(tables[1].local, None, 0)
        tables[1].settle()

    # What is on disk now is what the task has: all that expires later than its stream time.
    assert sorted(int.from_bytes(ids.rows[key], "big") for key in ids.rows if key[:1] == b"d") == [
        *range(61, 100)
    ]
    assert ids.offset() == 7
