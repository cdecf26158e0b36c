"""How long a registry of many topics takes: ``python -m load.registry_bench --topics 1000``.

Writes a folder of topics as ``edo contracts new`` would, each with two schema versions, three
examples, consumers and related topics, then measures what a user waits for: the commands as
processes, from their start to their end, and loading as a worker does it.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from edo_stream.catalog.scaffold import TopicPlan, topic_files
from edo_stream.registry import load

LINT_S_MAX = 3.0
LOAD_S_MAX = 2.0
_DOMAINS = 20


def write_registry(root: Path, topics: int) -> None:
    """Write so many topics; they pass the lint."""
    names = [f"domain{i % _DOMAINS}.entity{i}.changed" for i in range(topics)]
    for index, name in enumerate(names):
        files = topic_files(TopicPlan(name, f"team-{index % _DOMAINS}"))
        first = json.loads(files["v1.schema.json"])
        second = {**first, "properties": {**first["properties"], "note": {"type": "string"}}}
        event = json.loads(files["examples/v1.first.json"])
        data = event["data"] | {"note": "as agreed"}
        related = names[index - 1] if topics > 1 else f"{name}.accepted"
        files["v2.schema.json"] = json.dumps(second, indent=2)
        files["examples/v2.first.json"] = json.dumps(event | {"data": data}, indent=2)
        files["contract.yaml"] = (
            files["contract.yaml"]
            .replace("consumers: []  ", f"consumers: {_CONSUMERS}  ")
            .replace("versions:\n", "versions:\n    2: {note: A note may be added.}\n")
            .replace("  /amount: fact\n", "  /amount: fact\n  /note: fact\n")
            + f"\nrelated: [{related}]\n"
        )
        for path, text in files.items():
            place = root / name / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text, encoding="utf-8")


_CONSUMERS = "[{name: billing, group: billing, owner: team-b, versions: [1, 2]}]"


def measured(work: Callable[[], object], times: int) -> float:
    """The median of some runs, in seconds."""
    took = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        took.append(time.perf_counter() - start)
    return sorted(took)[len(took) // 2]


def bench(root: Path, topics: int, times: int) -> dict[str, Any]:
    """Write a registry and measure it."""
    write_registry(root, topics)
    environment = {**os.environ, "EDO_TOPICS": str(root)}

    def command(*arguments: str) -> Callable[[], object]:
        line = [sys.executable, "-m", "edo_stream", "contracts", *arguments]
        return lambda: subprocess.run(  # noqa: S603 - our own command
            line, env=environment, cwd=root, check=True, stdout=subprocess.DEVNULL
        )

    figures = {
        "topics": topics,
        "load_s": measured(lambda: load(root), times),
        "lint_s": measured(command("lint"), times),
        "show_s": measured(command("show", "--json"), times),
        "asyncapi_s": measured(command("export", "asyncapi"), times),
    }
    figures["is_fast_enough"] = figures["lint_s"] <= LINT_S_MAX and figures["load_s"] <= LOAD_S_MAX
    return figures


def main() -> None:
    """Measure, print, and fail where it takes too long."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--topics", type=int, default=1_000)
    parser.add_argument("--times", type=int, default=3, help="runs of each; the median counts")
    parser.add_argument("--keep", type=Path, help="write the registry here, and keep it")
    arguments = parser.parse_args()
    with TemporaryDirectory() as temporary:
        root = arguments.keep or Path(temporary) / "topics"
        figures = bench(root, arguments.topics, arguments.times)
    print(json.dumps({name: _rounded(value) for name, value in figures.items()}))
    sys.exit(0 if figures["is_fast_enough"] else 1)


def _rounded(value: Any) -> Any:
    return round(value, 3) if isinstance(value, float) else value


if __name__ == "__main__":
    main()
