"""A real Kafka for the tests of this folder, with the topics of the project's contracts."""

import os
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from edo_stream.local.kafka import LocalKafka
from tests.broker.bench import Bench

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKafka]:
    with LocalKafka(tmp_path_factory.mktemp("kafka")) as kafka:
        yield kafka


@pytest.fixture(scope="session")
def environment(kafka: LocalKafka) -> dict[str, str]:
    """What a process needs to work on the broker; the topics are there."""
    environment = {"EDO_BROKER": kafka.bootstrap, "EDO_TOPICS": str(ROOT / "topics")}
    subprocess.run(
        [sys.executable, "-m", "edo_stream", "topics", "apply"],
        env={**os.environ, **environment},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return environment


@pytest.fixture
def bench(request: pytest.FixtureRequest, tmp_path: Path, kafka: LocalKafka) -> Iterator[Bench]:
    """A place of the test's own on the shared broker."""
    name = f"t{zlib.crc32(request.node.nodeid.encode()):08x}"
    bench = Bench(tmp_path, name, {"EDO_BROKER": kafka.bootstrap})
    yield bench
    bench.close()
