"""A contract with all its defaults, as plain values in the words of its file."""

from typing import Any

from edo_stream.registry.contracts import dead_letters_of
from edo_stream.registry.entry import Entry


def described(entry: Entry) -> dict[str, Any]:
    """What a contract says, by the keys of its file; what is left out has its default."""
    declaration = entry.declaration
    values = declaration.model_dump(mode="json", by_alias=True)
    values["group"] = declaration.group or declaration.name
    values["partition_key"] = declaration.record_key
    values["dedupe"] = values["dedupe"] or "off"
    values["dead_letters"]["topic"] = dead_letters_of(declaration)
    values["dead_letters"]["owner"] = declaration.dead_letters.owner or declaration.owner
    if declaration.emit is not None:
        values["emit"]["partitions"] = declaration.emit.partitions or declaration.partitions
    values["file"] = str(entry.file)
    return {name: value for name, value in values.items() if value is not None}
