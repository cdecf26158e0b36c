"""A new owner against a former one that goes on until it is fenced."""

import msgspec

from edo_stream.testing.broker import NewRecord
from tests.simulation.load import START_MS, Arrival, Parts
from tests.simulation.small import PLACE, small_scenario
from tests.simulation.world import World


def test_what_the_former_owner_commits_until_it_is_fenced_is_not_lost_on_the_next() -> None:
    """The owner is out of the group without knowing, and commits all the time."""
    scenario = small_scenario(2)
    scenario.arrivals += [
        Arrival(
            6.0 + number / 100,
            PLACE,
            [NewRecord(START_MS, b"c", msgspec.json.encode(Parts(f"c{number}", number)))],
        )
        for number in range(1, 1_000)
    ]
    scenario.hurts_until_s = 22.0
    world = World(scenario)

    def mute_owner() -> None:
        owner = world._owner("shop", 0)
        assert owner is not None
        owner.membership.is_mute = True

    world.loop.later(3.5, mute_owner)
    outcome = world.run()

    assert outcome.failures == []
    assert outcome.fired["given-up"] == 1
    assert outcome.transactions > 100
