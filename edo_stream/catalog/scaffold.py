"""First files of a topic and of a project: they pass the lint, and run as they are."""

import json
import re
from dataclasses import dataclass
from math import ceil
from typing import Any, Final

from edo_stream.catalog.contract_schema import contract_schema
from edo_stream.catalog.rules.promises import PARTITION_EVENTS_PER_S
from edo_stream.catalog.tense import is_past

#: Fewer would have to grow soon, and growing moves keys.
_PARTITIONS_MIN: Final = 4
_PROJECT_TOPIC: Final = "shop.order.placed"
_PROJECT_FLOW: Final = "confirm-order"
PROJECT_RESULT: Final = "shop.order.confirmed"
"""Where the flow of a new project writes."""


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """What a new topic is asked to be."""

    name: str
    owner: str
    kind: str = "event"
    schema_format: str = "json"
    peak_per_s: float = 100
    schema_of_contracts: str = ""
    """Path of the JSON Schema for editors, as seen from the contract; may be empty."""
    writer: str | None = None
    """The flow that writes it, for a topic of results, which no worker reads."""


def topic_files(plan: TopicPlan) -> dict[str, str]:
    """Files of a new topic by their path in its folder."""
    suffix = {"json": "schema.json", "avro": "avsc"}[plan.schema_format]
    entity = plan.name.split(".")[1]
    schema = _avro_schema(plan) if plan.schema_format == "avro" else _json_schema(plan)
    data = {entity_key(entity): {"id": f"{entity}-1017"}, "amount": "129.90"}
    return {
        "contract.yaml": _contract(plan),
        f"v1.{suffix}": _json(schema),
        "examples/v1.first.json": _json(_event(plan, data)),
        "examples/invalid/v1.without-id.json": _json({entity_key(entity): {}, "amount": "1.00"}),
    }


def kind_of(name: str) -> str:
    """What a topic is, going by its name."""
    return "event" if is_past(name) else "command"


def entity_key(entity: str) -> str:
    """An entity as a name of a field, which Avro wants without ``-``."""
    key = re.sub(r"[^a-z0-9]+", "_", entity)
    return key if key[0].isalpha() else f"_{key}"


def _contract(plan: TopicPlan) -> str:
    domain, entity, *rest = plan.name.split(".")
    what = rest[-1].replace("-", " ").replace("_", " ")
    is_event = plan.kind == "event"
    peak = max(plan.peak_per_s, 1)
    partitions = max(_PARTITIONS_MIN, ceil(peak / PARTITION_EVENTS_PER_S))
    pointer = f"/{entity_key(entity)}/id"
    editor = (
        f"# yaml-language-server: $schema={plan.schema_of_contracts}\n"
        if plan.schema_of_contracts
        else ""
    )
    description = (
        f"A fact of {domain}: {entity}, {what}." if is_event else f"A request to {what} {entity}."
    )
    producer = f"{{name: {domain}-{entity}, source: /{domain}/{entity}}}"
    emit = f"\nemit:\n  topic: {plan.name}.{'accepted' if is_event else 'done'}\n"
    retry = "retry: {initial: 1s, factor: 2, max: 30s, retries: 5}\n"
    if plan.writer is not None:
        retry = ""
        producer = f"{{name: {plan.writer}}}"
        emit = "\n# Without emit, it is known and created, and no worker reads it.\n"
    return f"""\
{editor}# What may be said here, and what is taken when it is not: edo contracts show {plan.name}

name: {plan.name}
owner: {plan.owner}
description: {json.dumps(description)}
kind: {plan.kind}
category: business               # business, system or integration
classification: internal         # public, internal, confidential or restricted
tags: [{domain}]

producers:
  - {producer}
consumers: []                    # - {{name: billing, group: billing, owner: …, versions: [1]}}

codec: cloudevents
schema:
  format: {plan.schema_format}
  compatibility: BACKWARD        # a new version reads what older ones wrote
  versions:
    1: {{note: First version.}}
fields:                          # identifier, fact or metadata; keys must not be facts
  {pointer}: identifier
  /amount: fact

partitions: {partitions}
retention: 7d
rate: {{expected: {max(peak / 10, 0.1):g}, peak: {peak:g}}}

key: {pointer}                   # what is kept in order
partition_key: {pointer}         # what producers make the record's key of
dedupe: {{key: [source, id], ttl: 7d}}
ordering: {{policy: key}}

delivery: {{produce: at-least-once, process: effectively-once}}
{retry}dead_letters: {{owner: {plan.owner}, acknowledge_within: 1d}}
slo: {{trigger_to_ready: 5m, percentile: 99}}
{emit}"""


def _json_schema(plan: TopicPlan) -> dict[str, Any]:
    entity = entity_key(plan.name.split(".")[1])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": plan.name,
        "type": "object",
        "required": [entity, "amount"],
        "additionalProperties": False,
        "properties": {
            entity: {
                "type": "object",
                "required": ["id"],
                "additionalProperties": False,
                "properties": {"id": {"type": "string", "minLength": 1}},
            },
            "amount": {
                "type": "string",
                "pattern": "^[0-9]+\\.[0-9]{2}$",
                "description": "A decimal number, as text: no digit is lost on the way.",
            },
        },
    }


def _avro_schema(plan: TopicPlan) -> dict[str, Any]:
    domain, entity, *_ = plan.name.split(".")
    name = "".join(word.capitalize() for word in re.split(r"[._-]", plan.name))
    key = entity_key(entity)
    return {
        "type": "record",
        "name": name,
        "namespace": entity_key(domain),
        "fields": [
            {
                "name": key,
                "type": {
                    "type": "record",
                    "name": f"{name}Entity",
                    "fields": [{"name": "id", "type": "string"}],
                },
            },
            {"name": "amount", "type": "string", "doc": "A decimal number, as text."},
        ],
    }


def _event(plan: TopicPlan, data: dict[str, Any]) -> dict[str, Any]:
    domain, entity, *_ = plan.name.split(".")
    return {
        "specversion": "1.0",
        "id": "5b8f1c1e-7f0a-4b57-9c83-0d1d6b4ad001",
        "source": f"/{domain}/{entity}",
        "type": plan.name,
        "subject": f"{entity}-1017",
        "time": "2026-01-31T12:00:00Z",
        "datacontenttype": "application/json",
        "data": data,
    }


def project_files(name: str) -> dict[str, str]:
    """Files of a new project by their paths: a topic, a flow, settings, and how to run it."""
    schema = "../../contract.schema.json"
    plans = [
        TopicPlan(_PROJECT_TOPIC, "team-orders", schema_of_contracts=schema),
        TopicPlan(PROJECT_RESULT, "team-orders", schema_of_contracts=schema, writer=_PROJECT_FLOW),
    ]
    return {
        "README.md": _README.format(name=name, topic=_PROJECT_TOPIC),
        "edo.env": _SETTINGS.format(service=service_name(name)),
        ".gitignore": "data/\nbuild/\n.venv/\n__pycache__/\n",
        f"flows/{_PROJECT_FLOW}.yaml": _FLOW.format(
            flow=_PROJECT_FLOW, topic=_PROJECT_TOPIC, result=PROJECT_RESULT
        ),
        "contract.schema.json": json.dumps(contract_schema(), indent=2) + "\n",
        **{
            f"topics/{plan.name}/{path}": text
            for plan in plans
            for path, text in topic_files(plan).items()
        },
    }


def service_name(folder: str) -> str:
    """A folder's name as the name of an installation."""
    name = re.sub(r"[^a-z0-9]+", "-", folder.lower()).strip("-")
    return (name if name[:1].isalpha() else f"edo-{name}".rstrip("-"))[:48].rstrip("-")


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


_SETTINGS: Final = """\
# Settings of this project: set -a; . ./edo.env; set +a
# All of them: docs/settings.md of edo_stream.
EDO_SERVICE={service}
EDO_BROKER=127.0.0.1:9092
EDO_TOPICS=topics
EDO_DATA=data
# Copies of the internal topics; 3 in production.
EDO_REPLICATION=1
"""

_FLOW: Final = """\
# What follows from an event; no code is needed for this one.
name: {flow}
owner: team-orders
description: Confirms each order that was placed.
on: {topic}
key: /order/id                   # commands of one order run one after the other
action:
  kind: record                   # http, program, sql, python … see docs/flows.md of edo_stream
  topic: {result}    # with the event's data, unless value: says other
  idempotency_key: command
  replay: safe
"""

_README: Final = """\
# {name}

Topics of facts are declared under `topics/`, what follows from them under `flows/`. Workers of
edo_stream validate events, tell duplicates, put them in order by key, and write each once to the
topic that `emit` names; for each, the flow `confirm-order` writes an event to
`shop.order.confirmed`. No code is needed for that.

```console
$ set -a; . ./edo.env; set +a      # where the broker is, and who we are
$ edo local up                     # a Kafka on this machine, unless there is one
$ edo contracts lint               # every mistake of topics/, with its line
$ edo flow lint                    # and of flows/
$ edo contracts plan               # what would be created
$ edo contracts apply              # create it
$ faust -A edo_stream.app worker -l info
```

In another terminal:

```console
$ set -a; . ./edo.env; set +a
$ edo events publish {topic} topics/{topic}/examples/v1.first.json
$ edo lag                          # how far the workers are behind
$ edo audit                        # every record has exactly one fate
```

Readers of the results use `isolation.level=read_committed`.

A new topic: `edo contracts new shop.payment.received`. A change of a schema is a new file,
`v2.schema.json`; `edo contracts diff --against main` says what it breaks, and for whom.
"""
