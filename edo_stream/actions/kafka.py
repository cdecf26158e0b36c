"""A record on a topic, written in the transaction that records the command's end: exactly once."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from edo_stream.actions.template import Template, UnfilledError, values_of
from edo_stream.core.act.command import Command
from edo_stream.core.act.outcome import Done, Failed, FailureClass, Outcome
from edo_stream.core.effects import Publish
from edo_stream.core.event import derive_id
from edo_stream.core.headers import SPECVERSION, Header, utf8
from edo_stream.core.partitioner import partition_of

#: Of a batch that holds one record.
_FRAME_BYTES: Final = 256


@dataclass(frozen=True, slots=True)
class RecordPlan:
    """What to write, and where to."""

    topic: str
    partitions: int
    type: str
    """CloudEvents type of the record."""
    source: str
    key: Template | None = None
    """``None``: the command's own key."""
    value: Template | None = None
    """``None``: the event's data as it is."""
    headers: Mapping[str, Template] = field(default_factory=dict)
    bytes_max: int = 1_000_000
    """Of a record of the topic: a larger one would keep the whole transaction from its commit."""


class RecordExecutor:
    """Writes a record for each command; nothing is called, the engine writes it."""

    def __init__(self, plan: RecordPlan) -> None:
        self._plan = plan

    async def __call__(self, command: Command) -> Outcome:
        """Make the record."""
        plan, values = self._plan, values_of(command)
        try:
            key = command.key if plan.key is None else plan.key.fill(values).encode()
            value = command.data if plan.value is None else plan.value.fill(values).encode()
            own = [(name, utf8(template.fill(values))) for name, template in plan.headers.items()]
        except UnfilledError as error:
            return Failed(FailureClass.POISON, "template", str(error))
        headers: list[Header] = [
            SPECVERSION,
            ("ce_id", utf8(derive_id("record", plan.topic, command.flow, command.id))),
            ("ce_source", utf8(plan.source)),
            ("ce_type", utf8(plan.type)),
            ("ce_correlationid", utf8(command.correlation_id or command.id)),
            ("ce_causationid", utf8(command.id)),
            ("content-type", utf8(values["headers"].get("content-type") or "application/json")),
            *own,
        ]
        size = len(key) + len(value or b"") + _FRAME_BYTES
        size += sum(len(name) + len(said or b"") for name, said in headers)
        if size > plan.bytes_max:
            detail = f"expected at most {plan.bytes_max} bytes, found {size}"
            return Failed(FailureClass.POISON, "record-too-large", detail)
        partition = partition_of(key, plan.partitions)
        # The time is that of the transaction, which the core knows.
        return Done(records=(Publish(plan.topic, partition, key, value, headers, -1),))
