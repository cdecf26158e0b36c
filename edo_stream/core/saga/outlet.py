"""What a saga's changes mean outside: an event each, and a command where one says so.

A command's data is JSON: ``saga``, ``version``, ``instance``, ``key``, ``step``, ``attempt``,
``event`` (the data of the event that started the instance), ``results`` (by step, of those that
were done), and for a compensation ``result``, what the step itself returned.
"""

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from edo_stream.core.effects import Publish
from edo_stream.core.event import derive_id
from edo_stream.core.headers import JSON_CONTENT, SPECVERSION, Header, time_text, utf8
from edo_stream.core.notices import key_json, key_text
from edo_stream.core.saga.changes import NAMES, Change, StepSent, UndoSent
from edo_stream.core.saga.definition import SagaDefinition, SagaSpec
from edo_stream.core.saga.instance import InstanceRow
from edo_stream.core.task import Step, TaskIdentity

_UNDO: Final = "undo"


class SagaOutlet:
    """Builds the records of one task; each is derived from its instance alone."""

    def __init__(self, identity: TaskIdentity, step: Step) -> None:
        self._identity = identity
        self._step = step
        self._source = ("ce_source", utf8(f"/edo/{identity.app}"))

    def publish(
        self,
        spec: SagaSpec,
        definition: SagaDefinition,
        row: InstanceRow,
        changes: Iterable[Change],
    ) -> None:
        """Publish changes of an instance, which are in its row already."""
        told = list(changes)
        number = row.changes - len(told)
        for change in told:
            number += 1
            self._tell(spec, row, change, number)
            if isinstance(change, StepSent | UndoSent) and change.command:
                self._command(spec, definition, row, change)

    def _tell(self, spec: SagaSpec, row: InstanceRow, change: Change, number: int) -> None:
        name = NAMES[type(change)]
        headers = [
            *self._headers(
                derive_id("saga-change", self._identity.app, row.id, str(number)),
                f"edo.saga.{name}",
                row,
            ),
            ("ce_sequence", b"%d" % number),
        ]
        data = {
            **_place(row),
            "change": name,
            "number": number,
            "at": self._step.now_ms,
            **_fields(change),
        }
        self._publish(spec.topics.events, row, data, headers)

    def _command(
        self,
        spec: SagaSpec,
        definition: SagaDefinition,
        row: InstanceRow,
        change: StepSent | UndoSent,
    ) -> None:
        step = definition.by_name[change.step]
        is_undo = isinstance(change, UndoSent)
        flow = step.undo if is_undo else step.flow
        assert flow is not None, f"{step.name} has no command"
        data: dict[str, Any] = {
            **_place(row),
            "step": step.name,
            "attempt": change.attempt,
            "event": msgspec.Raw(row.event),
            "results": {
                name: msgspec.Raw(state.result)
                for name, state in row.steps.items()
                if state.was_done
            },
        }
        kind = f"edo.saga.{spec.name}.{step.name}"
        if is_undo:
            kind += f".{_UNDO}"
            data["result"] = msgspec.Raw(row.steps[step.name].result)
        headers = [*self._headers(change.command, kind, row), ("edo-flow", utf8(flow))]
        self._publish(spec.commands[flow], row, data, headers)

    def _headers(self, record_id: str, kind: str, row: InstanceRow) -> list[Header]:
        return [
            SPECVERSION,
            ("ce_id", record_id.encode()),
            self._source,
            ("ce_type", utf8(kind)),
            ("ce_subject", utf8(key_text(row.key))),
            ("ce_time", time_text(self._step.now_ms)),
            ("ce_correlationid", utf8(row.correlation_id)),
            ("ce_causationid", utf8(row.id)),
            JSON_CONTENT,
        ]

    def _publish(
        self, topic: str, row: InstanceRow, data: dict[str, Any], headers: list[Header]
    ) -> None:
        value = msgspec.json.encode(data)
        now_ms = self._step.now_ms
        record = Publish(topic, self._identity.partition, row.key, value, headers, now_ms)
        self._step.publish.append(record)


def _place(row: InstanceRow) -> dict[str, Any]:
    return {
        "saga": row.saga,
        "version": row.version,
        "instance": row.id,
        "key": key_json(row.key),
    }


def _fields(change: Change) -> dict[str, Any]:
    names = zip(change.__struct_fields__, change.__struct_encode_fields__, strict=True)
    return {encoded: getattr(change, name) for name, encoded in names}
