"""Workers on a real Kafka, hurt in the middle of a burst: nothing lost, doubled or out of order."""

import asyncio
from pathlib import Path

import pytest

from edo_stream.registry import load
from load.harm import Harm
from load.judge import Outcome
from load.profile import Profile
from load.storm import Storm, fleet, run


def storm_of(seed: int, *harms: Harm) -> Storm:
    profile = Profile(
        seed=seed,
        events=3_000 * len(harms),
        keys=300,
        rate=1_000,
        gaps_fill=0.01,
        gap_fill_distance=500,
        gaps_never=0.0005,
    )
    return Storm(profile, harms)


def outlive(storm: Storm, tmp_path: Path, environment: dict[str, str]) -> Outcome:
    registry = load(Path(environment["EDO_TOPICS"]))
    broker = environment["EDO_BROKER"]
    with fleet(tmp_path, storm.workers, environment) as workers:
        return asyncio.run(run(storm, workers, broker, "edo-decide", registry, print))


@pytest.mark.parametrize(("seed", "harm"), [(101, Harm.KILL), (102, Harm.STOP), (103, Harm.FREEZE)])
def test_every_event_comes_out_once_and_in_order_whatever_is_done_to_workers(
    seed: int, harm: Harm, tmp_path: Path, environment: dict[str, str]
) -> None:
    outcome = outlive(storm_of(seed, harm, harm, harm), tmp_path, environment)

    assert len(outcome.harms) == 3
    assert outcome.comparison.is_exact, outcome.comparison
    assert outcome.recount == []
