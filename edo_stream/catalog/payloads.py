"""Data against its contract: what it is, which version judges it, and what is wrong with it.

A document is an event in the JSON format of CloudEvents (it has ``specversion``), a row change of
Debezium, or data alone. The schema is about the data: of an event its ``data``, of a row change
the row (``after``, or ``before`` of a deletion), as the pipeline sees it.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from edo_stream.catalog.judges import Fault
from edo_stream.registry.declaration import Declaration

_REQUIRED: Final = ("id", "source", "type")
_VERSION: Final = re.compile(r"(?:^|[/.:_-])v?([1-9][0-9]{0,5})(?:\.schema\.json|\.avsc)?$")


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
    for name in ("dataschemaversion", "dataschema"):
        value = document.get(name)
        found = _VERSION.search(str(value)) if isinstance(value, (str, int)) else None
        if found is not None:
            return int(found[1])
    return None


def data_of(document: Any, codec: str) -> Any:
    """The part of a document that the schema is about."""
    if is_event(document):
        return document.get("data")
    if codec == "debezium" and isinstance(document, dict):
        payload = document.get("payload", document)
        if isinstance(payload, dict) and "op" in payload:
            after = payload.get("after")
            return payload.get("before") if after is None else after
    return document


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
    allowed = [one.source for one in declaration.producers if one.source is not None]
    source = document.get("source")
    if not allowed or not isinstance(source, str) or source in allowed:
        return []
    message = f"{source} is none of the producers' sources: {', '.join(allowed)}"
    return [Fault("/source", "producer", message)]
