"""A task that correlates, on a bench: fed and read by short calls, crashed and restored at will."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from edo_stream.core.correlation.joined import Joined, encode_joined
from edo_stream.core.correlation.pipeline import JoinPipeline
from edo_stream.core.correlation.spec import Correlation, JoinSpec, Kind, Target
from edo_stream.core.effects import Effects
from edo_stream.core.record import Batch, Record, StoredRecord
from edo_stream.core.state import Table
from edo_stream.core.task import InternalTopics, TaskIdentity
from tests.core.one_state import NOW_MS, OneState

JOINS = "edo.joins.g"
CONTROL = "edo.control.g"
INTERNAL = InternalTopics("edo.accounts", 1, "edo.gaps", 1, CONTROL)
IDENTITY = TaskIdentity("app", "g", 0)
RESULTS = "shop.order.ready"


def correlation(kind: Kind, inputs: Iterable[str], **rest: Any) -> Correlation:
    """A correlation with the values that a test does not care about."""
    parts: dict[str, Any] = {
        "flow": "f",
        "owner": "team",
        "target": Target(RESULTS, 1, RESULTS),
        "outcomes": "edo.outcomes.f",
        "dead_letters": "edo.dead-letters.f",
        "partitions": 1,
        "within_ms": 10_000,
    }
    return Correlation(kind=kind, inputs=tuple(inputs), **{**parts, **rest})


def event(offset: int, name: str, at_ms: int, key: str = "k", **parts: Any) -> StoredRecord:
    """A record of the joins' topic; its event's id is ``e`` and the offset."""
    flow = parts.pop("flow", "f")
    data = parts.pop("data", {"n": offset})
    joined = Joined(
        flow=flow,
        input=name,
        id=f"e{offset}",
        source="/shop",
        type=f"shop.{name}",
        position=parts.pop("position", f"shop.{name}/0/{offset}"),
        data=msgspec.json.encode(data),
        is_json=True,
        **parts,
    )
    return StoredRecord(JOINS, 0, offset, at_ms, key.encode(), encode_joined(joined))


def request(offset: int, op: str, key: str = "k", flow: str = "f") -> StoredRecord:
    """An operator's request."""
    value = msgspec.json.encode({"op": op, "flow": flow, "key": key})
    return StoredRecord(CONTROL, 0, offset, NOW_MS, key.encode(), value)


@dataclass
class Bench(OneState[JoinPipeline]):
    """One task; every step is committed unless said otherwise."""

    correlations: list[Correlation]

    def __post_init__(self) -> None:
        self.spec = JoinSpec(JOINS, 1, {each.flow: each for each in self.correlations})
        self.open()

    def pipeline_over(self, state: Table) -> JoinPipeline:
        letters = "edo.dead-letters.g"
        return JoinPipeline(IDENTITY, self.spec, letters, state, INTERNAL)

    def step(self, *records: Record, now_ms: int = NOW_MS, caught_up_ms: int = 0) -> Effects:
        """Step without a commit, and unless told otherwise without timers."""
        batches = [
            Batch(topic, 0, of_topic)
            for topic in (CONTROL, JOINS)
            if (of_topic := [each for each in records if each.topic == topic])
        ]
        return self.pipeline.step(batches, now_ms, caught_up_ms)

    def results(self, *topics: str) -> list[dict[str, Any]]:
        """Data of what was published to the topics; by default of results and failures."""
        wanted = topics or (RESULTS, "edo.outcomes.f")
        return [
            msgspec.json.decode(each.value or b"")
            for each in self.published
            if each.topic in wanted
        ]

    def letters(self) -> list[tuple[str, str]]:
        """Ids and reasons of the dead letters."""
        found = [
            {name: (value or b"").decode() for name, value in each.headers}
            for each in self.published
            if each.topic == "edo.dead-letters.f"
        ]
        return [(headers["ce_id"], headers["edo-reason"]) for headers in found]

    def fates(self) -> dict[int, str]:
        """Last known fate of each offset; a held event settles at most once."""
        fates: dict[int, str] = {}
        for account in self.accounts:
            if account.topic != JOINS:
                continue
            for run in account.settled:
                for offset in range(run.offset, run.offset + run.length):
                    assert fates[offset] == "h", f"{offset} ended as {fates[offset]} before"
                    assert run.fate != "h", f"{offset} was held already"
                    fates[offset] = run.fate
            for run in account.runs:
                for offset in range(run.offset, run.offset + run.length):
                    assert offset not in fates
                    fates[offset] = run.fate
        return fates


def short(result: dict[str, Any]) -> tuple[Any, ...]:
    """What a test compares of a result: why it came, by what, and of which events."""
    inputs = {
        name: [one["id"] for one in part] if isinstance(part, list) else part["id"]
        for name, part in result["inputs"].items()
    }
    return (
        result["key"],
        result["firing"],
        result["reason"],
        result["completed_by"],
        result["completed_by_id"],
        inputs,
    )
