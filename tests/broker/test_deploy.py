"""The commands of ``docker-compose.yml``, run without containers on the tests' own broker."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from edo_stream.local.ports import free_port
from tests.broker.bench import PATIENCE_S, Bench, wait_for

ROOT = Path(__file__).parents[2]
SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # The example of the specification.


def here(words: list[str], changes: dict[str, str]) -> list[str]:
    """A command of the containers as it runs here: programs of this environment, other places."""
    programs = {"python": sys.executable, "edo": "edo", "faust": "faust"}
    beside = Path(sys.executable).parent
    first = programs.get(words[0], words[0])
    whole = [first if Path(first).is_absolute() else str(beside / first), *words[1:]]
    for old, new in changes.items():
        whole = [word.replace(old, new) for word in whole]
    return whole


def environment(service: dict[str, Any], bench: Bench, **changes: str) -> dict[str, str]:
    return {**os.environ, **service["environment"], **bench.environment, **changes}


def test_a_worker_and_the_gateway_become_healthy(bench: Bench, tmp_path: Path) -> None:
    bench.environment["EDO_TOPICS"] = str(ROOT / "topics")
    topics, worker, gateway = (SERVICES[name] for name in ("topics", "worker-1", "gateway"))
    web, hooks = free_port(), free_port()
    secret = tmp_path / "webhook_secret"
    secret.write_text(SECRET)
    config = tmp_path / "gateway.yaml"
    declared = (ROOT / "deploy/gateway.yaml").read_text(encoding="utf-8")
    config.write_text(declared.replace("/run/secrets/webhook_secret", str(secret)))
    ports = {"6066": str(web), "8080": str(hooks), "/app/gateway.yaml": str(config)}

    applied = subprocess.run(
        here(topics["command"], {}), env=environment(topics, bench), capture_output=True, check=True
    )
    assert b"shop.order.placed" in applied.stdout

    places = {"EDO_DATA": str(tmp_path / "data"), "EDO_WEB_PORT": str(web)}
    for service in (worker, gateway):
        log = (tmp_path / "log.txt").open("ab")
        with (
            log,
            subprocess.Popen(
                here(service["command"], ports),
                env=environment(service, bench, **places),
                cwd=tmp_path,
                stdout=log,
                stderr=log,
            ) as process,
        ):
            try:
                check = here(service["healthcheck"]["test"][1:], ports)
                wait_for(
                    lambda check=check: subprocess.run(check, check=False).returncode == 0,
                    f"health of {service['command']}",
                )
                assert process.poll() is None
            finally:
                process.terminate()
                process.wait(PATIENCE_S)
