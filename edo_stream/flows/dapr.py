"""Dapr's resources from contracts and flows: a component, subscriptions, and resiliency.

For services behind Dapr that read what workers write, and for flows that call them:

- *Component*: one ``pubsub.kafka`` on the same broker; passwords and keys by reference to a secret.
- *Subscriptions*: one a topic, to its results where it has any, for the consumers that the contract
  names; in bulk, and with the contract's dead letter topic for what a service cannot handle.
- *Resiliency*: what services read is tried again as the contract says. What flows call is not: a
  flow tries again itself, and would do so as often as Dapr each time. Time limits and breakers are
  those of the flows; Dapr's breaker knows failures in a row, and no share of them.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from edo_stream.flows.actions import DaprAction
from edo_stream.flows.declaration import FlowDeclaration
from edo_stream.flows.flow import Flows
from edo_stream.registry.contracts import dead_letters_of
from edo_stream.registry.declaration import Declaration, Retry

#: Names of the component and of the secret that its password and keys are in.
COMPONENT: Final = "edo-kafka"
_SECRET_STORE: Final = "kubernetes"  # noqa: S105 - a store's name
_BULK: Final = {"enabled": True, "maxMessagesCount": 100, "maxAwaitDurationMs": 100}
_MECHANISMS: Final = {
    "PLAIN": "PLAINTEXT",
    "SCRAM-SHA-256": "SHA-256",
    "SCRAM-SHA-512": "SHA-512",
}
_INBOUND: Final = "edo-inbound"
_ONCE: Final = "edo-once"
#: Dapr's Kafka client does not read batches of records below this by itself.
_HEADROOM_BYTES: Final = 64 * 1024

Resource = dict[str, Any]


def dapr_files(
    declarations: Sequence[Declaration], flows: Flows, access: Mapping[str, str | None]
) -> dict[str, list[Resource]]:
    """Resources by file; ``access`` says how the broker is reached, in the words of the settings.

    ``broker``, ``security_protocol``, ``sasl_mechanism``, ``sasl_username``, ``tls_ca_file`` and
    ``tls_cert_file``. In self-hosted mode Dapr reads resiliency from a file of that name only.
    """
    return {
        "pubsub.yaml": [_component(declarations, access)],
        "subscriptions.yaml": _subscriptions(declarations),
        "resiliency.yaml": [_resiliency(declarations, flows)],
    }


def _component(declarations: Sequence[Declaration], access: Mapping[str, str | None]) -> Resource:
    largest = max((one.record_bytes_max for one in declarations), default=1 << 20)
    metadata: list[dict[str, Any]] = [
        _value("brokers", access["broker"] or ""),
        # Each service reads all events once: Dapr takes its id for the group.
        _value("initialOffset", "oldest"),
        _value("maxMessageBytes", str(largest + _HEADROOM_BYTES)),
        _value("escapeHeaders", "true"),
    ]
    protocol = access["security_protocol"] or "PLAINTEXT"
    if protocol.startswith("SASL"):
        metadata += [
            _value("authType", "password"),
            _value("saslMechanism", _MECHANISMS[access["sasl_mechanism"] or "PLAIN"]),
            _value("saslUsername", access["sasl_username"] or ""),
            _secret("saslPassword", "sasl-password"),
        ]
    elif access["tls_cert_file"] is not None:
        metadata += [
            _value("authType", "mtls"),
            _secret("clientCert", "tls.crt"),
            _secret("clientKey", "tls.key"),
        ]
    else:
        metadata.append(_value("authType", "none"))
    if protocol.endswith("PLAINTEXT"):
        metadata.append(_value("disableTls", "true"))
    elif access["tls_ca_file"] is not None:
        metadata.append(_secret("caCert", "ca.crt"))
    resource: Resource = _resource("v1alpha1", "Component", COMPONENT)
    resource["spec"] = {"type": "pubsub.kafka", "version": "v1", "metadata": metadata}
    if any("secretKeyRef" in one for one in metadata):
        resource["auth"] = {"secretStore": _SECRET_STORE}
    return resource


def _value(name: str, value: str) -> dict[str, Any]:
    return {"name": name, "value": value}


def _secret(name: str, key: str) -> dict[str, Any]:
    return {"name": name, "secretKeyRef": {"name": COMPONENT, "key": key}}


def _subscriptions(declarations: Sequence[Declaration]) -> list[Resource]:
    by_topic: dict[str, list[Declaration]] = {}
    for one in declarations:
        topic = one.name if one.emit is None else one.emit.topic
        by_topic.setdefault(topic, []).append(one)
    return [_subscription(topic, sources) for topic, sources in by_topic.items()]


def _subscription(topic: str, sources: Sequence[Declaration]) -> Resource:
    """To a topic that the results of one contract go to, or of several."""
    resource = _resource("v2alpha1", "Subscription", _name_of(topic))
    resource["spec"] = {
        "pubsubname": COMPONENT,
        "topic": topic,
        "routes": {"default": f"/events/{topic}"},
        "deadLetterTopic": dead_letters_of(sources[0]),
        "bulkSubscribe": dict(_BULK),
    }
    consumers = sorted({consumer.name for one in sources for consumer in one.consumers})
    if consumers:
        resource["scopes"] = consumers
    return resource


def _resiliency(declarations: Sequence[Declaration], flows: Flows) -> Resource:
    apps, components = _called(flows)
    policies: dict[str, dict[str, Any]] = {
        "timeouts": {},
        "retries": {_INBOUND: _retry(one.retry or Retry() for one in declarations)},
        "circuitBreakers": {},
    }
    targets: dict[str, dict[str, Any]] = {
        "apps": {},
        "components": {COMPONENT: {"inbound": {"retry": _INBOUND}}},
    }
    if apps or components:
        policies["retries"][_ONCE] = {"policy": "constant", "duration": "1s", "maxRetries": 0}
    for app, callers in apps.items():
        name = f"app-{_name_of(app)}"
        _add_limits(policies, name, callers)
        targets["apps"][app] = {"timeout": name, "retry": _ONCE, "circuitBreaker": name}
    for component, callers in components.items():
        name = f"component-{_name_of(component)}"
        _add_limits(policies, name, callers)
        outbound = {"timeout": name, "retry": _ONCE, "circuitBreaker": name}
        targets["components"].setdefault(component, {})["outbound"] = outbound
    resource = _resource("v1alpha1", "Resiliency", "edo")
    resource["spec"] = {"policies": policies, "targets": targets}
    return resource


_Callers = dict[str, list[tuple[FlowDeclaration, DaprAction]]]


def _called(flows: Flows) -> tuple[_Callers, _Callers]:
    """Services and components that flows call, and by which actions."""
    apps: _Callers = {}
    components: _Callers = {}
    for flow in flows.flows.values():
        declaration = flow.declaration
        for action in (declaration.action, declaration.fallback):
            if not isinstance(action, DaprAction):
                continue
            where = action.invoke or action.publish or ""
            callers = apps if action.invoke is not None else components
            callers.setdefault(where.partition("/")[0], []).append((declaration, action))
    return apps, components


def _add_limits(
    policies: dict[str, dict[str, Any]],
    name: str,
    callers: list[tuple[FlowDeclaration, DaprAction]],
) -> None:
    """Those of the flow that is the most patient."""
    breakers = [declaration.breaker for declaration, _ in callers]
    failures = max(breaker.consecutive for breaker in breakers)
    policies["timeouts"][name] = _time(max(action.timeout for _, action in callers))
    policies["circuitBreakers"][name] = {
        "maxRequests": 1,
        "timeout": _time(max(breaker.open for breaker in breakers)),
        "trip": f"consecutiveFailures >= {failures}",
    }


def _retry(retries: Iterable[Retry]) -> dict[str, Any]:
    """How delivery is tried again: a component has one policy, that of its most patient topic."""
    most = max(retries, key=lambda retry: (retry.retries, retry.max), default=Retry())
    if most.factor == 1:
        return {
            "policy": "constant",
            "duration": _time(most.initial),
            "maxRetries": most.retries,
        }
    return {"policy": "exponential", "maxInterval": _time(most.max), "maxRetries": most.retries}


def _time(ms: int) -> str:
    """A duration as Go reads it."""
    return f"{ms // 1000}s" if ms % 1000 == 0 else f"{ms}ms"


def _name_of(text: str) -> str:
    """A name that Kubernetes takes."""
    return re.sub(r"[^a-z0-9.-]+", "-", text.lower()).strip("-.") or "unnamed"


def _resource(version: str, kind: str, name: str) -> Resource:
    return {"apiVersion": f"dapr.io/{version}", "kind": kind, "metadata": {"name": name}}
