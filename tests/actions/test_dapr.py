"""Dapr's resources, as its own schemas want them: from contracts and flows."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml
from typer.testing import CliRunner, Result

from edo_stream.actions.executors import executor_of
from edo_stream.actions.outside import Outside
from edo_stream.cli.main import app
from edo_stream.flows import load_flows
from edo_stream.registry import load

BESIDE = Path(__file__).parents[3] / "shared" / "conformance"
FOLDER = Path(os.environ.get("EDO_CONFORMANCE", BESIDE)) / "tool_schemas" / "dapr"
ROOT = Path(__file__).parents[2]
CALL = """\
name: {name}
owner: team-shipping
description: Ships.
on: shop.order.placed
breaker: {{consecutive: {failures}, open: 2500ms}}
action: {{kind: dapr, {action}, timeout: {timeout}, idempotency_key: command, replay: safe}}
"""

Export = Callable[..., Result]


@pytest.fixture
def export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Export:
    flows = tmp_path / "flows"
    flows.mkdir()
    for name, action, timeout, failures in (
        ("ship", "invoke: 'shipping/orders/{{ data.id }}'", "5s", 10),
        ("ship-again", "invoke: shipping/again", "20s", 3),
        ("tell", "publish: other-pubsub/told", "500ms", 5),
        ("tell-ours", "publish: edo-kafka/told", "1s", 5),
    ):
        text = CALL.format(name=name, action=action, timeout=timeout, failures=failures)
        (flows / f"{name}.yaml").write_text(text)
    monkeypatch.setenv("EDO_TOPICS", str(ROOT / "topics"))
    monkeypatch.setenv("EDO_FLOWS", str(flows))
    return lambda *arguments: CliRunner().invoke(app, ["contracts", "export", "dapr", *arguments])


def resources(export: Export, *arguments: str) -> dict[str, Any]:
    result = export(*arguments)
    assert result.exit_code == 0, result.output
    return {
        f"{one['kind']} {one['metadata']['name']}": one for one in yaml.safe_load_all(result.stdout)
    }


def test_results_are_subscribed_to_in_bulk_with_the_contract_s_dead_letters(export: Export) -> None:
    one = resources(export)["Subscription shop.order.accepted"]
    assert one["spec"] == {
        "pubsubname": "edo-kafka",
        "topic": "shop.order.accepted",
        "routes": {"default": "/events/shop.order.accepted"},
        "deadLetterTopic": "edo.dead-letters.shop.order.placed",
        "bulkSubscribe": {"enabled": True, "maxMessagesCount": 100, "maxAwaitDurationMs": 100},
    }
    assert one["scopes"] == ["shipping"]


def test_what_flows_call_has_their_limits_and_no_retries_besides_theirs(export: Export) -> None:
    spec = resources(export)["Resiliency edo"]["spec"]
    assert spec["targets"]["apps"] == {
        "shipping": {
            "timeout": "app-shipping",
            "retry": "edo-once",
            "circuitBreaker": "app-shipping",
        }
    }
    assert spec["policies"]["retries"]["edo-once"]["maxRetries"] == 0
    assert spec["policies"]["timeouts"] == {
        "app-shipping": "20s",
        "component-other-pubsub": "500ms",
        "component-edo-kafka": "1s",
    }
    assert spec["policies"]["circuitBreakers"]["app-shipping"] == {
        "maxRequests": 1,
        "timeout": "2500ms",
        "trip": "consecutiveFailures >= 10",
    }
    components = spec["targets"]["components"]
    assert sorted(components) == ["edo-kafka", "other-pubsub"]
    assert sorted(components["edo-kafka"]) == ["inbound", "outbound"]
    inbound = spec["policies"]["retries"][components["edo-kafka"]["inbound"]["retry"]]
    assert inbound == {"policy": "exponential", "maxInterval": "30s", "maxRetries": 5}


def test_a_broker_that_asks_who_it_is_is_told_by_a_secret(
    export: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDO_SECURITY_PROTOCOL", "SASL_SSL")
    monkeypatch.setenv("EDO_SASL_MECHANISM", "SCRAM-SHA-512")
    monkeypatch.setenv("EDO_SASL_USERNAME", "edo")
    monkeypatch.setenv("EDO_SASL_PASSWORD", "s3cret-word")
    result = export()
    assert "s3cret-word" not in result.stdout
    component = resources(export)["Component edo-kafka"]
    assert component["auth"] == {"secretStore": "kubernetes"}
    said = {one["name"]: one for one in component["spec"]["metadata"]}
    assert said["saslMechanism"]["value"] == "SHA-512"
    assert said["saslPassword"]["secretKeyRef"] == {"name": "edo-kafka", "key": "sasl-password"}
    assert "disableTls" not in said


def test_a_folder_has_a_file_each_and_json_is_a_list(export: Export, tmp_path: Path) -> None:
    out = tmp_path / "components"
    assert export("--out", str(out)).exit_code == 0
    assert sorted(file.name for file in out.iterdir()) == [
        "pubsub.yaml",
        "resiliency.yaml",
        "subscriptions.yaml",
    ]
    written = [
        one for file in sorted(out.iterdir()) for one in yaml.safe_load_all(file.read_text())
    ]
    listed = json.loads(export("--json").stdout)
    assert sorted(map(str, written)) == sorted(map(str, listed))


def test_only_the_topics_that_are_named_are_subscribed_to(export: Export) -> None:
    names = resources(export, "shop.payment.received")
    assert [name for name in names if name.startswith("Subscription")] == [
        "Subscription shop.payment.accepted"
    ]
    unknown = export("shop.nowhere")
    assert unknown.exit_code != 0


def test_a_flow_with_mistakes_is_refused(export: Export, tmp_path: Path) -> None:
    (tmp_path / "flows" / "ship.yaml").write_text("name: ship\n")
    result = export()
    assert result.exit_code != 0
    assert "owner is missing" in str(result.exception)


# -- Dapr's own schemas


def closed(schema: Any) -> Any:
    """A schema of Kubernetes, which drops what it does not know: here that is a mistake."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {key: closed(value) for key, value in schema.items() if key != "format"}
    if isinstance(inner.get("properties"), dict) and inner.get("type") == "object":
        inner.setdefault("additionalProperties", False)
    return inner


def crds() -> Iterator[tuple[tuple[str, str], Any]]:
    for file in sorted((FOLDER / "crds").glob("*.yaml")):
        for document in yaml.safe_load_all(file.read_text()):
            spec = document["spec"]
            for version in spec["versions"]:
                schema = closed(version["schema"]["openAPIV3Schema"])
                yield (f"dapr.io/{version['name']}", spec["names"]["kind"]), schema


@pytest.mark.skipif(not FOLDER.is_dir(), reason="third-party schemas are not here")
@pytest.mark.parametrize("protocol", ["PLAINTEXT", "SSL", "SASL_SSL"])
def test_every_resource_is_what_dapr_s_schemas_want(
    export: Export, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, protocol: str
) -> None:
    monkeypatch.setenv("EDO_SECURITY_PROTOCOL", protocol)
    if protocol == "SASL_SSL":
        monkeypatch.setenv("EDO_SASL_MECHANISM", "PLAIN")
        monkeypatch.setenv("EDO_SASL_USERNAME", "edo")
        monkeypatch.setenv("EDO_SASL_PASSWORD", "s3cret-word")
    if protocol == "SSL":
        for name in ("CA", "CERT", "KEY"):
            (tmp_path / name).write_text("-")
            monkeypatch.setenv(f"EDO_TLS_{name}_FILE", str(tmp_path / name))
    schemas = dict(crds())
    found = resources(export).values()
    assert {one["kind"] for one in found} == {"Component", "Subscription", "Resiliency"}
    for one in found:
        jsonschema_rs.validate(schemas[one["apiVersion"], one["kind"]], one)
    (component,) = (one for one in found if one["kind"] == "Component")
    said = {one["name"]: one.get("value") for one in component["spec"]["metadata"]}
    known = yaml.safe_load((FOLDER / "component_metadata" / "pubsub_kafka.yaml").read_text())
    profiles = [
        profile
        for profile in known["authenticationProfiles"]
        if said["authType"] in _named(profile)["authType"]["allowedValues"]
    ]
    allowed = {**_named(known), **_named(profiles[0])}
    assert set(said) - set(allowed) == set()
    needed = {name for name, one in allowed.items() if one.get("required")}
    assert needed - set(said) == set()
    for name, value in said.items():
        assert value is None or value in allowed[name].get("allowedValues", [value]), name


def _named(part: Any) -> dict[str, Any]:
    return {one["name"]: one for one in part["metadata"]}


# -- and the calls themselves


def test_a_call_goes_to_the_sidecar_with_the_command_s_id(tmp_path: Path) -> None:
    registry = load(ROOT / "topics")
    (tmp_path / "tell.yaml").write_text(
        CALL.format(name="tell", action="publish: pubsub/told", timeout="1s", failures=2)
    )
    flow = load_flows(tmp_path, registry).flows["tell"]
    made: Any = executor_of(flow.declaration.action, flow, registry, Outside(lambda: 0))
    url = made._executor._request.url.fill({"id": "c/1", "key": "o 7"})
    assert url == (
        "http://127.0.0.1:3500/v1.0/publish/pubsub/told"
        "?metadata.cloudevent.id=c%2F1&metadata.partitionKey=o%207"
    )
