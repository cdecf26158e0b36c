"""The pytest plugin: the fixture ``edo_flows``, a project at work for one test.

The project is the folder of pytest's root, or what ``edo_project`` in its configuration names.
Nothing is imported before a test asks for it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from edo_stream.testing.world import FlowWorld


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the configuration say where the project is."""
    parser.addini("edo_project", "Folder with topics/ and flows/, from pytest's root.", default=".")


@pytest.fixture
def edo_flows(pytestconfig: pytest.Config) -> Iterator["FlowWorld"]:
    """The project's flows, on a broker in memory, in virtual time."""
    from edo_stream.testing.world import FlowWorld  # noqa: PLC0415 - most tests need none

    root = Path(pytestconfig.rootpath, str(pytestconfig.getini("edo_project")))
    world = FlowWorld.of_project(root)
    try:
        yield world
    finally:
        world.close()
