"""``docker-compose.yml``: of the Compose schema, without secrets, and true to the project."""

import json
import os
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from edo_stream.settings import Settings, variable

ROOT = Path(__file__).parents[2]
BESIDE = ROOT.parent / "shared" / "conformance"
SCHEMA = Path(os.environ.get("EDO_CONFORMANCE", BESIDE)) / "tool_schemas/compose/compose-spec.json"

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ONCE = {name for name, service in SERVICES.items() if service.get("restart") == "on-failure"}
SECRET_NAMES = re.compile(r"PASSWORD|SECRET|TOKEN|CREDENTIAL|API_?KEY", re.IGNORECASE)


@pytest.mark.skipif(
    not SCHEMA.is_file(), reason=f"no {SCHEMA}: set EDO_CONFORMANCE to the folder that has it"
)
def test_it_is_of_the_schema_of_compose() -> None:
    validator = jsonschema_rs.validator_for(json.loads(SCHEMA.read_text(encoding="utf-8")))
    assert [] == [str(error) for error in validator.iter_errors(COMPOSE)]


def test_all_that_is_needed_is_there() -> None:
    expected = {"kafka", "postgres", "connect", "worker-1", "worker-2", "gateway", "prometheus"}
    assert expected <= set(SERVICES)


@pytest.mark.parametrize("name", sorted(set(SERVICES) - ONCE))
def test_every_service_that_stays_is_restarted_and_has_a_health_check(name: str) -> None:
    service = SERVICES[name]
    assert "unless-stopped" == service["restart"]
    assert "CMD" == service["healthcheck"]["test"][0]


def test_what_is_depended_on_is_there_and_says_when() -> None:
    for service in SERVICES.values():
        for other, how in service.get("depends_on", {}).items():
            once = "service_completed_successfully"
            assert how["condition"] == (once if other in ONCE else "service_healthy")


def test_nothing_secret_is_in_it() -> None:
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            is_reference = name.endswith("_FILE") and value.startswith("/run/secrets/")
            assert is_reference or not SECRET_NAMES.search(name), name
    for secret in COMPOSE["secrets"].values():
        assert secret["file"].startswith("deploy/secrets/")
    assert "deploy/edo.env" in (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    kept = (ROOT / "deploy/secrets/.gitignore").read_text(encoding="utf-8").split()
    assert ["*", "!.gitignore"] == kept


def test_named_volumes_and_secrets_are_declared_and_used() -> None:
    mounted = [
        mount.partition(":")[0] for one in SERVICES.values() for mount in one.get("volumes", ())
    ]
    assert set(COMPOSE["volumes"]) == {name for name in mounted if not name.startswith(".")}
    used = {name for service in SERVICES.values() for name in service.get("secrets", ())}
    assert set(COMPOSE["secrets"]) == used


def test_files_that_are_mounted_or_built_from_are_there() -> None:
    for service in SERVICES.values():
        for mount in service.get("volumes", ()):
            source = mount.partition(":")[0]
            assert not source.startswith(".") or (ROOT / source).exists()
        if "build" in service:
            assert (ROOT / service["build"]["dockerfile"]).is_file()


def test_settings_are_known() -> None:
    known = {variable(name) for name in Settings.model_fields}
    given = {
        name
        for service in SERVICES.values()
        for name in service.get("environment", {})
        if name.startswith("EDO_")
    }
    assert given
    assert set() == given - known


def test_workers_have_names_and_data_of_their_own() -> None:
    workers = [service for name, service in SERVICES.items() if name.startswith("worker-")]
    assert 2 == len({one["environment"]["EDO_INSTANCE"] for one in workers})
    assert 2 == len({mount for one in workers for mount in one["volumes"] if "/data" in mount})


def test_ports_are_open_to_this_machine_only() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert ports
    assert [] == [port for port in ports if not port.startswith("127.0.0.1:")]


def test_images_have_versions() -> None:
    images = {service["image"] for service in SERVICES.values()}
    assert [] == [image for image in images if not re.search(r":(?!latest)[\w.]+$", image)]


def test_prometheus_asks_services_that_are_there() -> None:
    config = yaml.safe_load((ROOT / "deploy/prometheus.yml").read_text(encoding="utf-8"))
    targets = [
        target
        for job in config["scrape_configs"]
        for group in job["static_configs"]
        for target in group["targets"]
    ]
    ports = {"worker-1": "6066", "worker-2": "6066", "gateway": "8080"}
    assert sorted(f"{name}:{port}" for name, port in ports.items()) == sorted(targets)


def test_what_the_image_is_built_from_is_sent_to_the_builder() -> None:
    copied = [
        source
        for line in (ROOT / "deploy/Dockerfile").read_text(encoding="utf-8").splitlines()
        if line.startswith("COPY ") and "--from" not in line
        for source in shlex.split(line)[1:-1]
    ]
    sent = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert copied
    for source in copied:
        assert (ROOT / source).exists()
        assert f"!{source}" in sent


def test_the_image_has_what_actions_need() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "sql" in extras["optional-dependencies"]
    assert "'.[sql]'" in (ROOT / "deploy/Dockerfile").read_text(encoding="utf-8")
