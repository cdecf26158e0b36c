"""A difference says what breaks, in which mode, and for whom."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from edo_stream.catalog.difference import Difference, TopicDifference, difference
from edo_stream.catalog.git import GitError, default_ref, tree_at
from edo_stream.catalog.lint import Before
from edo_stream.catalog.tree import read_tree
from tests.catalog.shelf import CLEAN, ORDER_V1, TODAY, WITH_SCHEMA, Shelf, order

BILLING = {"name": "billing", "owner": "team-billing", "versions": [1]}


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "topics")


def publish(shelf: Shelf) -> Before:
    """What is there now is what the rest is compared with."""
    return Before("main", read_tree(shelf.root))


def compared(shelf: Shelf, before: Before) -> Difference:
    return difference(read_tree(shelf.root), before, TODAY)


def only(shelf: Shelf, before: Before) -> TopicDifference:
    found = compared(shelf, before).topics
    assert len(found) == 1, found
    return found[0]


def closed(**properties: Any) -> dict[str, Any]:
    return {**ORDER_V1, "properties": {**ORDER_V1["properties"], **properties}}


def second_version(
    shelf: Shelf, schema: dict[str, Any], mode: str = "BACKWARD", **more: Any
) -> TopicDifference:
    shelf.add(WITH_SCHEMA | more, v1_schema_json=ORDER_V1, examples__v1_a_json=order())
    before = publish(shelf)
    versions = {1: {"note": "First."}, 2: {"note": "Second."}}
    declared = {"format": "json", "compatibility": mode, "versions": versions}
    shelf.add(CLEAN | {"schema": declared} | more, v2_schema_json=schema)
    return only(shelf, before)


def test_nothing_changed_is_no_difference(shelf: Shelf) -> None:
    shelf.add(CLEAN)

    assert () == compared(shelf, publish(shelf)).topics


@pytest.mark.parametrize(
    ("changes", "path", "words"),
    [
        ({"partitions": 8}, "partitions", "most keys move"),
        ({"partitions": 2}, "partitions", "cannot take partitions away"),
        ({"key": "subject"}, "key", "other partitions"),
        ({"dedupe": "off"}, "dedupe", "duplicates pass"),
        ({"dedupe": {"ttl": "1d"}}, "dedupe.ttl", "that come later pass"),
        ({"dedupe": {"key": ["id"]}}, "dedupe.key", "other events count"),
        ({"ordering": {"policy": "none"}}, "ordering.policy", "an order that could not be"),
        ({"retention": "1d"}, "retention", "deleted earlier"),
        ({"record_bytes_max": "64KiB"}, "record_bytes_max", "are refused"),
        ({"group": "orders"}, "group", "stays with the old group"),
        ({"emit": {"topic": "shop.order.taken"}}, "emit.topic", "where they look for them"),
        ({"producers": ["checkout"]}, "producers", "may no longer write"),
    ],
)
def test_change_of_a_contract_that_breaks_somebody(
    shelf: Shelf, changes: dict[str, Any], path: str, words: str
) -> None:
    shelf.add(CLEAN)
    before = publish(shelf)
    shelf.add(CLEAN | changes)

    found = {change.path: change.breaks for change in only(shelf, before).changes}
    assert words in (found[path] or "")


@pytest.mark.parametrize(
    "changes",
    [
        {"owner": "team-sales"},
        {"retention": "30d"},
        {"tags": ["sales"]},
        {"ordering": {"policy": "sequence"}},
        {"consumers": [{"name": "billing"}]},
        {"schema": WITH_SCHEMA["schema"]},
        {"slo": {"trigger_to_ready": "10s"}, "retry": {"retries": 2}},
    ],
)
def test_change_of_a_contract_that_breaks_nobody(shelf: Shelf, changes: dict[str, Any]) -> None:
    shelf.add(CLEAN)
    before = publish(shelf)
    shelf.add(CLEAN | changes)

    found = only(shelf, before)
    assert found.changes
    assert not found.is_breaking


def test_topic_that_is_no_longer_read_or_typed_breaks_its_readers(shelf: Shelf) -> None:
    shelf.add(WITH_SCHEMA)
    before = publish(shelf)
    shelf.add({name: value for name, value in CLEAN.items() if name != "emit"})

    found = {one.path: one.breaks for one in only(shelf, before).changes if one.breaks}
    assert {"emit.topic", "schema.format"} == set(found)


def test_optional_field_of_a_closed_schema_is_backward_and_not_forward(shelf: Shelf) -> None:
    found = second_version(shelf, closed(currency={"type": "string"}))

    modes = found.verdicts[0].modes
    assert {
        "BACKWARD": True,
        "BACKWARD_TRANSITIVE": True,
        "FORWARD": False,
        "FORWARD_TRANSITIVE": False,
        "FULL": False,
        "FULL_TRANSITIVE": False,
        "NONE": True,
    } == modes
    assert not found.is_breaking


def test_consumer_of_the_old_version_breaks_when_it_cannot_read_the_new_one(shelf: Shelf) -> None:
    found = second_version(shelf, closed(currency={"type": "string"}), consumers=[BILLING])

    assert [("billing", "team-billing")] == [(one.consumer, one.owner) for one in found.broken]
    assert "accepts 1, and none of them reads all of version 2" in found.broken[0].why
    assert found.is_breaking


def test_consumer_that_accepts_both_versions_does_not_break(shelf: Shelf) -> None:
    both = {**BILLING, "versions": [1, 2]}
    shelf.add(
        WITH_SCHEMA | {"consumers": [BILLING]},
        v1_schema_json=ORDER_V1,
        examples__v1_a_json=order(),
    )
    before = publish(shelf)
    versions = {1: {"note": "First."}, 2: {"note": "Second."}}
    declared = {"format": "json", "compatibility": "NONE", "versions": versions}
    shelf.add(
        CLEAN | {"schema": declared, "consumers": [both]},
        v2_schema_json=closed(currency={"type": "string"}),
    )

    assert () == only(shelf, before).broken


def test_required_field_is_not_backward_and_the_break_has_its_place(shelf: Shelf) -> None:
    schema = closed(currency={"type": "string"})
    schema["required"] = [*ORDER_V1["required"], "currency"]
    found = second_version(shelf, schema)

    verdict = found.verdicts[0]
    assert not verdict.is_allowed
    places = {
        (against, one.pointer) for against, one in verdict.breaks if one.direction == "backward"
    }
    assert {(1, "/required")} == places


def test_edited_version_is_refused_in_every_mode_and_its_breaks_are_listed(shelf: Shelf) -> None:
    declared = {**WITH_SCHEMA["schema"], "compatibility": "NONE"}
    shelf.add(CLEAN | {"schema": declared, "consumers": [BILLING]}, v1_schema_json=ORDER_V1)
    before = publish(shelf)
    shelf.put("shop.order.placed", v1_schema_json={**ORDER_V1, "required": ["order"]})

    verdict = only(shelf, before).verdicts[0]
    assert (1, True, False) == (verdict.version, verdict.is_edited, verdict.is_allowed)
    assert not verdict.modes["FORWARD"]
    assert ["billing"] == [one.consumer for one in only(shelf, before).broken]
    assert "v1.schema.json" in [file for file, _, _ in shelf.findings(before)]


def test_published_schema_that_is_gone_is_a_break_and_a_finding(shelf: Shelf) -> None:
    folder = shelf.add(WITH_SCHEMA, v1_schema_json=ORDER_V1)
    before = publish(shelf)
    (folder / "v1.schema.json").unlink()

    assert only(shelf, before).is_breaking
    assert "is in main and missing here" in shelf.findings(before)[-1][2]


def test_topic_may_be_removed_after_a_sunset_that_everybody_acknowledged(shelf: Shelf) -> None:
    sunset = {"since": "2026-01-31", "sunset": "2026-06-01", "acknowledged": ["billing"]}
    shelf.add(CLEAN | {"name": "shop.order.stayed", "emit": {"topic": "shop.a.b"}})
    shelf.add(CLEAN | {"deprecation": sunset, "consumers": [BILLING]})
    before = publish(shelf)
    (shelf.root / "shop.order.placed" / "contract.yaml").unlink()
    (shelf.root / "shop.order.placed").rmdir()

    assert ("removed", False) == (only(shelf, before).state, only(shelf, before).is_breaking)


def test_topic_that_is_removed_without_a_sunset_breaks_its_consumers(shelf: Shelf) -> None:
    shelf.add(CLEAN | {"name": "shop.order.stayed", "emit": {"topic": "shop.a.b"}})
    shelf.add(CLEAN | {"consumers": [{"name": "billing"}]})
    before = publish(shelf)
    (shelf.root / "shop.order.placed" / "contract.yaml").unlink()
    (shelf.root / "shop.order.placed").rmdir()

    assert ["billing"] == [one.consumer for one in only(shelf, before).broken]


def test_new_sunset_needs_the_acknowledgement_of_each_consumer(shelf: Shelf) -> None:
    consumers = [{"name": "billing"}, {"name": "mail"}]
    shelf.add(CLEAN | {"consumers": consumers})
    before = publish(shelf)
    sunset = {"since": "2026-01-31", "sunset": "2026-09-01", "acknowledged": ["mail"]}
    shelf.add(CLEAN | {"consumers": consumers, "deprecation": sunset})

    assert ("billing",) == only(shelf, before).missing


def git(root: Path, *arguments: str) -> None:
    name = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *name, *arguments], cwd=root, check=True, capture_output=True)


def test_commit_is_read_as_it_was_whatever_is_on_the_disk(shelf: Shelf, tmp_path: Path) -> None:
    folder = shelf.add(WITH_SCHEMA, v1_schema_json=ORDER_V1, examples__a_json=order())
    git(tmp_path, "init", "-q", "-b", "main")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "x")
    committed = (folder / "v1.schema.json").read_bytes()
    shelf.put("shop.order.placed", v1_schema_json={})

    tree = tree_at(shelf.root, "HEAD")

    assert "main" == default_ref(shelf.root)
    assert ["contract.yaml", "examples/a.json", "v1.schema.json"] == sorted(
        tree.files["shop.order.placed"]
    )
    assert committed == tree.files["shop.order.placed"]["v1.schema.json"]


def test_commit_that_does_not_exist_is_an_error(shelf: Shelf, tmp_path: Path) -> None:
    shelf.add(CLEAN)
    git(tmp_path, "init", "-q", "-b", "main")

    with pytest.raises(GitError, match="git knows no commit nowhere"):
        tree_at(shelf.root, "nowhere")
    assert default_ref(shelf.root) is None
