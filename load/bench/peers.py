"""How the others get here: Python packages in an own environment, Kafka Streams as jars.

Nothing of it is installed beforehand, no Java and no Maven: the jars come the way the local Kafka's
do, and the Eclipse compiler, which is a jar as well, compiles the one source file.
"""

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Final

from edo_stream.local.errors import LocalError
from edo_stream.local.jvm import JarSet, Report, java_command, java_environment
from edo_stream.local.kafka import KAFKA_VERSION

HOME: Final = Path(__file__).parent
BUILD: Final = Path("build/bench").absolute()
WORKERS: Final = HOME / "workers"

_PACKAGES: Final = ("quixstreams", "faststream[kafka]", "confluent-kafka", "orjson", "msgspec")
_CONSTRAINTS: Final = HOME / "constraints.txt"
_SOURCE: Final = HOME / "kafka_streams" / "Job.java"
_STREAMS: Final = JarSet(
    name=f"Kafka Streams {KAFKA_VERSION}",
    coordinates=(
        f"org.apache.kafka:kafka-streams:{KAFKA_VERSION}",
        "com.fasterxml.jackson.core:jackson-databind:2.19.4",
        "org.slf4j:slf4j-simple:1.7.36",
    ),
)
_COMPILER: Final = JarSet(
    name="Eclipse compiler for Java", coordinates=("org.eclipse.jdt:ecj:3.44.0",)
)
_COMPILER_MAIN: Final = "org.eclipse.jdt.internal.compiler.batch.Main"


def own_python(worker: str, *arguments: str) -> list[str]:
    """Command of a worker that runs on this project's own packages."""
    return [*_python(Path(sys.executable), worker), *arguments]


def peer_python(worker: str, report: Report) -> list[str]:
    """Command of a worker that runs on the peers' packages, which are installed when missing.

    Raises:
        LocalError: they cannot be installed.
    """
    home = BUILD / "venv"
    python = home / "bin" / "python"
    stamp = home / "installed"
    wanted = hashlib.sha256(_CONSTRAINTS.read_bytes() + repr(_PACKAGES).encode()).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        report(f"Installing {', '.join(_PACKAGES)} into {home}")
        venv.create(home, clear=True, with_pip=True)
        _run(
            f"the peers' packages could not be installed into {home}",
            [str(python), "-m", "pip", "install", "-q", "-c", str(_CONSTRAINTS), *_PACKAGES],
            dict(os.environ),
        )
        stamp.write_text(wanted)
    return _python(python, worker)


def streams_command(report: Report) -> list[str]:
    """Command of the Kafka Streams job, compiled when its source has changed.

    Raises:
        LocalError: the jars cannot be had, or the source does not compile.
    """
    *command, class_path = java_command(_STREAMS, ("-Xmx1g",), report)
    source = _SOURCE.read_bytes()
    classes = BUILD / "classes" / hashlib.sha256(source + class_path.encode()).hexdigest()[:16]
    if not (classes / "Job.class").exists():
        report(f"Compiling {_SOURCE.name}")
        compiler = [*java_command(_COMPILER, (), report), _COMPILER_MAIN, "-proc:none", "-nowarn"]
        _run(
            f"{_SOURCE} does not compile",
            [
                *compiler,
                "-source",
                "21",
                "-target",
                "21",
                "-cp",
                class_path,
                "-d",
                str(classes),
                str(_SOURCE),
            ],
            java_environment(),
        )
    return [*command, os.pathsep.join((class_path, str(classes))), "Job"]


def _python(python: Path, worker: str) -> list[str]:
    # Without PYTHONPATH, which points at this project's packages for the supervisor's sake.
    return [str(python), "-E", "-u", str(WORKERS / worker)]


def _run(what_failed: str, command: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run(  # noqa: S603 - our own command
        command, capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode != 0:
        raise LocalError(f"{what_failed}:\n{(done.stdout + done.stderr).strip()[-2_000:]}")
