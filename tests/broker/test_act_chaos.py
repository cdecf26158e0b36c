"""Executors that fail, hang and crash, on workers that are killed and frozen: all comes right."""

import asyncio
from pathlib import Path

from edo_stream.local.kafka import LocalKafka
from load.act_chaos.storm import Weather, endure, open_scene
from load.harm import Harm

#: Early on a command of each of two flows ends its worker, one of them at most once.
SEED = 51
SECONDS = 10.0


def test_every_command_ends_once_in_its_turn_and_never_early_whatever_its_executor_does(
    kafka: LocalKafka, tmp_path: Path
) -> None:
    weather = Weather(
        SEED, [Harm.KILL, Harm.FREEZE], rate=15.0, seconds=SECONDS, pause_s=(1.0, 2.0)
    )
    with open_scene("act-chaos", tmp_path, [kafka], workers=2) as scene:
        aftermath = asyncio.run(endure(weather, scene, print))

    assert [] == aftermath.findings
    assert 2 <= aftermath.crashes, "executors have ended their workers"
    tallies = aftermath.verdict.tallies
    assert 0 == tallies["act-chaos-bill"].repeated_effects, "at most once"
    assert 0 < aftermath.verdict.ends["act-chaos-bill"]["unknown"], "and nobody knows"
    # A receiver without memory repeats what one that knows idempotency keys does once.
    tell = tallies["act-chaos-tell"]
    assert len(scene.receiver.receiver.applied) == tell.effects_by_key < tell.effects
