"""The cache of jars: whole or not there, and clear words when it cannot be filled."""

import hashlib
import json
from pathlib import Path

import pytest

from edo_stream.local.errors import LocalError
from edo_stream.local.jvm import JarSet, ensure_jars

JARS = JarSet("Logging", ("org.slf4j:slf4j-api:1.7.36",))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache on a machine without a network."""
    monkeypatch.setenv("EDO_CACHE", str(tmp_path))
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_without_a_network_the_first_load_says_so(cache: Path) -> None:
    with pytest.raises(LocalError, match=r"Logging could not be loaded \(no network\)"):
        ensure_jars(JARS, _ignore)
    assert not (cache / "jars" / JARS.directory).exists()


def test_a_filled_cache_needs_no_network(cache: Path) -> None:
    directory = _fill(cache)
    assert (directory / "one.jar",) == ensure_jars(JARS, _ignore)


def test_a_damaged_cache_is_loaded_again(cache: Path) -> None:
    directory = _fill(cache)
    (directory / "one.jar").write_bytes(b"damaged")
    lines: list[str] = []
    with pytest.raises(LocalError, match=r"no network"):
        ensure_jars(JARS, lines.append)
    assert lines[0] == "The cached jars of Logging are damaged; loading them again"


def test_what_an_interrupted_load_left_is_not_used(cache: Path) -> None:
    aside = cache / "jars" / f"{JARS.directory}.partial" / "repository"
    aside.mkdir(parents=True)
    (aside / "half.jar").write_bytes(b"half")
    with pytest.raises(LocalError, match=r"no network"):
        ensure_jars(JARS, _ignore)
    assert not (aside / "half.jar").exists()


def _fill(cache: Path) -> Path:
    directory = cache / "jars" / JARS.directory
    directory.mkdir(parents=True)
    (directory / "one.jar").write_bytes(b"one")
    manifest = {"one.jar": hashlib.sha256(b"one").hexdigest()}
    (directory / "manifest.json").write_text(json.dumps(manifest))
    return directory


def _ignore(_line: str) -> None:
    pass
