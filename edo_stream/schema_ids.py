"""Ids that a schema registry has for the versions of our contracts, for data in its wire format.

The files are the truth: a version's schema is the one beside its contract, and the registry only
says by which number others know it. When it does not answer, what it said last is used (a file in
the data folder); without that, readers take an id for what it is, a number before the data.
"""

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from edo_stream.registry.enforced import schema_file
from edo_stream.registry.entry import Entry
from edo_stream.schemas.compatibility import SchemaFormat
from edo_stream.schemas.remote import RemoteError, SchemaRegistry, UnreachableError
from edo_stream.settings import Settings

log = logging.getLogger(__name__)

_CACHE: Final = "schema-ids.json"
Ids = dict[str, dict[int, int]]
"""Ids by topic and version."""


def remote_registry(settings: Settings) -> SchemaRegistry | None:
    """The registry of the settings, if there is one."""
    if settings.schema_registry is None:
        return None
    user, password = settings.schema_registry_username, settings.schema_registry_password
    secret = "" if password is None else password.get_secret_value()
    credentials = None if user is None else (user, secret)
    return SchemaRegistry(settings.schema_registry, credentials)


def framed_entries(entries: Iterable[Entry]) -> list[Entry]:
    """Topics whose data has a schema's id before it."""
    return [
        entry
        for entry in entries
        if entry.declaration.schema_ is not None and entry.declaration.schema_.wire == "confluent"
    ]


def schema_ids(settings: Settings, entries: Iterable[Entry]) -> Ids:
    """Look up what is registered; a version that is not, is left out."""
    wanted = framed_entries(entries)
    remote = remote_registry(settings)
    if not wanted or remote is None:
        return {}
    cache = settings.data / _CACHE
    known = _read(cache)
    found: Ids = {}
    for entry in wanted:
        for version, schema in _versions(entry):
            name = _name(settings.schema_registry, entry.name, schema)
            schema_id = _lookup(remote, entry, schema, known.get(name))
            if schema_id is not None:
                known[name] = schema_id
                found.setdefault(entry.name, {})[version] = schema_id
    _write(cache, known)
    return found


def unregistered(remote: SchemaRegistry, entry: Entry) -> list[int]:
    """Versions of a topic's schema that the registry does not know under the topic's subject.

    Raises:
        RemoteError: a question is refused.
        UnreachableError: nobody answers.
    """
    subject = subject_of(entry.name)
    return [
        version
        for version, schema in _versions(entry)
        if remote.lookup(subject, _format(entry), schema) is None
    ]


def register(remote: SchemaRegistry, entry: Entry) -> dict[int, int]:
    """Register all versions of a topic's schema, oldest first; the id of each.

    Raises:
        RemoteError: one is refused.
        UnreachableError: nobody answers.
    """
    return {
        version: remote.register(subject_of(entry.name), _format(entry), schema)
        for version, schema in _versions(entry)
    }


def subject_of(topic: str) -> str:
    """The subject of a topic's data, as Confluent's clients name it unless told otherwise."""
    return f"{topic}-value"


def _lookup(remote: SchemaRegistry, entry: Entry, schema: Any, known: int | None) -> int | None:
    if known is not None:
        # An id means the same schema for ever.
        return known
    try:
        return remote.lookup(subject_of(entry.name), _format(entry), schema)
    except UnreachableError as error:
        log.warning("ids of %s are not known: %s", entry.name, error, extra={"topic": entry.name})
    except RemoteError as error:
        log.warning("ids of %s: %s", entry.name, error, extra={"topic": entry.name})
    return None


def _versions(entry: Entry) -> list[tuple[int, Any]]:
    schema = entry.declaration.schema_
    assert schema is not None, "asked of topics with a schema"
    return [
        (number, json.loads(schema_file(entry.file, schema, number).read_bytes()))
        for number in sorted(schema.versions)
    ]


def _format(entry: Entry) -> SchemaFormat:
    assert entry.declaration.schema_ is not None, "asked of topics with a schema"
    return SchemaFormat(entry.declaration.schema_.format)


def _name(url: str | None, topic: str, schema: Any) -> str:
    text = json.dumps([url, topic, schema], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _read(cache: Path) -> dict[str, int]:
    try:
        found = json.loads(cache.read_bytes())
    except (OSError, ValueError):
        return {}
    return (
        {str(n): i for n, i in found.items() if isinstance(i, int)}
        if isinstance(found, dict)
        else {}
    )


def _write(cache: Path, known: Mapping[str, int]) -> None:
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        cache.write_text(json.dumps(known, indent=1, sort_keys=True), encoding="utf-8")
    except OSError as error:
        log.warning("%s is not written: %s", cache, error)
