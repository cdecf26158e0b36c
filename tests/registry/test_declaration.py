"""What contracts say beyond the pipeline: who, what data, which promises; mistakes at any depth."""

from datetime import date
from pathlib import Path

import pytest

from edo_stream.registry import RegistryError, Role, load
from edo_stream.registry.mistakes import nearest
from edo_stream.registry.quantity import duration_ms, duration_text, size_text, time_ms, time_text

MINIMAL = """\
name: shop.order.placed
owner: team-orders
description: Something happened.
codec: cloudevents
partitions: 4
"""
EMIT = "emit: {topic: shop.order.accepted}\n"


def write(root: Path, more: str, text: str = MINIMAL, name: str = "shop.order.placed") -> None:
    (root / name).mkdir(exist_ok=True)
    (root / name / "contract.yaml").write_text(text + more, encoding="utf-8")


def findings(root: Path) -> list[tuple[int, str]]:
    with pytest.raises(RegistryError) as raised:
        load(root)
    return [(finding.line, finding.message) for finding in raised.value.findings]


def test_everything_is_read(tmp_path: Path) -> None:
    (tmp_path / "shop.order.placed").mkdir()
    for number in (1, 2):
        schema = tmp_path / "shop.order.placed" / f"v{number}.schema.json"
        schema.write_text('{"type": "object"}')
    write(
        tmp_path,
        EMIT
        + """\
kind: command
category: system
classification: restricted
tags: [a, b-c]
producers: [checkout, {name: app, source: /app, owner: team-app}]
consumers: [{name: billing, group: billing, versions: [1, v2], owner: team-billing}]
related: [shop.order.paid]
schema:
  format: json
  compatibility: FULL_TRANSITIVE
  versions:
    1: {note: First., deprecation: {since: 2026-01-31, sunset: 2026-03-01, acknowledged: [x]}}
    v2: {note: Second.}
  violations: {policy: warn, until: 2026-12-31}
fields: {/order/id: identifier, subject: {role: metadata, description: Its number.}}
cleanup: compact,delete
partition_key: /order/id
delivery: {produce: effectively-once, process: effectively-once}
retry: {initial: 2s, factor: 3, max: 1m, retries: 4, jitter: 0.1, total: 10m}
dead_letters: {owner: team-ops, acknowledge_within: 4h}
slo: {trigger_to_ready: 30s, percentile: 99.9}
rate: {expected: 10, peak: 20.5, burst: 100}
deprecation: {since: 2026-01-31, sunset: 2026-06-30, replacement: shop.order.submitted}
""",
    )

    declared = load(tmp_path).entries["shop.order.placed"].declaration
    assert [1, 2] == list(declared.versions)
    assert [1, 2] == declared.consumers[0].versions
    assert ("checkout", "/app") == (declared.producers[0].name, declared.producers[1].source)
    assert "identifier" == declared.fields["/order/id"].role
    assert declared.retry is not None
    assert (2_000, 6_000, 18_000, 54_000) == declared.retry.waits_ms
    assert "/order/id" == declared.record_key
    assert declared.deprecation is not None
    assert date(2026, 6, 30) == declared.deprecation.sunset


@pytest.mark.parametrize(
    ("more", "line", "message"),
    [
        ("kind: evnt\n", 6, "did you mean event?"),
        ("tags: [Shop]\n", 6, "write lower-case letters"),
        ("tags: shop\n", 6, "tags is 'shop': write a list"),
        ("consumers:\n  - {nam: x}\n", 7, "did you mean name?"),
        ("consumers:\n  - name: x\n    versions: [one]\n", 8, "one is not a version"),
        ("producers: [{}]\n", 6, "name is missing in producers.0"),
        ("schema: json\n", 6, "schema has no keys: write {…} with format, compatibility"),
        ("schema: {format: json}\n", 6, "versions is missing in schema"),
        ("schema:\n  format: jsn\n  versions: {1: {note: x}}\n", 7, "did you mean json?"),
        ("schema:\n  format: json\n  versions:\n    one: {note: x}\n", 9, "one is not a version"),
        ("schema:\n  format: json\n  versions:\n    1: {nte: x}\n", 9, "did you mean note?"),
        (
            "schema:\n  compatibility: backward\n  format: json\n  versions: {1: {note: x}}\n",
            7,
            "did you mean BACKWARD?",
        ),
        ("fields: {order: identifer}\n", 6, "did you mean identifier?"),
        ("fields: {/a~2: identifier}\n", 6, "is not a field"),
        ("delivery: {process: exactly-once}\n", 6, "did you mean effectively-once?"),
        ("retry: {retries: many}\n", 6, "write a number"),
        ("retry: on\n", 6, "write off, or a ladder"),
        ("retry: {initial: 0ms}\n", 6, "0ms is no time"),
        ("retry: {max: 0s}\n", 6, "0ms is no time"),
        ("slo: {percentile: 99}\n", 6, "trigger_to_ready is missing in slo: write for instance"),
        ("rate: {expected: 0}\n", 6, "rate.expected"),
        ("deprecation: {since: soon}\n", 6, "soon is not a date: write one such as 2026-01-31"),
        ("deprecation: {since: 2026-02-30}\n", 6, "is not a date"),
        ("dead_letters:\n  acknowledge_within: 1\n", 7, "is not a duration"),
        ("dead_letters:\n  acknowledge_within: 0s\n", 7, "0ms is no time"),
        ("retention: 0ms\n", 6, "0ms is no time"),
        ("retention: 36501d\n", 6, "longer than 36500d"),
        ("metadata_ids: 1\n", 6, "write true or false"),
        ("mapping: x\n", 6, "write keys and values"),
    ],
)
def test_mistake_at_any_depth_has_its_line_and_says_what_to_write(
    tmp_path: Path, more: str, line: int, message: str
) -> None:
    write(tmp_path, more)

    found = findings(tmp_path)
    assert [line] == [at for at, said in found if message in said], found


def test_topic_without_emit_is_catalogued_and_created_and_not_read(tmp_path: Path) -> None:
    write(tmp_path, EMIT)
    accepted = MINIMAL.replace("placed", "accepted")
    write(tmp_path, "cleanup: compact\n", accepted, "shop.order.accepted")

    registry = load(tmp_path)
    plan = {spec.name: spec for spec in registry.topic_plan()}
    assert ["shop.order.placed"] == list(registry.topics)
    assert ["shop.order.accepted", "shop.order.placed"] == list(registry.entries)
    assert ["shop.order.placed"] == list(registry.groups)
    assert Role.DECLARED is plan["shop.order.accepted"].role
    config = plan["shop.order.accepted"].config
    assert "compact" == config["cleanup.policy"]
    assert str(7 * 86_400_000) == config["delete.retention.ms"], "a reader may be away for a week"
    assert "delete.retention.ms" not in plan["shop.order.placed"].config


def test_topic_of_results_that_is_declared_has_its_own_partitions(tmp_path: Path) -> None:
    write(tmp_path, EMIT)
    accepted = MINIMAL.replace("placed", "accepted").replace("partitions: 4", "partitions: 8")
    write(tmp_path, "", accepted, "shop.order.accepted")

    assert "4 partitions here and 8" in findings(tmp_path)[0][1]


def test_ladder_becomes_a_topic_for_each_wait(tmp_path: Path) -> None:
    write(tmp_path, EMIT + "group: orders\nretry: {initial: 10s, retries: 5}\n")

    names = [spec.name for spec in load(tmp_path).topic_plan() if ".retry." in spec.name]
    assert ["edo.retry.orders.10s", "edo.retry.orders.20s", "edo.retry.orders.30s"] == names


@pytest.mark.parametrize("text", ["250ms", "30s", "5m", "12h", "7d", "90s", "0ms"])
def test_duration_is_written_as_it_is_read(text: str) -> None:
    assert text == duration_text(duration_ms(text))


def test_size_and_time_are_written_as_they_are_read() -> None:
    assert ("64KiB", "1MiB", "1500B") == (size_text(65_536), size_text(1 << 20), size_text(1_500))
    for text in ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00.250Z"):
        assert text == time_text(time_ms(text))


def test_deeply_nested_file_is_a_finding_and_not_the_end(tmp_path: Path) -> None:
    write(tmp_path, "x: " + "[" * 100_000)

    assert 1 == len(findings(tmp_path))


def test_what_is_not_known_is_told_with_what_is() -> None:
    assert "did you mean order?" == nearest("ordr", ["order", "payment"])
    assert "known are order, payment" == nearest("x", ["order", "payment"])
    assert "there are none" == nearest("order", [])
