"""What all tests share: the choice of the half of the core that they run on."""

import sys

import pytest


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
