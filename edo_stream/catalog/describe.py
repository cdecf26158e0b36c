"""A contract with all its defaults, as plain values in the words of its file."""

from typing import Any

from edo_stream.registry.contracts import dead_letters_of
from edo_stream.registry.declaration import ORDERING_KEYS
from edo_stream.registry.entry import Entry


def described(entry: Entry) -> dict[str, Any]:
    """What a contract says, by the keys of its file; what is left out has its default."""
    declaration = entry.declaration
    values = declaration.model_dump(mode="json", by_alias=True, exclude_none=True)
    values["group"] = declaration.group or declaration.name
    values["partition_key"] = declaration.record_key
    values.setdefault("dedupe", "off")
    meaningful = ORDERING_KEYS[declaration.ordering.policy]
    if "start" in meaningful:
        values["ordering"].setdefault("start", "first-seen")
    values["ordering"] = {
        name: value for name, value in values["ordering"].items() if name in meaningful
    }
    values["dead_letters"]["topic"] = dead_letters_of(declaration)
    values["dead_letters"]["owner"] = declaration.dead_letters.owner or declaration.owner
    if declaration.emit is not None:
        values["emit"]["partitions"] = declaration.emit.partitions or declaration.partitions
    values["file"] = str(entry.file)
    return values
