"""Workers that come and go, and disks that are lost, in the middle of a burst: nothing shows."""

import asyncio
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from load.expect import Comparison, compare, expect
from load.fleet import LocalWorker
from load.judge import DEAD_LETTERS, EMIT, SOURCE, recount_tables
from load.plan import Planned, plan
from load.profile import Profile
from load.read import count_records, read_ids
from load.send import SendPolicy, send
from load.storm import fleet
from tests.broker.bench import log_of, wait_for, wait_until_logged

APP = "edo-decide"
PROFILE = Profile(
    seed=201,
    events=9_000,
    keys=300,
    rate=900,
    gaps_fill=0.01,
    gap_fill_distance=500,
    gaps_never=0.0005,
    undecodable=0.002,
)


def judge(profile: Profile, broker: str) -> Comparison:
    """Compare what came out with what must, once nothing is missing."""
    expectation = expect(profile)
    access = {"bootstrap_servers": broker}

    async def look() -> Comparison:
        ids = await read_ids(EMIT, access, expectation.emitted.keys())
        dead = await count_records(DEAD_LETTERS, access, expectation.emitted.keys())
        return compare(expectation, ids, dead)

    def settled() -> Comparison | None:
        found = asyncio.run(look())
        return None if found.missing or found.dead_letters_missing > 0 else found

    comparison = wait_for(settled, "all events of the burst")
    assert asyncio.run(recount_tables(expectation, access, APP)) == []
    return comparison


async def burst(planned: Iterable[Planned], broker: str) -> None:
    await send(planned, SOURCE, {"bootstrap_servers": broker}, SendPolicy(), lambda _: None)


def scale(directory: Path, environment: dict[str, str], first: LocalWorker) -> None:
    """Three more, the first one leaves and comes back, and the three go."""
    with fleet(directory, 3, environment) as more:
        for worker in more:
            wait_until_logged(worker, "task running")
        first.restart()


def test_scaling_from_one_to_four_workers_and_back_under_load_is_exact(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    broker = environment["EDO_BROKER"]

    async def scale_under_load(first: LocalWorker) -> None:
        sending = asyncio.create_task(burst(plan(PROFILE), broker))
        await asyncio.to_thread(scale, tmp_path / "more", environment, first)
        await sending

    with fleet(tmp_path, 1, environment) as (first,):
        asyncio.run(scale_under_load(first))
        comparison = judge(PROFILE, broker)

    assert comparison.is_exact, comparison


def test_a_wiped_data_directory_is_restored_from_the_changelogs(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    broker = environment["EDO_BROKER"]
    profile = Profile(
        seed=202, events=4_000, keys=200, duplicates=0.2, gaps_fill=0.02, gap_fill_distance=1_500
    )
    planned = list(plan(profile))
    half = len(planned) // 2
    # None is given up, however long the worker is away while the other half is not sent yet.
    patient = {**environment, "EDO_TOPICS": str(with_long_gaps(tmp_path / "topics", environment))}
    with fleet(tmp_path, 1, patient) as (worker,):
        asyncio.run(burst(planned[:half], broker))
        wait_for(lambda: emitted(profile, broker) > half // 2, "results of the first half")
        worker.stop()
        shutil.rmtree(worker.directory / "state")
        worker.start()
        asyncio.run(burst(planned[half:], broker))
        comparison = judge(profile, broker)

    assert comparison.is_exact, comparison
    restored = re.findall(r"(\d+) changelog records restored", log_of(worker))
    assert all(int(records) > 0 for records in restored[-4:])


def with_long_gaps(folder: Path, environment: dict[str, str]) -> Path:
    """The contracts, where a missing number is waited for longer than a test takes."""
    shutil.copytree(environment["EDO_TOPICS"], folder)
    contract = folder / SOURCE / "contract.yaml"
    declared = contract.read_text(encoding="utf-8")
    assert "gap_timeout: 5s" in declared
    contract.write_text(declared.replace("gap_timeout: 5s", "gap_timeout: 1h"), encoding="utf-8")
    return folder


def emitted(profile: Profile, broker: str) -> int:
    keys = expect(profile).emitted.keys()
    return len(asyncio.run(read_ids(EMIT, {"bootstrap_servers": broker}, keys)))
