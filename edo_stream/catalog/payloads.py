"""Data against its contract: what it is, which version judges it, and what is wrong with it.

A document is an event in the JSON format of CloudEvents (it has ``specversion``), a row change of
Debezium, or data alone. The schema is about the data: of an event its ``data``, of a row change
the row (``after``, or ``before`` of a deletion), as the pipeline sees it.
"""

import base64
import json
from collections.abc import Mapping
from typing import Any, Final

import orjson

from edo_stream.catalog.judges import Fault
from edo_stream.registry.declaration import Declaration
from edo_stream.schemas.versions import named_version

_REQUIRED: Final = ("id", "source", "type")


def parsed_document(content: bytes | str) -> Any:
    """A document, if workers could read it.

    Python takes more for JSON than they do: ``NaN``, numbers that no double holds, and halves of
    surrogate pairs, which are no text.

    Raises:
        ValueError: it is not JSON.
        RecursionError: it is nested too deeply.
    """
    if isinstance(content, bytes):
        content = content.decode(json.detect_encoding(content), "surrogatepass")
    document = json.loads(content)
    orjson.loads(content)
    return document


def is_event(document: Any) -> bool:
    """Whether a document is a CloudEvent in JSON."""
    return isinstance(document, dict) and "specversion" in document


def topic_of_event(document: Any) -> str | None:
    """The topic that an event belongs to, by its type."""
    kind = document.get("type") if is_event(document) else None
    return kind if isinstance(kind, str) else None


def version_of_event(document: Any) -> int | None:
    """Version that an event names: by ``dataschemaversion``, or the end of ``dataschema``."""
    if not is_event(document):
        return None
    said = document.get("dataschemaversion")
    if isinstance(said, (str, int)) and not isinstance(said, bool):
        text = str(said).removeprefix("v")
        # A version that is no number is none that there is.
        return int(text) if text.isascii() and text.isdigit() else 0
    schema = document.get("dataschema")
    return named_version(schema) if isinstance(schema, str) else None


def data_of(document: Any, codec: str) -> tuple[str, Any]:
    """Where the part of a document is that the schema is about, and that part."""
    if is_event(document):
        if "data_base64" in document:
            return "/data_base64", _binary(document["data_base64"])
        return "/data", document.get("data")
    if codec == "debezium" and isinstance(document, dict):
        is_wrapped = "payload" in document
        payload = document["payload"] if is_wrapped else document
        if isinstance(payload, dict) and "op" in payload:
            image = "before" if payload.get("after") is None else "after"
            return f"{'/payload' if is_wrapped else ''}/{image}", payload.get(image)
    return "", document


def _binary(text: Any) -> Any:
    """Data that is written in base64: the JSON that it is, or the text itself."""
    try:
        return json.loads(base64.b64decode(text, validate=True))
    except (TypeError, ValueError, RecursionError):
        return text


def envelope_faults(document: Any, declaration: Declaration, today: str) -> list[Fault]:
    """What is wrong with an event around its data; nothing for data alone."""
    if not is_event(document):
        return []
    faults = [
        Fault(f"/{name}", "required", f"an event has {name}, and it is not empty")
        for name in _REQUIRED
        if not isinstance(document.get(name), str) or not document[name]
    ]
    if document["specversion"] != "1.0":
        faults.append(Fault("/specversion", "const", 'write "1.0"'))
    kind = document.get("type")
    if isinstance(kind, str) and kind and kind != declaration.name:
        faults.append(Fault("/type", "const", f"{kind} is not {declaration.name}"))
    faults += _producer_faults(document, declaration)
    expiry = document.get("expirytime")
    if isinstance(expiry, str) and expiry < today:
        faults.append(Fault("/expirytime", "expired", f"expired at {expiry}"))
    return faults


def _producer_faults(document: Mapping[str, Any], declaration: Declaration) -> list[Fault]:
    found = []
    names = [one.name for one in declaration.producers]
    sources = [one.source for one in declaration.producers if one.source is not None]
    for attribute, allowed in (("source", sources), ("producer", names)):
        said = document.get(attribute)
        if allowed and isinstance(said, str) and said not in allowed:
            message = f"{said} is none of the producers': {', '.join(allowed)}"
            found.append(Fault(f"/{attribute}", "producer", message))
    return found
