"""Read the topics of an audit, as a consistent cut, while workers go on writing them.

Order of reading, and why. A transaction becomes visible in one partition after the other, so
no moment shows it everywhere. Three steps make up for it:

1. The group's committed offsets; then the ends of the accounts. Every transaction that moved an
   offset has its account before that end. Only offsets below the committed ones are judged.
2. Wait until the transactions open at that end are decided; then the ends of results and dead
   letters. So those of every account read so far (the *firm* ones) lie before these ends.
3. Wait until the transactions open there are decided; then the ends of the accounts once more.
   So every result read has its account, even if it is one whose other results were not read: a
   *tentative* one, which explains a result and does not ask for one.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from math import inf
from typing import Any, Final, NamedTuple, cast

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    NotCoordinatorForGroupError,
)
from aiokafka.structs import ConsumerRecord

from edo_stream.core.contract import Contract
from edo_stream.core.saga.definition import SagaSpec
from edo_stream.flows import ActGroup
from edo_stream.flows.correlation import JoinGroup
from edo_stream.observe.audit.application import Audit, Internal
from edo_stream.observe.audit.evidence import Bounds, Closing
from edo_stream.observe.audit.report import Findings, Place, Problem, Report
from edo_stream.observe.audit.sagas import SagaAudit
from edo_stream.observe.audit.waits import part_of

#: How a tier's topic ends.
_DELAY: Final = re.compile(r"\d+[a-z]+")
_FETCH_BYTES: Final = 4 << 20
#: Unpacked records take ten times the memory of the fetched bytes.
_RECORDS_AT_A_TIME: Final = 2_000
_DECIDED_WITHIN_S: Final = 120.0
_DECIDED_POLL_S: Final = 0.1
_COORDINATED_WITHIN_S: Final = 30.0
_COORDINATOR_ERRORS: Final = (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    NotCoordinatorForGroupError,
)

Offsets = dict[TopicPartition, int]


class UndecidedError(Exception):
    """A transaction stays open for so long that the topics show no consistent state."""


class Progress(NamedTuple):
    """How far the reading is."""

    what: str
    done: int
    total: int
    """In offsets; some of them hold no record."""


class AuditSpec(NamedTuple):
    """What is audited."""

    app: str
    """Application id, which is the consumer group too."""
    contracts: Sequence[Contract]
    control_topics: Sequence[str]
    """Sources as well, of operators' requests; they have neither results nor dead letters."""
    accounts_topic: str
    findings_max: int = 100
    groups: Sequence[ActGroup] = ()
    """Groups of flows; their control topics are among ``control_topics``."""
    joins: Sequence[JoinGroup] = ()
    """Groups of flows that wait, likewise."""
    accounted: Sequence[str] = ()
    """Internal topics whose records need no trace but their account."""
    sagas: Sequence[SagaSpec] = ()
    """Their topics of starts, outcomes and dead letters are among ``accounted``."""


async def audit_topics(
    spec: AuditSpec, broker: Mapping[str, Any], on_progress: Callable[[Progress], None]
) -> Report:
    """Audit the sources of an application up to the offsets that its group has committed.

    ``broker`` is what a client needs to connect: ``bootstrap_servers`` and its security.
    Memory: five bytes an offset that the sources' logs span, 100 a record that was held, and 800 a
    command that was retried.

    Raises:
        UndecidedError: A transaction stays open for two minutes.
        KafkaError: The broker cannot be reached.
    """
    admin = AIOKafkaAdminClient(**broker)
    reader = _consumer(broker, "read_committed")
    # Sees what transactions have written before they are decided.
    open_reader = _consumer(broker, "read_uncommitted")
    clients = (admin, reader, open_reader)
    try:
        for client in clients:
            await client.start()
        return await _Reading(spec, admin, reader, open_reader, on_progress).run()
    finally:
        await admin.close()
        await reader.stop()
        await open_reader.stop()


def _consumer(broker: Mapping[str, Any], isolation: str) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(
        **broker,
        isolation_level=isolation,
        enable_auto_commit=False,
        # Where retention overtakes the audit, it goes on behind.
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=_FETCH_BYTES,
        fetch_max_bytes=4 * _FETCH_BYTES,
    )


class _Reading:
    """One audit; its methods come in the order of the steps."""

    def __init__(
        self,
        spec: AuditSpec,
        admin: AIOKafkaAdminClient,
        reader: AIOKafkaConsumer,
        open_reader: AIOKafkaConsumer,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._spec = spec
        self._admin = admin
        self._reader = reader
        self._open_reader = open_reader
        self._on_progress = on_progress

    async def run(self) -> Report:  # noqa: PLR0915 - the steps, in their order
        contracts, groups = self._spec.contracts, self._spec.groups
        policies = [policy for group in groups for policy in group.spec.flows.values()]
        flows = {policy.flow: policy.commands for policy in policies}
        self._tiers = await self._all_tiers()
        topics = [*(one.topic for one in contracts), *self._spec.control_topics]
        topics += [*flows.values(), *self._tiers, *self._spec.accounted]
        waits = {group.spec.topic: group.spec.correlations for group in self._spec.joins}
        topics += waits
        self._waits = frozenset(waits)
        correlations = [one for found in waits.values() for one in found.values()]
        self._joins_of: dict[str, set[str]] = {}
        for group in self._spec.joins:
            self._joins_of.setdefault(group.dead_letters, set()).add(group.spec.topic)
        for topic, found in waits.items():
            for one in found.values():
                for told in (one.target.topic, one.outcomes, one.dead_letters):
                    self._joins_of.setdefault(told, set()).add(topic)
        self._told_of: dict[str, list[str]] = {}
        for policy in policies:
            # Steps of a saga share both.
            self._told_of.setdefault(policy.outcomes, []).append(policy.commands)
            self._told_of.setdefault(policy.dead_letters, []).append(policy.commands)
        self._told_of |= {tier: list(flows.values()) for tier in self._tiers}
        findings = Findings(self._spec.findings_max)
        parts = {one.flow: part_of(one) for one in correlations}
        internal = Internal(waits, self._spec.accounted, parts)
        self._audit = Audit(self._spec.app, topics, findings, flows, self._tiers, internal)
        sagas = {saga.name: saga for saga in self._spec.sagas}
        self._starts = {saga.topics.starts for saga in sagas.values()}
        self._steps = {topic for saga in sagas.values() for topic in saga.commands.values()}
        self._sagas = SagaAudit(self._spec.app, sagas.values(), findings)
        changes = await self._partitions([saga.topics.events for saga in sagas.values()])
        sources = await self._partitions(topics)
        results = await self._partitions([one.emit for one in contracts])
        letters = await self._partitions([one.dead_letters for one in contracts])
        outcomes = await self._partitions(
            [
                *(one.outcomes for one in policies),
                *(one.outcomes for one in correlations),
            ]
        )
        firings = await self._partitions([one.target.topic for one in correlations])
        given_up = await self._partitions(
            {policy.dead_letters for policy in policies}
            | {one.dead_letters for one in correlations}
            | {group.dead_letters for group in self._spec.joins}
            | {group.spec.dead_letters for group in groups}
        )
        accounts = await self._partitions([self._spec.accounts_topic])
        steps = {place for place in sources if place.topic in self._steps}
        committed = await self._committed()
        # A change of a saga is like an account: it tells what was written with it.
        firm_ends = await self._decided_ends(accounts | changes)
        output_ends = await self._decided_ends(
            {*results, *letters, *outcomes, *given_up, *firings, *steps}
        )
        account_ends = await self._decided_ends(accounts | changes)
        await self._begin_sources(sources, committed)
        await self._read_accounts(accounts, firm_ends, account_ends)
        await self._read_sources(sources)
        await self._read_results(results, output_ends)
        await self._read_dead_letters(letters, output_ends)
        await self._read_ends("outcomes", outcomes, output_ends)
        await self._read_ends("dead letters of flows", given_up, output_ends)
        await self._read_firings(firings, output_ends)
        await self._read_sagas(changes, firm_ends, account_ends)
        deleted_ms = await self._read_steps(steps, output_ends)
        account_firsts = await self._firsts(accounts)
        emitted = self._audit.emitted(self._starts_read)
        instances = self._sagas.conclude(emitted, deleted_ms)
        return self._audit.conclude(
            await self._closings(sources),
            has_all_accounts=not any(account_firsts.values()),
            sagas=instances,
        )

    async def _all_tiers(self) -> list[str]:
        """Topics of retries; a ladder of before may have left commands on others than today's."""
        tiers = [topic for group in self._spec.groups for topic in group.spec.tiers.values()]
        prefixes = {topic.rpartition(".")[0] for topic in tiers}
        found = await self._admin.list_topics() if tiers else ()
        self._abandoned = {
            topic
            for topic in set(found) - set(tiers)
            if topic.rpartition(".")[0] in prefixes and _DELAY.fullmatch(topic.rpartition(".")[2])
        }
        return [*tiers, *sorted(self._abandoned)]

    async def _closings(
        self, sources: Collection[TopicPartition]
    ) -> Mapping[tuple[str, int], Closing]:
        firsts = await self._firsts(sources)
        committed = await self._committed()
        return {
            place: Closing(
                firsts[place],
                _offset(committed, place) is not None or place.topic in self._abandoned,
            )
            for place in sources
        }

    async def _committed(self) -> Mapping[TopicPartition, Any]:
        """Offsets of the group; a coordinator that is moving or new is waited for."""
        deadline_s = asyncio.get_running_loop().time() + _COORDINATED_WITHIN_S
        while True:
            try:
                found = await self._admin.list_consumer_group_offsets(self._spec.app)
            except _COORDINATOR_ERRORS:
                if asyncio.get_running_loop().time() > deadline_s:
                    raise
                await asyncio.sleep(_DECIDED_POLL_S)
            else:
                return cast("Mapping[TopicPartition, Any]", found)

    async def _partitions(self, topics: Collection[str]) -> set[TopicPartition]:
        # Asking for a topic that does not exist might create it.
        existing = set(await self._admin.list_topics())
        for topic in set(topics) - existing:
            self._audit.find(Problem.TOPIC_MISSING, Place(topic, 0, 0))
        wanted = sorted(set(topics) & existing)
        described = await self._admin.describe_topics(wanted) if wanted else []
        return {
            TopicPartition(topic["topic"], partition["partition"])
            for topic in described
            for partition in topic["partitions"]
        }

    async def _decided_ends(self, partitions: Collection[TopicPartition]) -> Offsets:
        """Ends of now, once no transaction that has written before them is open."""
        if not partitions:
            return {}
        ends: Offsets = await self._open_reader.end_offsets(list(partitions))
        try:
            async with asyncio.timeout(_DECIDED_WITHIN_S):
                while stuck := await self._undecided(ends):
                    self._on_progress(Progress("waiting for open transactions", 0, len(stuck)))
                    await asyncio.sleep(_DECIDED_POLL_S)
        except TimeoutError as error:
            names = ", ".join(f"{topic}-{partition}" for topic, partition in sorted(ends))
            raise UndecidedError(
                f"a transaction has been open for {_DECIDED_WITHIN_S:.0f} s on one of {names}"
            ) from error
        return ends

    async def _undecided(self, ends: Offsets) -> list[TopicPartition]:
        stable: Offsets = await self._reader.end_offsets(list(ends))
        return [partition for partition, end in ends.items() if stable[partition] < end]

    async def _firsts(self, partitions: Collection[TopicPartition]) -> Offsets:
        if not partitions:
            return {}
        firsts: Offsets = await self._reader.beginning_offsets(list(partitions))
        return firsts

    async def _begin_sources(
        self, sources: Collection[TopicPartition], committed: Mapping[TopicPartition, Any]
    ) -> None:
        self._source_ends: Offsets = {}
        if not sources:
            return
        firsts = await self._firsts(sources)
        ends = await self._open_reader.end_offsets(list(sources))
        self._source_ends = await self._reader.end_offsets(list(sources))
        for place in sources:
            bounds = Bounds(firsts[place], _offset(committed, place), ends[place])
            self._audit.source(place.topic, place.partition, bounds)

    async def _read_accounts(
        self, partitions: Collection[TopicPartition], firm_ends: Offsets, ends: Offsets
    ) -> None:
        async for (topic, number), records in self._records("accounts", partitions, ends):
            firm_end = firm_ends[TopicPartition(topic, number)]
            for record in records:
                at = Place(topic, number, record.offset)
                self._audit.account(record.value, at, record.offset < firm_end)

    async def _read_sources(self, partitions: Collection[TopicPartition]) -> None:
        first_ms: dict[TopicPartition, int] = {}
        self._starts_read: list[Place] = []
        async for place, records in self._records("sources", partitions, self._source_ends):
            topic, number = place
            self._audit.records(topic, number, [record.offset for record in records])
            if topic in self._waits:
                for record in records:
                    self._audit.joined(Place(topic, number, record.offset), record.value)
            if topic in self._starts:
                for record in records:
                    at = Place(topic, number, record.offset)
                    self._starts_read.append(at)
                    self._sagas.start(record.headers, at)
            if topic in self._tiers:
                first_ms.setdefault(place, records[0].timestamp)
                for record in records:
                    at = Place(topic, number, record.offset)
                    self._audit.retries(at, record.timestamp, record.headers)
        tiers = [place for place in partitions if place.topic in self._tiers]
        await self._note_deleted(Problem.MISSING_RETRY, tiers, first_ms)

    async def _read_ends(
        self, what: str, partitions: Collection[TopicPartition], ends: Offsets
    ) -> None:
        """Read what tells of commands' ends: outcomes, or dead letters."""
        is_outcome = what == "outcomes"
        take = self._audit.outcome if is_outcome else self._audit.command_letter
        first_ms: dict[TopicPartition, int] = {}
        async for place, records in self._records(what, partitions, ends):
            first_ms.setdefault(place, records[0].timestamp)
            for record in records:
                take(record.headers, Place(place.topic, place.partition, record.offset))
        problem = Problem.MISSING_OUTCOME if is_outcome else Problem.MISSING_DEAD_LETTER
        await self._note_deleted(problem, partitions, first_ms)

    async def _read_sagas(
        self, partitions: Collection[TopicPartition], firm_ends: Offsets, ends: Offsets
    ) -> None:
        """Read what has happened to instances of sagas."""
        for place, first in (await self._firsts(partitions)).items():
            if first > 0:
                self._sagas.events_deleted(place.topic)
        async for place, records in self._records("changes of sagas", partitions, ends):
            for record in records:
                at = Place(place.topic, place.partition, record.offset)
                self._sagas.event(record.value, at, record.offset < firm_ends[place])

    async def _read_steps(
        self, partitions: Collection[TopicPartition], ends: Offsets
    ) -> Mapping[str, float]:
        """Read commands of sagas' steps; by topic, until when retention has deleted some."""
        first_ms: dict[TopicPartition, int] = {}
        async for place, records in self._records("commands of sagas", partitions, ends):
            first_ms.setdefault(place, records[0].timestamp)
            for record in records:
                at = Place(place.topic, place.partition, record.offset)
                self._sagas.command(record.headers, at)
        deleted_ms: dict[str, float] = {}
        for place, first in (await self._firsts(partitions)).items():
            if first > 0:
                at_ms = first_ms.get(place, inf)
                deleted_ms[place.topic] = max(at_ms, deleted_ms.get(place.topic, 0))
        return deleted_ms

    async def _read_firings(self, partitions: Collection[TopicPartition], ends: Offsets) -> None:
        """Read what flows that wait have written."""
        first_ms: dict[TopicPartition, int] = {}
        async for place, records in self._records("results of waits", partitions, ends):
            first_ms.setdefault(place, records[0].timestamp)
            for record in records:
                at = Place(place.topic, place.partition, record.offset)
                self._audit.firing(record.headers, at)
        await self._note_deleted(Problem.MISSING_RESULT, partitions, first_ms)

    async def _note_deleted(
        self,
        problem: Problem,
        partitions: Collection[TopicPartition],
        first_ms: Mapping[TopicPartition, int],
    ) -> None:
        """Tell the audit where retention has deleted what it would miss else."""
        for place, first in (await self._firsts(partitions)).items():
            if first > 0:
                at_ms = first_ms.get(place, inf)
                sources = [*self._told_of.get(place.topic, ()), *self._tiers]
                self._audit.deleted_before(sources, place.partition, problem, at_ms)
                # What waits is spread by another key.
                for topic in self._joins_of.get(place.topic, ()):
                    for source in self._source_ends:
                        if source.topic == topic:
                            self._audit.deleted_before([topic], source.partition, problem, at_ms)

    async def _read_results(self, partitions: Collection[TopicPartition], ends: Offsets) -> None:
        seen: dict[tuple[TopicPartition, str, int], int] = {}
        async for place, records in self._records("results", partitions, ends):
            for record in records:
                at = Place(place.topic, place.partition, record.offset)
                cause = self._audit.result(record.headers, at)
                if cause is not None:
                    seen.setdefault((place, cause.topic, cause.partition), cause.offset)
        firsts = await self._firsts(partitions)
        for contract in self._spec.contracts:
            for number in range(contract.emit_partitions):
                place = TopicPartition(contract.emit, number)
                if firsts.get(place, 0) > 0:
                    sources = (
                        (number,)
                        if contract.emit_partitions == contract.partitions
                        else range(contract.partitions)
                    )
                    for source in sources:
                        self._audit.results_begin_with(
                            contract.topic, source, seen.get((place, contract.topic, source))
                        )

    async def _read_dead_letters(
        self, partitions: Collection[TopicPartition], ends: Offsets
    ) -> None:
        seen: dict[tuple[str, int], int] = {}
        async for (topic, number), records in self._records("dead letters", partitions, ends):
            for record in records:
                at = Place(topic, number, record.offset)
                cause = self._audit.dead_letter(record.headers, at)
                if cause is not None:
                    seen.setdefault((cause.topic, cause.partition), cause.offset)
        firsts = await self._firsts(partitions)
        for contract in self._spec.contracts:
            for number in range(contract.partitions):
                # A dead letter keeps the partition of its record.
                if firsts.get(TopicPartition(contract.dead_letters, number), 0) > 0:
                    offset = seen.get((contract.topic, number))
                    self._audit.dead_letters_begin_with(contract.topic, number, offset)

    async def _records(
        self, what: str, partitions: Collection[TopicPartition], ends: Offsets
    ) -> AsyncIterator[tuple[TopicPartition, list[ConsumerRecord]]]:
        """Records before the ends, of each partition in the order of its log."""
        firsts = await self._firsts(partitions)
        left = {place for place in partitions if firsts[place] < ends[place]}
        total = sum(ends[place] - firsts[place] for place in left)
        if not left:
            return
        self._reader.assign(sorted(left))
        for place in left:
            self._reader.seek(place, firsts[place])
        read = dict(firsts)
        while left:
            fetched = await self._reader.getmany(
                *left, timeout_ms=500, max_records=_RECORDS_AT_A_TIME
            )
            for place, records in fetched.items():
                while records and records[-1].offset >= ends[place]:
                    records.pop()
                if records:
                    yield place, records
            for place in list(left):
                # Past transaction markers too, which no record shows.
                read[place] = await self._reader.position(place)
                if read[place] >= ends[place]:
                    left.discard(place)
                    self._reader.pause(place)
            done = sum(min(read[place], ends[place]) - firsts[place] for place in read)
            self._on_progress(Progress(what, done, total))
        self._reader.unsubscribe()


def _offset(committed: Mapping[TopicPartition, Any], place: TopicPartition) -> int | None:
    offset: int = committed[place].offset if place in committed else -1
    return offset if offset >= 0 else None
