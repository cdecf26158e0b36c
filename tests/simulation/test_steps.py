"""What holds for every step of a task: one time for all of it, and a bound of what it takes."""

from itertools import count

import msgspec
from aiokafka import TopicPartition

from edo_stream.core.accounts import Account
from edo_stream.testing.broker import Entry, NewRecord, Txn
from tests.simulation.judge import ACCOUNTS
from tests.simulation.load import START_MS, Arrival, Parts
from tests.simulation.scenario import scenario_of
from tests.simulation.small import GROUP, PLACE, small_scenario
from tests.simulation.world import Scenario, World


class HastyWorld(World):
    """A world whose clock goes on whenever somebody looks at it."""

    def __init__(self, scenario: Scenario) -> None:
        super().__init__(scenario)
        self._looks = count()

    def now_ms(self) -> int:
        return super().now_ms() + next(self._looks)


def _by_transaction(world: World) -> dict[Txn, list[Entry]]:
    found: dict[Txn, list[Entry]] = {}
    for log in world.broker.logs.values():
        for entry in log.history:
            if entry.txn is not None and entry.is_committed():
                found.setdefault(entry.txn, []).append(entry)
    return found


def _accounts(entries: list[Entry]) -> list[Account]:
    return [
        msgspec.json.decode(entry.value or b"", type=Account)
        for entry in entries
        if entry.topic == ACCOUNTS
    ]


def test_all_of_a_transaction_is_of_one_time() -> None:
    world = HastyWorld(small_scenario())
    assert world.run().failures == []
    changelogs = {topic for topic, _ in world.tables.values()}
    transactions = _by_transaction(world)
    for entries in transactions.values():
        times = {account.at_ms for account in _accounts(entries)}
        times |= {entry.timestamp for entry in entries if entry.topic in changelogs}
        assert 1 == len(times)
    assert len(transactions) > 3


def test_a_transaction_takes_a_batch_more_than_its_share_at_most() -> None:
    scenario = scenario_of(0)
    records = [
        NewRecord(START_MS, b"a", msgspec.json.encode(Parts(f"a{number}", number)))
        for number in range(1, 400)
    ]
    scenario.groups, scenario.machines = [GROUP], 1
    scenario.arrivals = [Arrival(0.1, TopicPartition(*PLACE), records)]
    scenario.rates, scenario.blows = {"offsets-slow": 1.0}, []
    scenario.fetch_records_max, scenario.batch_records_max = 4, 6
    world = World(scenario)
    assert world.run().failures == []
    taken = [
        sum(run.length for account in _accounts(entries) for run in account.runs)
        for entries in _by_transaction(world).values()
    ]
    assert sum(taken) == len(records)
    assert 6 <= max(taken) < 6 + 5
