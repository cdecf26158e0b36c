"""Where a task goes on in its sources: what its state says, held against the group and the log."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from aiokafka import TopicPartition

from edo_stream.engine.ports import Intake
from edo_stream.engine.task_spec import TaskSpec

#: How often, and how far apart, the group's offsets are asked for until they agree.
_AGREEMENT_TRIES = 5
_AGREEMENT_PAUSE_S = 0.5


class RefusedError(Exception):
    """The task cannot go on without losing or repeating records; says what to do."""


class Standing(NamedTuple):
    """Where a source stands."""

    partition: TopicPartition
    end: int
    """Of its log."""
    begin: int | None = None
    """Where to begin, or to go on behind what is gone; ``None``: where the state says."""
    lost: tuple[int, int] | None = None
    """Offsets, first and next, that were deleted before they were read."""


class Positions:
    """Finds them for one task; ``changelog`` is named to who has to begin anew."""

    def __init__(self, spec: TaskSpec, intake: Intake, changelog: str) -> None:
        self._spec = spec
        self._intake = intake
        self._changelog = changelog

    async def find(
        self, partitions: Sequence[TopicPartition], state: Mapping[str, int]
    ) -> list[Standing]:
        """Hold the state's next offsets, by topic, against group and log.

        Raises:
            RefusedError: they contradict each other, or records are gone that nobody gave up.
        """
        stored = [state.get(partition.topic) for partition in partitions]
        committed = await self._committed(partitions, stored)
        bounds = await self._intake.log_bounds(partitions)
        found = []
        for partition, known, group_offset, (first, end) in zip(
            partitions, stored, committed, bounds, strict=True
        ):
            self._check_agreement(partition, known, group_offset, end)
            if known is None:
                begin = await self._first_offset(partition, first, end)
                found.append(Standing(partition, end, begin))
            elif known < first:
                self._check_accepted(partition, known, first)
                found.append(Standing(partition, end, first, lost=(known, first)))
            else:
                found.append(Standing(partition, end))
        return found

    async def _committed(
        self, partitions: Sequence[TopicPartition], stored: Sequence[int | None]
    ) -> list[int | None]:
        """The group's offsets; asked again while they differ from the state.

        The state is read up to the last transaction. The same transaction's offsets may follow a
        moment later: the group's coordinator applies its marker on its own.
        """
        for _ in range(_AGREEMENT_TRIES):
            committed = await self._intake.committed(partitions)
            if all(
                offset in (None, known) for offset, known in zip(committed, stored, strict=True)
            ):
                return committed
            await asyncio.sleep(_AGREEMENT_PAUSE_S)
        return await self._intake.committed(partitions)

    def _check_agreement(
        self, partition: TopicPartition, stored: int | None, group_offset: int | None, end: int
    ) -> None:
        # A group that was empty for long has lost its offsets (``offsets.retention.minutes``):
        # the state knows better, and its next transaction tells the group.
        if group_offset is not None and stored != group_offset:
            raise RefusedError(
                f"{partition.topic}-{partition.partition}: the consumer group "
                f"'{self._spec.app}' stands at {_or_none(group_offset)} but the state was written "
                f"at {_or_none(stored)}. Both move in one transaction, so one of them was changed "
                "from outside (offsets reset, changelog topics deleted). Set the group's offset "
                "back to the state's; or, to begin anew, stop all workers and delete the group, "
                f"the changelog topics '{self._changelog}' … and the data "
                "directories of all workers (EDO_DATA)"
            )
        if stored is not None and stored > end:
            raise RefusedError(
                f"{partition.topic}-{partition.partition}: the next offset is {stored} but the "
                f"log ends at {end}: the topic was deleted and created anew. Restore the topic; "
                "or, to begin anew, stop all workers and delete the group, its changelog topics "
                "and the data directories of all workers (EDO_DATA)"
            )

    def _check_accepted(self, partition: TopicPartition, stored: int, first: int) -> None:
        if (*partition, stored, first) not in self._spec.accepted_losses:
            loss = f"{partition.topic}:{partition.partition}:{stored}-{first}"
            raise RefusedError(
                f"{partition.topic}-{partition.partition}: offsets {stored} to {first - 1} were "
                f"deleted from the log before they were read ({first - stored} offsets). To go "
                f"on without them, start the worker with EDO_ACCEPT_LOSS={loss}; they are then "
                "counted as lost"
            )

    async def _first_offset(self, partition: TopicPartition, first: int, end: int) -> int:
        start = self._spec.sources[partition.topic]
        if start.latest:
            return end
        if start.at_ms is None:
            return first
        at = await self._intake.offset_at(partition, start.at_ms)
        return end if at is None else at


def _or_none(offset: int | None) -> str:
    return "no offset" if offset is None else f"offset {offset}"
