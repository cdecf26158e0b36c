"""Executors that fail, hang and crash, on workers that are killed and frozen: all comes right."""

import asyncio
from dataclasses import replace
from pathlib import Path

from edo_stream.local.kafka import LocalKafka
from load.act_chaos.plan import FLOWS, Job, Jobs, Step
from load.act_chaos.storm import Weather, endure, open_scene
from load.harm import Harm

NAME = "act-chaos"
SEED = 580
SECONDS = 10.0
RATE = 15.0


def ends_its_worker(job: Job) -> bool:
    """Whether its first attempt does."""
    return bool({Step.CRASH, Step.CRASH_AFTER} & {*job.steps[:1]})


def test_early_on_commands_end_their_worker_and_those_of_a_flow_run_at_most_once() -> None:
    """By the seed, and well before the run is over, whatever else the harms do."""
    early = {}
    for flow in FLOWS:
        jobs = Jobs(replace(flow, name=f"{NAME}-{flow.name}"), SEED)
        made = [jobs.next() for _ in range(int(0.6 * SECONDS * RATE))]
        early[flow.name] = [job.number for job in made if ends_its_worker(job)]
    assert {"ship": [72], "bill": [71, 89], "note": [], "tell": []} == early


def test_every_command_ends_once_in_its_turn_and_never_early_whatever_its_executor_does(
    kafka: LocalKafka, tmp_path: Path
) -> None:
    weather = Weather(
        SEED, [Harm.KILL, Harm.FREEZE], rate=RATE, seconds=SECONDS, pause_s=(1.0, 2.0)
    )
    with open_scene(NAME, tmp_path, [kafka], workers=2) as scene:
        aftermath = asyncio.run(endure(weather, scene, print))

    assert [] == aftermath.findings
    assert 2 <= aftermath.crashes, "executors have ended their workers"
    tallies = aftermath.verdict.tallies
    assert 0 == tallies[f"{NAME}-bill"].repeated_effects, "at most once"
    assert 0 < aftermath.verdict.ends[f"{NAME}-bill"]["unknown"], "and nobody knows"
    # A receiver without memory repeats what one that knows idempotency keys does once.
    tell = tallies[f"{NAME}-tell"]
    assert len(scene.receiver.receiver.applied) == tell.effects_by_key < tell.effects
