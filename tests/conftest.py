"""What all tests share: the half of the core they run on, and that a leak is told of its test."""

import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Tests of processes, sockets and files, whose leaks the collector would otherwise find in a later
# test or, as an error that names none, at the end of the run.
_REAL_PARTS = (Path(__file__).parent / "broker", Path(__file__).parent / "local")

# A property is judged by the same examples wherever and whenever it runs, however slow the machine
# is. ``--hypothesis-profile search`` looks for others, by chance.
_AT_ANY_SPEED = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("same", derandomize=True, database=None, **_AT_ANY_SPEED)
settings.register_profile("search", **_AT_ANY_SPEED)
settings.load_profile("same")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--python-only",
        action="store_true",
        help="run without the compiled half, as an installation without a C compiler does",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--python-only"):
        # Before anything of the project is imported: an import of it fails from here on.
        sys.modules["edo_stream.core._native"] = None  # type: ignore[assignment]


@pytest.fixture(autouse=True)
def _collected(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a test leaves unclosed is found at its own end."""
    yield
    if request.path.parent in _REAL_PARTS:
        gc.collect()
