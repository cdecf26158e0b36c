"""A contract that is published while a task runs: followed from one offset on, and kept."""

from typing import Any

import msgspec
import pytest

from edo_stream.core.event import Event, Ignored, Violation
from edo_stream.core.known_ids import IdsBudget
from edo_stream.core.lane import Source
from edo_stream.core.pipeline import Pipeline
from edo_stream.core.published import Origin
from edo_stream.core.record import Record
from tests.core.bench import (
    IDENTITY,
    INTERNAL,
    TOPIC,
    Bench,
    contract,
    decode,
    header,
    operation,
    record,
)

Decoded = Event | Violation | Ignored


def recompile(bundle: bytes) -> Any:
    """A contract of the tests: events of other types than the bundle says are refused."""
    wanted = bundle.decode()
    if wanted == "other partitions":
        raise ValueError("a change of partitions needs a restart of the workers")

    def judge(each: Record) -> Decoded:
        found = decode(each)
        is_wanted = not isinstance(found, Event) or found.type == wanted
        return found if is_wanted else Violation("schema", f"not {wanted}")

    return judge


class Followed(Bench):
    """A bench whose topic can follow published contracts."""

    version = 1

    def open(self) -> None:
        super().open()
        origin = Origin("files", self.version, recompile)
        sources = {each.topic: Source(each, decode, None, origin) for each in self.contracts}
        self.pipeline = Pipeline(IDENTITY, sources, self.state, self.ids, INTERNAL, IdsBudget())


def apply(offset: int, bundle: str, revision: str = "r1", version: int = 2) -> Any:
    return operation(
        offset,
        op="contract.apply",
        topic=TOPIC,
        key=TOPIC,
        revision=revision,
        version=version,
        bundle=bundle,
        id="x",
    )


@pytest.fixture
def bench() -> Followed:
    return Followed([contract()])


def test_a_task_follows_from_its_next_offset_on(bench: Followed) -> None:
    assert {TOPIC: ("files", 1, None)} == bench.pipeline.contracts()
    bench.feed(record(0, type="old"))
    bench.feed(apply(0, "new"))
    bench.feed(record(1, type="old"), record(2, type="new"))
    expected = [("emit", 0), ("done", 0), ("dead", 1, "schema"), ("emit", 2)]
    assert expected == bench.outputs()
    assert {TOPIC: ("r1", 2, 1)} == bench.pipeline.contracts()


def test_the_answer_names_revision_and_offset_and_not_the_contract(bench: Followed) -> None:
    bench.feed(record(0))
    bench.feed(apply(0, "new"))
    [notice] = [each for each in bench.published if each.topic == INTERNAL.gaps]
    told = msgspec.json.decode(notice.value or b"")
    assert ("r1", 2, 1, "x") == (told["revision"], told["version"], told["from"], told["id"])
    assert "bundle" not in told
    assert "edo.operation.done" == header(notice, "ce_type")


def test_whoever_takes_over_follows_as_well(bench: Followed) -> None:
    bench.feed(apply(0, "new"))
    bench.open()
    bench.feed(record(0, type="old"))
    assert ("dead", 0, "schema") == bench.outputs()[-1]
    assert {TOPIC: ("r1", 2, 0)} == bench.pipeline.contracts()


def test_what_was_not_committed_is_not_followed(bench: Followed) -> None:
    bench.step(apply(0, "new"))
    bench.pipeline.discard()
    bench.feed(record(0, type="old"))
    assert [("emit", 0)] == bench.outputs()
    assert {TOPIC: ("files", 1, None)} == bench.pipeline.contracts()


def test_an_aborted_change_leaves_the_one_before(bench: Followed) -> None:
    bench.feed(apply(0, "one"))
    bench.step(apply(1, "two", "r2"))
    bench.pipeline.discard()
    assert {TOPIC: ("r1", 2, 0)} == bench.pipeline.contracts()
    bench.feed(record(0, type="one"), record(1, type="two"))
    assert [("emit", 0), ("dead", 1, "schema")] == bench.outputs()[-2:]


def test_the_same_contract_again_changes_nothing(bench: Followed) -> None:
    bench.feed(apply(0, "new"))
    bench.feed(record(0, type="new"))
    bench.feed(apply(1, "new"))
    assert {TOPIC: ("r1", 2, 0)} == bench.pipeline.contracts()
    assert ("done", 1) == bench.outputs()[-1]


def test_what_needs_a_restart_is_refused_and_the_old_one_stays(bench: Followed) -> None:
    bench.feed(apply(0, "other partitions"))
    bench.feed(apply(1, "new", version=0))
    assert [("refused", 0), ("refused", 1)] == bench.outputs()
    assert {TOPIC: ("files", 1, None)} == bench.pipeline.contracts()


def test_a_request_without_its_parts_or_for_another_topic_is_refused(bench: Followed) -> None:
    bench.feed(operation(0, op="contract.apply", topic=TOPIC, key="k", revision="r"))
    wrong = {"revision": "r", "version": 1, "bundle": "b"}
    bench.feed(operation(1, op="contract.apply", topic="no.such.topic", key="k", **wrong))
    assert [("refused", 0), ("refused", 1)] == bench.outputs()


def test_files_of_a_newer_version_win_over_what_was_published(bench: Followed) -> None:
    bench.feed(apply(0, "new"))
    bench.version = 3
    bench.open()
    assert {TOPIC: ("files", 3, None)} == bench.pipeline.contracts()
