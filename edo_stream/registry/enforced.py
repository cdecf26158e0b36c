"""What a declared topic enforces: its contract, schemas and casts, read and compiled."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

import orjson

from edo_stream.core.contract import Codec
from edo_stream.registry.declaration import Declaration, Schema
from edo_stream.registry.document import read
from edo_stream.registry.finding import Finding, RegistryError
from edo_stream.schemas.compatibility import SchemaFormat
from edo_stream.schemas.enforcement import ContractRules
from edo_stream.schemas.errors import SchemaError
from edo_stream.schemas.versions import Declared, Versions

SUFFIXES: Final = {"json": ".schema.json", "avro": ".avsc"}


Files = Mapping[str, bytes]
"""What lies beside a contract, by name."""


def rules_of(
    declaration: Declaration,
    file: Path,
    schema_ids: Mapping[int, int] | None = None,
    files: Files | None = None,
) -> ContractRules:
    """Compile what is enforced of a topic; ``file`` is its contract, beside which schemas are.

    ``schema_ids`` are those of a schema registry, by version; ``files`` stand for those on disk.

    Raises:
        RegistryError: a schema or a cast cannot be used.
    """
    schema = declaration.schema_
    versions, pinned = None, None
    if schema is not None:
        versions = _versions(schema, _Folder(file, files), declaration.codec)
        pinned = None if declaration.emit is None else declaration.emit.version
        _require_way(versions, pinned, file)
    deprecation = declaration.deprecation
    return ContractRules(
        declaration.name,
        versions,
        pinned,
        is_framed=schema is not None and schema.wire == "confluent",
        ids={schema_id: version for version, schema_id in (schema_ids or {}).items()},
        producers=frozenset(producer.name for producer in declaration.producers),
        sources=frozenset(one.source for one in declaration.producers if one.source is not None),
        sunset_ms=None if deprecation is None else _start_ms(deprecation.sunset),
        sunset_versions=_sunset_versions(declaration),
        warn_until_ms=_warn_until_ms(schema),
        partitions=declaration.partitions,
    )


def schema_file(file: Path, schema: Schema, number: int) -> Path:
    """The file of a version, beside the contract."""
    return file.parent / f"v{number}{SUFFIXES[schema.format]}"


@dataclass(frozen=True, slots=True)
class _Folder:
    """A contract's folder, on disk or not."""

    contract: Path
    files: Files | None

    def place(self, name: str) -> Path:
        """Where a file is, for messages."""
        return self.contract.parent / name

    def content(self, name: str) -> bytes | None:
        """The file; ``None`` if it is not there."""
        if self.files is not None:
            return self.files.get(name)
        try:
            return self.place(name).read_bytes()
        except OSError:
            return None


def _versions(schema: Schema, folder: _Folder, codec: str) -> Versions:
    declared = [_declared(schema, folder, number) for number in sorted(schema.versions)]
    try:
        return Versions(SchemaFormat(schema.format), declared, is_row=codec == Codec.DEBEZIUM.value)
    except SchemaError as error:
        raise RegistryError([Finding(folder.contract, 1, f"schema: {error}")]) from None


def _declared(schema: Schema, folder: _Folder, number: int) -> Declared:
    place = schema_file(folder.contract, schema, number)
    content = folder.content(place.name)
    if content is None:
        raise RegistryError([Finding(place, 1, "is missing: the contract declares it")])
    try:
        parsed = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise RegistryError([Finding(place, error.lineno, f"not JSON: {error.msg}")]) from None
    version = schema.versions[number]
    up, down = _steps(folder, f"v{number - 1}-to-v{number}.yaml")
    if up and version.upcast:
        text = f"v{number - 1}-to-v{number}.yaml is there as well: keep one of both"
        raise RegistryError(
            [Finding(folder.contract, 1, f"schema.versions.{number}.upcast: {text}")]
        )
    return Declared(number, parsed, version.upcast or up, version.downcast or down)


def _steps(folder: _Folder, name: str) -> tuple[list[Any], list[Any] | None]:
    """Steps up, and down where they are given."""
    content, file = folder.content(name), folder.place(name)
    if content is None:
        return [], None
    document = read(file, content.decode("utf-8", "replace"))
    if document.findings:
        raise RegistryError(document.findings)
    value = document.value
    if _are_steps(value):
        return value, None
    lists = {"up", "down"}
    is_named = isinstance(value, dict) and lists >= value.keys() and "up" in value
    if is_named and all(_are_steps(steps) for steps in value.values()):
        return value["up"], value.get("down")
    raise RegistryError([Finding(file, 1, "write a list of steps, or up: and down: with lists")])


def _are_steps(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(step, dict) for step in value)


def _require_way(versions: Versions, pinned: int | None, file: Path) -> None:
    if pinned is None:
        return
    if pinned not in versions.numbers:
        raise RegistryError([Finding(file, 1, f"emit.version: there is no version {pinned}")])
    try:
        versions.require_way(pinned)
    except SchemaError as error:
        raise RegistryError([Finding(file, 1, f"emit.version: {error}")]) from None


def _sunset_versions(declaration: Declaration) -> dict[int, int]:
    found: dict[int, int] = {}
    for number, version in declaration.versions.items():
        sunset = None if version.deprecation is None else version.deprecation.sunset
        sunset_ms = _start_ms(sunset)
        if sunset_ms is not None:
            found[number] = sunset_ms
    return found


def _warn_until_ms(schema: Schema | None) -> int | None:
    """Before when violations are only counted; without an end, a far one."""
    if schema is None or schema.violations.policy != "warn":
        return None
    last = schema.violations.until or date.max
    end_ms = _start_ms(last)
    assert end_ms is not None, "a date has a beginning"
    return end_ms + 86_400_000


def _start_ms(day: date | None) -> int | None:
    if day is None:
        return None
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return int(start.timestamp() * 1000)
