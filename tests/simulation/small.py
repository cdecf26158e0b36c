"""One small history, the same each time, into which every fault can be put at every place."""

import msgspec
from aiokafka import TopicPartition

from edo_stream.core.contract import DedupePolicy, OnTimeout, SequenceOrder
from edo_stream.testing.broker import NewRecord
from tests.simulation.load import START_MS, Arrival, Group, Parts, contract_of
from tests.simulation.world import Blow, Outcome, Scenario, World

TOPIC = "shop.order"
PLACE = TopicPartition(TOPIC, 0)
GROUP = Group(
    "shop",
    1,
    (
        contract_of(
            TOPIC,
            "shop",
            1,
            SequenceOrder(start=1, gap_timeout_ms=2_000, on_timeout=OnTimeout.SKIP),
            DedupePolicy(),
        ),
    ),
)
#: Key, number and time of each record: a duplicate, a number that comes late, one that never does.
_COURSE = (
    (b"a", 1, 0.1),
    (b"b", 1, 0.1),
    (b"a", 3, 0.1),
    (b"a", 1, 1.0),
    (b"a", 2, 1.0),
    (b"b", 3, 1.0),
    (b"b", 4, 5.0),
    (b"a", 4, 5.0),
)
#: How each record must end, wherever the crash was: emitted, duplicate.
FATES = ("e", "e", "e", "d", "e", "e", "e", "e")


def small_scenario(machines: int = 1, blows: tuple[Blow, ...] = ()) -> Scenario:
    """The history without a fault."""
    arrivals = []
    for moment in sorted({at_s for _, _, at_s in _COURSE}):
        records = [
            NewRecord(START_MS, key, msgspec.json.encode(Parts(f"{key.decode()}{number}", number)))
            for key, number, at_s in _COURSE
            if at_s == moment
        ]
        arrivals.append(Arrival(moment, PLACE, records))
    return Scenario(
        seed=1,
        groups=[GROUP],
        arrivals=arrivals,
        machines=machines,
        blows=list(blows),
        hurts_until_s=6.0,
    )


def run_small(**at: int) -> Outcome:
    """The history with each fault of a name at its n-th opportunity."""
    world = World(small_scenario())
    world.faults.at = {name.replace("_", "-"): nth for name, nth in at.items()}
    return world.run()
