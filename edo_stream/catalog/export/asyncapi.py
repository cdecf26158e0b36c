"""The contracts as an AsyncAPI 3.0 document: channels, messages by schema version, operations.

The document describes the workers: they receive from the topics and send results. What AsyncAPI
has no word for stands in ``x-edo-contract`` of the channel: the whole contract, with its defaults.
"""

from collections.abc import Sequence
from typing import Any, Final

from edo_stream.catalog.export.draft_07 import draft_07
from edo_stream.catalog.export.shelf import Shelved
from edo_stream.registry.contracts import dead_letters_of

_VERSION: Final = "3.0.0"
_BINDING: Final = "0.5.0"
_JSON_SCHEMA: Final = "application/schema+json;version=draft-07"
_AVRO: Final = "application/vnd.apache.avro;version=1.9.0"
_ANY: Final = 0
"""Stands for the version of a topic that has no schema."""

_HEADERS: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["ce_id", "ce_source", "ce_type", "ce_specversion"],
    "properties": {
        "ce_id": {"type": "string", "minLength": 1},
        "ce_source": {"type": "string", "minLength": 1},
        "ce_type": {"type": "string", "minLength": 1},
        "ce_specversion": {"type": "string", "enum": ["1.0"]},
        "ce_subject": {"type": "string"},
        "ce_time": {"type": "string", "format": "date-time"},
        "ce_dataschema": {"type": "string"},
        "ce_correlationid": {"type": "string"},
        "ce_causationid": {"type": "string"},
    },
}
_LETTER_HEADERS: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["edo-id", "edo-reason", "edo-topic", "edo-partition", "edo-offset", "edo-owner"],
    "properties": {
        name: {"type": "string"}
        for name in (
            "edo-id",
            "edo-reason",
            "edo-detail",
            "edo-topic",
            "edo-partition",
            "edo-offset",
            "edo-owner",
            "edo-contract",
            "edo-version",
            "edo-pointer",
            "edo-rule",
        )
    },
}


def asyncapi(shelved: Sequence[Shelved], service: str, broker: str) -> dict[str, Any]:
    """Write the document of some topics, and of those that their results and letters go to."""
    document: dict[str, Any] = {
        "asyncapi": _VERSION,
        "info": {
            "title": service,
            "version": "1.0.0",
            "description": "Topics of events, as their contracts declare them.",
        },
        "defaultContentType": "application/json",
        "servers": {
            "kafka": {
                "host": broker.partition(",")[0],
                "protocol": "kafka",
                "description": "Bootstrap server.",
            }
        },
        "channels": {},
        "operations": {},
        "components": {
            "schemas": {"cloudEventHeaders": _HEADERS, "deadLetterHeaders": _LETTER_HEADERS},
            "messages": {"deadLetter": _DEAD_LETTER},
            "correlationIds": {
                "correlation": {"location": "$message.header#/ce_correlationid"},
            },
        },
    }
    declared = {one.name for one in shelved}
    for one in shelved:
        _add_messages(document, one)
        document["channels"][one.name] = _channel(one)
    for one in shelved:
        _add_work(document, one, declared)
    return document


_DEAD_LETTER: Final[dict[str, Any]] = {
    "name": "deadLetter",
    "title": "A record that went no further",
    "summary": "The original record, byte for byte, and why it was refused.",
    "headers": {"$ref": "#/components/schemas/deadLetterHeaders"},
}


def _add_messages(document: dict[str, Any], one: Shelved) -> None:
    components = document["components"]
    for version, schema in one.schemas.items():
        name = _message(one.name, version)
        where = f"#/components/schemas/{name}/schema"
        is_avro = one.is_avro
        components["schemas"][name] = {
            "schemaFormat": _AVRO if is_avro else _JSON_SCHEMA,
            "schema": schema if is_avro else draft_07(schema, where),
        }
    for version in one.schemas or (_ANY,):
        components["messages"][_message(one.name, version)] = _message_of(one, version)


def _message_of(one: Shelved, version: int) -> dict[str, Any]:
    declaration = one.declaration
    name = _message(one.name, version)
    message: dict[str, Any] = {
        "name": name,
        "title": declaration.description,
        "contentType": "avro/binary" if one.is_avro else "application/json",
        "correlationId": {"$ref": "#/components/correlationIds/correlation"},
        "bindings": {
            "kafka": {
                "key": {"type": "string", "description": f"Made of {declaration.record_key}."},
                "bindingVersion": _BINDING,
            }
        },
    }
    if declaration.codec == "cloudevents":
        message["headers"] = {"$ref": "#/components/schemas/cloudEventHeaders"}
    if version != _ANY:
        message["payload"] = {"$ref": f"#/components/schemas/{name}"}
        message["summary"] = declaration.versions[version].note
    examples = one.examples.get(version, []) if not one.is_avro else []
    if examples and all(isinstance(data, dict) for _, data in examples):
        message["examples"] = [{"name": label, "payload": data} for label, data in examples]
    return message


def _channel(one: Shelved) -> dict[str, Any]:
    declaration = one.declaration
    channel: dict[str, Any] = {
        "address": one.name,
        "title": one.name,
        "description": declaration.description,
        "messages": {
            name: {"$ref": f"#/components/messages/{name}"}
            for name in (_message(one.name, version) for version in one.schemas or (_ANY,))
        },
        "bindings": {
            "kafka": {
                "topic": one.name,
                "partitions": declaration.partitions,
                "replicas": declaration.replication,
                "topicConfiguration": {
                    "cleanup.policy": declaration.cleanup.split(","),
                    "retention.ms": declaration.retention,
                    "max.message.bytes": declaration.record_bytes_max,
                },
                "bindingVersion": _BINDING,
            }
        },
        "x-edo-contract": dict(one.values),
    }
    if declaration.tags:
        channel["tags"] = [{"name": tag} for tag in dict.fromkeys(declaration.tags)]
    return channel


def _add_work(document: dict[str, Any], one: Shelved, declared: set[str]) -> None:
    """Operations of the workers on a topic, and the channels of what they write."""
    emit = one.declaration.emit
    if emit is None:
        return
    channels, operations = document["channels"], document["operations"]
    versions = one.schemas or (_ANY,)
    sent = emit.version or one.newest or _ANY
    if emit.topic not in declared:
        known = channels.setdefault(emit.topic, _written(emit.topic, f"Results of {one.name}."))
        name = _message(one.name, sent)
        known["messages"][name] = {"$ref": f"#/components/messages/{name}"}
    letters = dead_letters_of(one.declaration)
    channels.setdefault(letters, _written(letters, "Records that went no further."))
    channels[letters]["messages"] = {"deadLetter": {"$ref": "#/components/messages/deadLetter"}}
    group = one.values["group"]
    operations[f"process.{one.name}"] = {
        "action": "receive",
        "channel": {"$ref": f"#/channels/{one.name}"},
        "summary": one.declaration.description,
        "messages": [_of_channel(one.name, _message(one.name, version)) for version in versions],
        "x-edo-group": group,
    }
    names = list(channels[emit.topic]["messages"]) if emit.topic in declared else None
    operations[f"emit.{one.name}"] = {
        "action": "send",
        "channel": {"$ref": f"#/channels/{emit.topic}"},
        "summary": f"Events of {one.name}, each once and in order.",
        "messages": [_of_channel(emit.topic, name) for name in names or [_message(one.name, sent)]],
    }
    operations[f"refuse.{one.name}"] = {
        "action": "send",
        "channel": {"$ref": f"#/channels/{letters}"},
        "summary": f"Records of {one.name} that are no events by its contract.",
        "messages": [_of_channel(letters, "deadLetter")],
        "x-edo-owner": one.values["dead_letters"]["owner"],
    }


def _written(address: str, description: str) -> dict[str, Any]:
    return {"address": address, "title": address, "description": description, "messages": {}}


def _of_channel(channel: str, message: str) -> dict[str, str]:
    return {"$ref": f"#/channels/{channel}/messages/{message}"}


def _message(topic: str, version: int) -> str:
    return topic if version == _ANY else f"{topic}.v{version}"
