"""Run seeds by hand: ``python -m tests.simulation --seed 7 --trace``, or ``--seeds 50000``."""

import argparse
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from time import perf_counter

from tests.simulation.scenario import scenario_of
from tests.simulation.world import Outcome, World


def run(seed: int, keeps_trace: bool = False) -> Outcome:
    """One history."""
    return World(scenario_of(seed), keeps_trace).run()


def run_range(seeds: range) -> tuple[dict[int, list[str]], "Counter[str]"]:
    """Failures by seed, and how often each fault has struck."""
    failures: dict[int, list[str]] = {}
    fired: Counter[str] = Counter()
    for seed in seeds:
        outcome = run(seed)
        fired.update(outcome.fired)
        fired["transactions"] += outcome.transactions
        fired["resets"] += outcome.resets
        fired["fenced requests"] += outcome.fenced_requests
        if outcome.failures:
            failures[seed] = outcome.failures
    return failures, fired


def main() -> int:
    """Run what was asked for; the status says whether all was well."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seed", type=int, help="one seed")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first of many")
    parser.add_argument("--seeds", type=int, default=2_000, help="how many")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--trace", action="store_true", help="print the history of each")
    arguments = parser.parse_args()
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    if arguments.seed is not None:
        seeds = range(arguments.seed, arguments.seed + 1)
    if arguments.trace:
        return max((_show(seed) for seed in seeds), default=0)
    began = perf_counter()
    failures: dict[int, list[str]] = {}
    fired: Counter[str] = Counter()
    parts = [seeds[at : at + 100] for at in range(0, len(seeds), 100)]
    with ProcessPoolExecutor(arguments.processes) as pool:
        for part, (found, counts) in zip(parts, pool.map(run_range, parts), strict=True):
            failures.update(found)
            fired.update(counts)
            for seed, messages in found.items():
                _say(f"seed {seed}: {messages[0]}")
            if part[-1] % 5_000 == 4_999:
                _say(f"… {part[-1] + 1}: {len(failures)} failures")
    lasted_s = perf_counter() - began
    _say(f"{len(seeds)} seeds, {len(failures)} failures, {len(seeds) / lasted_s:.0f} seeds/s")
    _say(", ".join(f"{name} {count}" for name, count in sorted(fired.items())))
    return 1 if failures else 0


def _show(seed: int) -> int:
    outcome = run(seed, keeps_trace=True)
    for line in outcome.trace:
        _say(line)
    _say(
        f"seed {seed}: {outcome.steps} steps, {outcome.transactions} transactions, "
        f"{outcome.resets} resets, {outcome.lasted_s:.1f} s, {dict(outcome.fired)}"
    )
    for failure in outcome.failures:
        _say(f"FAILED: {failure}")
    return 1 if outcome.failures else 0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
