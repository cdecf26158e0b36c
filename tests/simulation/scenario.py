"""From a seed to a scenario: the world's size, its load, and what goes wrong in it."""

from random import Random

from tests.simulation.load import Group, arrivals, some_contract
from tests.simulation.world import Blow, Scenario

_LASTS_S = 12.0
_HURTS_UNTIL_S = 22.0

#: Probability of each fault at an opportunity, before the scenario picks and scales.
RATES = {
    "init-fails": 0.05,
    "init-slow": 0.05,
    "stop-hangs": 0.03,
    "produce-refused": 0.02,
    "produce-unacked": 0.02,
    "produce-duplicate": 0.02,
    "produce-slow": 0.01,
    "produce-answer-lost": 0.02,
    "offsets-fail": 0.03,
    "offsets-slow": 0.02,
    "offsets-answer-lost": 0.03,
    "commit-not-asked": 0.03,
    "commit-lost": 0.05,
    "commit-hangs": 0.01,
    "commit-refused": 0.02,
    "end-slow": 0.03,
    "end-answer-lost": 0.05,
    "batch-dropped": 0.05,
    "stale-batches": 0.5,
    "queue-full": 0.05,
    "delivery-slow": 0.05,
    "fetch-slow": 0.03,
    "ask-fails": 0.05,
    "consumer-stopped": 0.01,
    "restore-fails": 0.05,
    "crash-before": 0.002,
    "crash-after": 0.002,
}

BLOWS = {
    "kill": 3.0,
    "pause": 3.0,
    "mute": 2.0,
    "cut": 1.5,
    "leave": 1.5,
    "add": 1.0,
    "rebalance": 1.5,
    "slow": 0.7,
    "compact": 1.5,
    "retain": 1.0,
    "fence": 1.0,
    "forget": 0.5,
    "wipe": 0.7,
}

_DURATIONS_S = (0.2, 2.0, 8.0, 14.0)


def scenario_of(seed: int) -> Scenario:
    """The scenario of a seed."""
    random = Random(f"{seed} scenario")
    groups = _groups(random)
    machines = random.choice((1, 2, 2, 3, 4))
    is_calm = random.random() < 0.03
    chosen = [name for name in RATES if random.random() < 0.5]
    scale = 0.0 if is_calm else random.choice((0.3, 1.0, 1.0, 2.0))
    blows = 0 if is_calm else random.randrange(0, 9)
    return Scenario(
        seed=seed,
        groups=groups,
        arrivals=arrivals(random, groups, random.randrange(8, 70), _LASTS_S),
        machines=machines,
        rates={name: min(1.0, RATES[name] * scale) for name in chosen},
        blows=sorted((_blow(random, machines) for _ in range(blows)), key=lambda blow: blow.at_s),
        hurts_until_s=_HURTS_UNTIL_S,
        fetch_records_max=random.choice((1, 4, 8, 30)),
        batch_records_max=random.choice((2, 20, 2_000)),
        standbys=Random(f"{seed} standbys").choice((0, 0, 1, 1, 2)),
    )


def _groups(random: Random) -> list[Group]:
    groups = []
    for name in ("orders", "files") if random.random() < 0.3 else ("orders",):
        partitions = random.choice((1, 1, 2, 2, 3, 4))
        contracts = tuple(
            some_contract(random, f"{name}.{letter}", name, partitions)
            for letter in "ab"[: random.randrange(1, 3)]
        )
        groups.append(Group(name, partitions, contracts))
    return groups


def _blow(random: Random, machines: int) -> Blow:
    kind = random.choices(list(BLOWS), list(BLOWS.values()))[0]
    # A machine more than there are at the start is one that is added.
    machine = machines if kind == "add" else random.randrange(machines + 1)
    lasts_s = random.choice(_DURATIONS_S) * random.uniform(0.3, 1.0)
    if kind in ("slow", "compact"):
        lasts_s = min(lasts_s, 3.0)
    return Blow(random.uniform(0.0, _HURTS_UNTIL_S - 1), kind, machine, lasts_s)
