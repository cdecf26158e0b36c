"""Contracts are read once, and every mistake in every file is reported at once, with its line."""

from pathlib import Path

import pytest

from edo_stream.core.contract import (
    DAY_MS,
    Codec,
    Contract,
    DedupePolicy,
    KeyOrder,
    MonotonicOrder,
    NoOrder,
    OnFull,
    OnLate,
    OnTimeout,
    SequenceOrder,
    Start,
)
from edo_stream.registry import Group, RegistryError, Role, load

MINIMAL = """\
name: {name}
owner: team-orders
description: Something happened.
codec: cloudevents
partitions: 4
emit:
  topic: {name}.done
"""


def write(root: Path, name: str, text: str) -> None:
    (root / name).mkdir()
    (root / name / "contract.yaml").write_text(text, encoding="utf-8")


def minimal(root: Path, name: str, more: str = "", without: str = "") -> None:
    lines = [line for line in MINIMAL.format(name=name).splitlines() if line != without]
    write(root, name, "\n".join(lines) + "\n" + more)


def findings(root: Path) -> list[tuple[str, int, str]]:
    with pytest.raises(RegistryError) as raised:
        load(root)
    return [
        (finding.file.parent.name, finding.line, finding.message)
        for finding in raised.value.findings
    ]


def only_finding(root: Path) -> tuple[int, str]:
    found = findings(root)
    assert len(found) == 1, found
    return found[0][1:]


def test_minimal_contract_has_the_defaults_of_the_core(tmp_path: Path) -> None:
    minimal(tmp_path, "shop.order.placed")

    expected = Contract(
        topic="shop.order.placed",
        owner="team-orders",
        group="shop.order.placed",
        partitions=4,
        codec=Codec.CLOUDEVENTS,
        emit="shop.order.placed.done",
        emit_partitions=4,
        dead_letters="edo.dead-letters.shop.order.placed",
    )
    assert {"shop.order.placed": expected} == load(tmp_path).contracts


def test_every_knob_reaches_the_contract(tmp_path: Path) -> None:
    write(
        tmp_path,
        "shop.order.placed",
        """\
name: shop.order.placed
owner: team-orders
description: An order was placed.
group: orders
partitions: 12
replication: 3
codec: cloudevents
key: /order/id
dedupe: {key: [key, /order/number], ttl: 12h}
ordering:
  policy: sequence
  field: /order/number
  start: 1
  gap_timeout: 250ms
  on_timeout: hold
  held_per_key: 10
  held_per_partition: 20
  on_full: dead-letter
  on_late: emit
  idle_ttl: 1d
emit: {topic: shop.order.accepted, partitions: 6}
dead_letters: {topic: shop.order.rejected}
start: 2026-01-31T12:00:00+00:00
metadata_ids: true
retention: 2d
record_bytes_max: 64KiB
""",
    )

    expected = Contract(
        topic="shop.order.placed",
        owner="team-orders",
        group="orders",
        partitions=12,
        codec=Codec.CLOUDEVENTS,
        emit="shop.order.accepted",
        emit_partitions=6,
        dead_letters="shop.order.rejected",
        dedupe=DedupePolicy(("key", "/order/number"), DAY_MS // 2),
        ordering=SequenceOrder(
            start=1,
            gap_timeout_ms=250,
            on_timeout=OnTimeout.HOLD,
            held_per_key_max=10,
            held_per_partition_max=20,
            on_full=OnFull.DEAD_LETTER,
            on_late=OnLate.EMIT,
            idle_ttl_ms=DAY_MS,
        ),
        order_key="/order/id",
        position="/order/number",
        write_metadata=True,
        record_bytes_max=65_536,
        start=Start(at_ms=1_769_860_800_000),
    )
    topic = load(tmp_path).topics["shop.order.placed"]
    assert (expected, 3, 2 * DAY_MS) == (topic.contract, topic.replication, topic.retention_ms)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{policy: none}", NoOrder()),
        ("{policy: key}", KeyOrder()),
        ("{policy: monotonic, idle_ttl: 1d}", MonotonicOrder(DAY_MS)),
        ("{policy: sequence, start: first-seen}", SequenceOrder()),
    ],
)
def test_ordering_policies(tmp_path: Path, text: str, expected: object) -> None:
    minimal(tmp_path, "shop.order.placed", f"ordering: {text}\n")

    assert expected == load(tmp_path).contracts["shop.order.placed"].ordering


def test_dedupe_may_be_off(tmp_path: Path) -> None:
    minimal(tmp_path, "shop.order.placed", "dedupe: off\n")

    assert load(tmp_path).contracts["shop.order.placed"].dedupe is None


def test_latest_is_a_start(tmp_path: Path) -> None:
    minimal(tmp_path, "shop.order.placed", "start: latest\n")

    assert Start(latest=True) == load(tmp_path).contracts["shop.order.placed"].start


def test_all_mistakes_of_all_files_are_reported_at_once_with_their_lines(tmp_path: Path) -> None:
    write(
        tmp_path,
        "shop.order.placed",
        """\
# a comment moves the lines
name: shop.order.place
owner: ""
partitions: many
codec: avro
ordring: {policy: key}
dedupe:
  key: [source, ids]
  ttl: 7
emit:
  topic: accepted
  partition: 4
retention: 7days
""",
    )
    write(
        tmp_path,
        "shop.payment.received",
        """\
name: shop.payment.received
owner: team-payments
description: A payment came in.
codec: cloudevents
partitions: 0

ordering:
  policy: key
  gap_timeout: 5s
emit: shop.payment.accepted
""",
    )
    write(tmp_path, "shop.refund.paid", "name: [\n")
    (tmp_path / "shop.empty.folder").mkdir()

    places = [(folder, line) for folder, line, _ in findings(tmp_path)]

    assert places == [
        ("shop.empty.folder", 1),
        ("shop.order.placed", 2),
        ("shop.order.placed", 2),
        ("shop.order.placed", 3),
        ("shop.order.placed", 4),
        ("shop.order.placed", 5),
        ("shop.order.placed", 6),
        ("shop.order.placed", 8),
        ("shop.order.placed", 9),
        ("shop.order.placed", 11),
        ("shop.order.placed", 12),
        ("shop.order.placed", 13),
        ("shop.payment.received", 5),
        ("shop.payment.received", 9),
        ("shop.payment.received", 10),
        ("shop.refund.paid", 2),
    ]


@pytest.mark.parametrize(
    ("more", "line", "message"),
    [
        ("retenton: 7d\n", 8, "retenton is not a key: did you mean retention?"),
        ("owner: team-other\n", 8, "owner is given twice, first in line 2: keep one of them"),
        ("retention: 7\n", 8, "7 is not a duration: write a whole number and its unit"),
        ("record_bytes_max: 1MB\n", 8, "1MB is not a size"),
        ("record_bytes_max: 10B\n", 8, "record_bytes_max"),
        ("start: yesterday\n", 8, "write earliest, latest, or a time"),
        ("key: id\n", 8, "write record, subject, or a JSON pointer"),
        ("key: /a~2b\n", 8, "write record, subject, or a JSON pointer"),
        ("dedupe:\n", 8, "write off, or key and ttl"),
        ("dedupe: false\n", 8, "write off, or key and ttl"),
        ("dedupe:\n  ttl: 1d\n  key: []\n", 10, "dedupe.key"),
        ("ordering: {}\n", 8, "policy is missing in ordering: write for instance policy: key"),
        ("ordering: key\n", 8, "ordering has no keys: write {…} with policy, field"),
        (
            "ordering:\n  policy: fifo\n",
            9,
            "write 'none', 'key', 'monotonic', 'sequence' or 'transaction'",
        ),
        (
            "ordering: {policy: sequence,\n  start: -1}\n",
            9,
            "write first-seen",
        ),
        ("ordering: {policy: sequence,\n  field: Seq}\n", 9, "write a CloudEvents attribute"),
        ("ordering: {policy: monotonic,\n  gap_timeout: 1s}\n", 9, "write policy: sequence"),
        ("group: Orders\n", 8, "write lower-case letters"),
        ("metadata_ids: yes\n", 8, "metadata_ids"),
        ("replication: 3.0\n", 8, "replication"),
        ("dead_letters: {topic: edo.x.y}\n", 8, "names that begin with edo. are internal"),
        ("1: x\n", 8, "1 is not a key: known are name, owner"),
        ("retention: !!python/name:os.system\n", 8, "write a plain value"),
        ("a: &x 1\nb: *x\n", 9, "aliases"),
    ],
)
def test_mistake_says_what_to_write_instead(
    tmp_path: Path, more: str, line: int, message: str
) -> None:
    minimal(tmp_path, "shop.order.placed", more)

    found_line, found_message = only_finding(tmp_path)
    assert line == found_line
    assert message in found_message


@pytest.mark.parametrize(
    ("without", "message"),
    [
        ("owner: team-orders", "owner is missing: write for instance owner: team-orders"),
        ("partitions: 4", "partitions is missing: write for instance partitions: 4"),
        ("codec: cloudevents", "codec is missing: write for instance codec: cloudevents"),
    ],
)
def test_missing_key_is_reported_with_an_example(
    tmp_path: Path, without: str, message: str
) -> None:
    minimal(tmp_path, "shop.order.placed", without=without)

    assert (1, message) == only_finding(tmp_path)


@pytest.mark.parametrize("name", ["shop.order", "Shop.Order.Placed", "shop..placed", "edo.a.b"])
def test_name_must_be_domain_entity_and_event_type(tmp_path: Path, name: str) -> None:
    minimal(tmp_path, name)

    assert {1, 7} >= {line for _, line, _ in findings(tmp_path)}


@pytest.mark.parametrize("text", ["", "- a\n", "text\n", "a: 1\n---\nb: 2\n", "\tx: 1\n", "\x00"])
def test_file_that_is_no_contract_is_one_finding(tmp_path: Path, text: str) -> None:
    write(tmp_path, "shop.order.placed", text)

    assert len(findings(tmp_path)) == 1


def test_log_positions_cannot_be_contiguous(tmp_path: Path) -> None:
    minimal(
        tmp_path,
        "shop.public.orders",
        "ordering:\n  policy: sequence\n",
        without="codec: cloudevents",
    )
    file = tmp_path / "shop.public.orders" / "contract.yaml"
    file.write_text(file.read_text() + "codec: debezium\n")

    assert (only_finding(tmp_path)) == (
        8,
        "log positions grow but are not contiguous: write policy: monotonic",
    )


def test_unequal_partitions_of_a_group_name_both_files_whatever_else_is_wrong(
    tmp_path: Path,
) -> None:
    minimal(tmp_path, "shop.order.placed", "group: orders\n")
    minimal(tmp_path, "shop.payment.received", "group: orders\nkey: id\n", "partitions: 4")
    file = tmp_path / "shop.payment.received" / "contract.yaml"
    file.write_text(file.read_text() + "partitions: 8\n")

    (_, line, message), *others = sorted(findings(tmp_path), key=lambda item: -item[1])

    assert line == 9
    assert f"{tmp_path / 'shop.order.placed' / 'contract.yaml'}:5" in message
    assert len(others) == 1


def test_result_that_comes_in_again_is_a_cycle(tmp_path: Path) -> None:
    write(tmp_path, "shop.a.b", MINIMAL.format(name="shop.a.b").replace(".b.done", ".c"))
    write(tmp_path, "shop.a.c", MINIMAL.format(name="shop.a.c").replace(".c.done", ".b"))

    line, message = only_finding(tmp_path)
    assert line == 7
    assert "shop.a.b → shop.a.c → shop.a.b" in message


def test_result_may_be_the_source_of_another_contract(tmp_path: Path) -> None:
    write(tmp_path, "shop.a.b", MINIMAL.format(name="shop.a.b").replace(".b.done", ".c"))
    minimal(tmp_path, "shop.a.c")

    plan = {spec.name: spec for spec in load(tmp_path).topic_plan()}

    assert plan["shop.a.c"].role is Role.SOURCE


def test_topic_of_results_has_one_number_of_partitions(tmp_path: Path) -> None:
    write(
        tmp_path,
        "shop.a.b",
        MINIMAL.format(name="shop.a.b").replace(".b.done", ".c\n  partitions: 8"),
    )
    minimal(tmp_path, "shop.a.c")

    line, message = only_finding(tmp_path)
    assert line == 8
    assert "8 partitions here and 4" in message


def test_dead_letters_have_a_topic_of_their_own(tmp_path: Path) -> None:
    minimal(tmp_path, "shop.a.b", "dead_letters:\n  topic: shop.a.b.done\n")

    assert only_finding(tmp_path)[0] == 9


def test_missing_and_empty_folders_are_findings(tmp_path: Path) -> None:
    assert "no topics" in only_finding(tmp_path)[1]
    assert "no such folder" in only_finding(tmp_path / "none")[1]


def test_groups_are_sorted_topics_with_their_partitions(tmp_path: Path) -> None:
    minimal(tmp_path, "shop.payment.received", "group: orders\n")
    minimal(tmp_path, "shop.order.placed", "group: orders\n")
    minimal(tmp_path, "shop.visit.seen")

    expected = {
        "orders": Group("orders", ("shop.order.placed", "shop.payment.received"), 4),
        "shop.visit.seen": Group("shop.visit.seen", ("shop.visit.seen",), 4),
    }
    assert expected == load(tmp_path).groups


def test_plan_has_all_topics_with_room_for_headers_around_a_full_record(tmp_path: Path) -> None:
    minimal(tmp_path, "shop.order.placed", "group: orders\nretention: 1d\nreplication: 3\n")

    plan = {spec.name: spec for spec in load(tmp_path).topic_plan(internal_replication=3)}

    assert list(plan) == [
        "edo.accounts",
        "edo.control.orders",
        "edo.dead-letters.shop.order.placed",
        "edo.gaps",
        "shop.order.placed",
        "shop.order.placed.done",
    ]
    assert [spec.partitions for spec in plan.values()] == [8, 4, 4, 8, 4, 4]
    assert {spec.replication for spec in plan.values()} == {3}
    expected = {
        "cleanup.policy": "delete",
        "retention.ms": "86400000",
        "max.message.bytes": "1048576",
        "min.insync.replicas": "2",
    }
    assert expected == plan["shop.order.placed"].config
    for name in ("edo.dead-letters.shop.order.placed", "shop.order.placed.done"):
        assert plan[name].config["max.message.bytes"] == str(1_048_576 + 65_536)
    assert plan["edo.accounts"].config["retention.ms"] == str(14 * DAY_MS)


def test_topic_of_results_shared_by_contracts_has_room_for_the_largest(tmp_path: Path) -> None:
    for name, size in (("shop.a.b", "1MiB"), ("shop.a.c", "2MiB")):
        text = MINIMAL.format(name=name).replace(f"{name}.done", "shop.a.done")
        write(tmp_path, name, f"{text}record_bytes_max: {size}\n")

    plan = {spec.name: spec for spec in load(tmp_path).topic_plan()}

    assert plan["shop.a.done"].config["max.message.bytes"] == str((2 << 20) + 65_536)


def test_contracts_of_this_repository_load() -> None:
    registry = load(Path(__file__).parents[2] / "topics")

    assert registry.groups["orders"].topics == ("shop.order.placed", "shop.payment.received")
