"""Lookups in a table that each worker has in full, in the world and under the same blows.

Its rows lie in whatever partition, it is compacted, and it grows. No event waits long for a row
that is there, wherever it waits; and at the end each worker has the rows that the records say, by
the plainest account.
"""

from collections.abc import Mapping
from random import Random
from typing import Any, cast

import msgspec
from aiokafka import TopicPartition

from edo_stream.core.contract import DedupePolicy, NoOrder
from edo_stream.engine.global_tables import GlobalTables
from edo_stream.engine.ports import Disk
from edo_stream.testing.broker import Entry
from edo_stream.testing.disk import SimulatedDisk
from edo_stream.testing.intake import SimulatedChangelog, SimulatedTableFollower
from edo_stream.testing.producer import Machinery
from tests.simulation.load import START_MS, Arrival, Group, contract_of, decode
from tests.simulation.lookups import (
    EVENTS,
    NAME,
    ROWS,
    LookupGroup,
    LookupWorld,
    arrived_rows_of,
    commands_of,
    event_of,
    row_of,
)
from tests.simulation.scenario import scenario_of
from tests.simulation.world import Blow, Scenario, Worker

GROWN = 4
"""Partitions that the table has when it has grown."""
_WAIT_MS = 110_000
"""Longer than everything: what is let go before is let go by its row."""
_PATIENCE_MS = 45_000
"""Sessions, transactions and restores that were under way may all have to run out first."""


def global_scenario_of(seed: int) -> Scenario:
    """The scenario of a seed: the blows of the decide plane's, events and rows of some keys."""
    scenario = scenario_of(seed)
    random = Random(f"{seed} global")
    partitions = random.choice((1, 2))
    contracts = (contract_of(EVENTS, "in", partitions, NoOrder(), DedupePolicy()),)
    looking = GlobalLookupGroup(NAME, random.choice((1, 2, 3)), ())
    scenario.groups = [Group("in", partitions, contracts), looking]
    grows_at_s = random.uniform(0, 12.0)
    scenario.blows = sorted([*scenario.blows, Blow(grows_at_s, "grow")], key=lambda one: one.at_s)
    arrivals: list[Arrival] = []
    for number in range(random.randrange(2, 10)):
        key, events = f"k{number}", random.randrange(0, 5)
        arrivals += [event_of(random, key, count, partitions) for count in range(events)]
        for count in range(random.choice((0, 1, 1, 2, 3))):
            row = row_of(random, key, count, 0)
            has = GROWN if row.at_s > grows_at_s else 2
            place = TopicPartition(ROWS, random.randrange(has))
            arrivals.append(row._replace(place=place))
    scenario.arrivals = sorted(arrivals, key=lambda arrival: arrival.at_s)
    return scenario


class GlobalLookupGroup(LookupGroup):
    """Its tasks read no table: the workers do."""

    @property
    def topics(self) -> list[str]:
        return [topic for topic in super().topics if topic != ROWS]


class GlobalLookupWorld(LookupWorld):
    """The world whose workers have all rows."""

    waits_ms: Mapping[str, int] = {"patient": _WAIT_MS, "hasty": 0}
    global_partitions = 2

    def __init__(
        self, seed: int, keeps_trace: bool = False, scenario: Scenario | None = None
    ) -> None:
        self.shared: dict[int, GlobalTables] = {}
        super().__init__(seed, keeps_trace, scenario or global_scenario_of(seed))

    def _create_topics(self) -> None:
        super()._create_topics()
        self.broker.create(ROWS, self.global_partitions)

    def global_tables_of(self, worker: Worker, machinery: Machinery) -> GlobalTables:
        records_max = self.scenario.fetch_records_max * 2

        def open_disk(table: str, partition: int) -> Disk:
            platter = self.platter(worker.machine, table, partition)
            disk = SimulatedDisk(platter, worker.process, self.faults, lambda *_: None)
            return cast(Disk, disk)

        tables = self.shared[worker.machine] = GlobalTables(
            {ROWS: decode},
            SimulatedChangelog(machinery, records_max),
            SimulatedTableFollower(machinery, records_max),
            open_disk,
            self.now_ms,
            lambda why: worker.give_up(why),  # noqa: PLW0108 - it has no such method yet
        )
        return tables

    def _strike_grow(self, blow: Blow, worker: Worker | None) -> bool:
        self.broker.grow(ROWS, GROWN)
        return True

    def _strike_compact(self, blow: Blow, worker: Worker | None) -> bool:
        for place, log in self.broker.logs.items():
            if place.topic == ROWS:
                log.compact(self.random.randrange(log.end + 1))
        return super()._strike_compact(blow, worker)

    def _restless(self) -> str | None:
        for machine in self.workers:
            held = self.shared[machine].held.get(ROWS)
            if held is None:
                return f"machine {machine} has no assignment yet"
            for place, log in self.broker.logs.items():
                if place.topic == ROWS and held.table.positions.get(place.partition) != log.end:
                    return f"{place} on machine {machine}: {held.table.positions}"
        return super()._restless()

    def _judge(self) -> None:
        super()._judge()
        self._judge_rows()
        self._judge_haste()

    def _judge_rows(self) -> None:
        """Each worker has of each key the last of each partition, and the latest of those."""
        lasts: dict[bytes, dict[int, Entry]] = {}
        for place, log in self.broker.logs.items():
            for entry in log.committed() if place.topic == ROWS else ():
                lasts.setdefault(entry.key or b"", {})[place.partition] = entry
        rows: dict[bytes, Any] = {}
        for key, found in lasts.items():
            last = max(found.values(), key=lambda one: (one.timestamp, one.partition))
            if last.value is not None:
                rows[key] = last.value
        for machine in self.workers:
            table = self.shared[machine].held[ROWS].table
            has = {key: row for key in lasts if (row := table.get(key)) is not None}
            if has != rows or table.rows != len(rows):
                self.fail(f"machine {machine} has {table.rows} rows, {has}, not {rows}")

    def _judge_haste(self) -> None:
        """What has waited went on soon after its row was there."""
        first_ms = {
            key: min(row.seen_ms for row in rows) for key, rows in arrived_rows_of(self).items()
        }
        calm_ms = START_MS + int(1000 * self.scenario.hurts_until_s)
        for entry in self.broker.logs[TopicPartition(commands_of("patient"), 0)].committed():
            data = msgspec.json.decode(entry.value or b"")
            there_ms = first_ms.get(data["event"]["k"])
            if data["row"] is None or there_ms is None:
                continue
            late_ms = entry.timestamp - max(there_ms, calm_ms)
            if late_ms > _PATIENCE_MS:
                self.fail(f"{data['event']} went on {late_ms} ms after its row was there")
