"""The topics as a Markdown page: an index, then a section for each."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from edo_stream.catalog.export.mermaid import mermaid
from edo_stream.catalog.export.shelf import Shelved
from edo_stream.catalog.schema_fields import fields_of


def markdown(shelved: Sequence[Shelved], title: str) -> str:
    """Write the catalog."""
    lines = [f"# Topics of {title}", ""]
    index = [
        (
            f"[{one.name}](#{_anchor(one.name)})",
            one.declaration.kind,
            one.declaration.owner,
            one.declaration.description,
        )
        for one in shelved
    ]
    lines += [*_table(("Topic", "Kind", "Owner", "What happened"), index), ""]
    lines += ["```mermaid", mermaid(shelved).rstrip(), "```", ""]
    for one in shelved:
        lines += _section(one)
    return "\n".join(lines).rstrip() + "\n"


def _section(one: Shelved) -> list[str]:
    declaration, values = one.declaration, one.values
    dedupe = values["dedupe"]
    letters = values["dead_letters"]
    facts: list[tuple[str, Any]] = [
        ("Owner", declaration.owner),
        ("Kind", f"{declaration.kind}, {declaration.category}"),
        ("Data", f"{declaration.classification}, {declaration.codec}"),
        ("Tags", ", ".join(declaration.tags)),
        ("Written by", ", ".join(producer.name for producer in declaration.producers)),
        ("Partitions", f"{declaration.partitions}, keyed by {declaration.record_key}"),
        ("Order", f"{declaration.ordering.policy}, of {declaration.key}"),
        ("Duplicates", _duplicates(dedupe)),
        ("Delivery", ", ".join(f"{k}: {v}" for k, v in values["delivery"].items() if v)),
        ("Kept", f"{values['retention']}, {declaration.cleanup}"),
        ("Results", (values.get("emit") or {}).get("topic", "")),
        ("Dead letters", f"{letters['topic']}, {letters['owner']}"),
        ("Acknowledged within", letters.get("acknowledge_within") or ""),
        ("Objective", _objective(values)),
        ("Rate", _rate(values)),
        ("Related", ", ".join(declaration.related)),
        ("Deprecated", _deprecation(values.get("deprecation"))),
    ]
    lines = [f"## {one.name}", "", declaration.description, ""]
    lines += [*_table(("", ""), ((name, value) for name, value in facts if value)), ""]
    lines += _versions(one)
    lines += _fields(one)
    lines += _consumers(one)
    lines += _example(one)
    return lines


def _duplicates(dedupe: Any) -> str:
    return "pass" if dedupe == "off" else f"by {', '.join(dedupe['key'])}, for {dedupe['ttl']}"


def _objective(values: Any) -> str:
    slo = values.get("slo")
    return f"ready within {slo['trigger_to_ready']}, {slo['percentile']:g} %" if slo else ""


def _rate(values: Any) -> str:
    rate = values.get("rate") or {}
    return ", ".join(f"{name} {value:,g}" for name, value in rate.items())


def _deprecation(value: Any) -> str:
    if not value:
        return ""
    until = f", out of use from {value['sunset']}" if "sunset" in value else ""
    instead = f", use {value['replacement']}" if "replacement" in value else ""
    return f"since {value['since']}{until}{instead}"


def _versions(one: Shelved) -> list[str]:
    rows = [
        (f"v{number}", version.note, _deprecation(_dumped(version.deprecation)))
        for number, version in one.declaration.versions.items()
    ]
    if not rows or one.declaration.schema_ is None:
        return []
    mode = one.declaration.schema_.compatibility
    return [
        f"Versions, {mode}:",
        "",
        *_table(("Version", "What is new", "Deprecated"), rows),
        "",
    ]


def _dumped(value: Any) -> Any:
    return None if value is None else value.model_dump(mode="json", exclude_none=True)


def _fields(one: Shelved) -> list[str]:
    newest = one.newest
    if newest is None:
        return []
    known = fields_of("avro" if one.is_avro else "json", one.schemas[newest])
    described = one.declaration.fields
    rows = []
    for pointer, field in known.items():
        role = described.get(pointer)
        text = (role.description if role is not None else None) or field.description
        rows.append(
            (
                f"`{pointer}`",
                field.type,
                "yes" if field.is_required else "",
                "" if role is None else role.role,
                text or "",
            )
        )
    header = ("Field", "Type", "Required", "Role", "Meaning")
    return [*_table(header, rows), ""] if rows else []


def _consumers(one: Shelved) -> list[str]:
    rows = [
        (
            consumer.name,
            consumer.group or "",
            ", ".join(f"v{number}" for number in consumer.versions or ()),
            consumer.owner or "",
        )
        for consumer in one.declaration.consumers
    ]
    return [*_table(("Consumer", "Group", "Accepts", "Owner"), rows), ""] if rows else []


def _example(one: Shelved) -> list[str]:
    newest = one.newest or 0
    for _, data in one.examples.get(newest, [])[:1]:
        text = json.dumps(data, indent=2, ensure_ascii=False)
        return ["```json", *text.splitlines(), "```", ""]
    return []


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    def line(cells: Iterable[Any]) -> str:
        return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"

    return [line(header), "|" + "---|" * len(header), *(line(row) for row in rows)]


def _anchor(title: str) -> str:
    return "".join(char for char in title.lower() if char.isalnum() or char in "-_")
