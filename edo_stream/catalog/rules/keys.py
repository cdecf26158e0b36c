"""Keys: what orders, what partitions and what tells duplicates must identify, and agree."""

from edo_stream.catalog.case import Case
from edo_stream.catalog.schema_fields import fields_of, is_known
from edo_stream.registry.declaration import Declaration
from edo_stream.registry.document import Place
from edo_stream.registry.mistakes import nearest
from edo_stream.registry.names import is_pointer


def find_wrong_roles(case: Case) -> None:
    """Keys and numbers point at identifiers or metadata: a fact may be corrected, or repeat."""
    for path, place, purpose in _used(case.declaration):
        role = _role(case.declaration, place)
        if role == "fact":
            case.find(
                path,
                f"{purpose} is {place}, which is a fact: facts may be corrected or be equal by "
                "chance; point at an identifier or metadata",
            )
        elif role is None and is_pointer(place):
            case.find(
                path,
                f"{purpose} is {place}, and nothing says what that is: write "
                f"fields: {{{place}: identifier}}, or metadata",
            )


def find_unknown_fields(case: Case) -> None:
    """What the contract says of fields is about fields that the newest schema has."""
    newest = case.newest
    if newest is None or case.declaration.codec != "cloudevents":
        return
    known = fields_of(newest.file.format, newest.schema)
    named: list[tuple[Place, str]] = [
        (path, place) for path, place, _ in _used(case.declaration) if is_pointer(place)
    ]
    named += [(("fields", place), place) for place in case.declaration.fields if is_pointer(place)]
    for path, place in named:
        if not is_known(place, known):
            case.find(path, f"{place} is not in {newest.file.name}: {nearest(place, list(known))}")
    if not case.declaration.fields:
        return
    for pointer, field in known.items():
        if field.is_leaf and _role(case.declaration, pointer) is None:
            case.find(
                ("fields",),
                f"{pointer} of {newest.file.name} has no role: write {pointer}: identifier, fact "
                "or metadata",
            )


def find_duplicates_that_pass(case: Case) -> None:
    """Dedupe is per partition: two events that are one must come to the same."""
    declaration = case.declaration
    if declaration.dedupe is None or declaration.emit is None or declaration.partitions == 1:
        return
    key = declaration.dedupe.key
    record_key = declaration.record_key
    if {"source", "id"} <= set(key) or "key" in key or _implies(key, record_key):
        return
    wanted = "key" if record_key == "record" else record_key
    what = "records' key" if record_key == "record" else f"partition key {record_key}"
    case.find(
        ("dedupe", "key"),
        f"[{', '.join(key)}] does not imply the {what}: dedupe is per partition, and two events "
        f"with the same values may come to different ones and both pass; add {wanted}, or write "
        "[source, id]",
    )


def find_split_keys(case: Case) -> None:
    """What is kept in order must be in one partition."""
    declaration = case.declaration
    if declaration.ordering.policy == "none" or declaration.partitions == 1:
        return
    if declaration.key == "record" or declaration.partition_key is None:
        return
    if not _implies([declaration.key], declaration.partition_key):
        case.find(
            ("partition_key",),
            f"events are ordered by {declaration.key} but partitioned by "
            f"{declaration.partition_key}: those of one key come to several partitions, where "
            f"nothing orders them; write partition_key: {declaration.key}",
        )


def find_compacted_sequences(case: Case) -> None:
    """Compaction takes away what an order or a duplicate is told by."""
    declaration = case.declaration
    if "compact" in declaration.cleanup and declaration.ordering.policy == "sequence":
        case.find(
            ("cleanup",),
            "compaction removes older events of a key, and each is a gap in its sequence for "
            "whoever reads later: write cleanup: delete, or ordering: {policy: monotonic}",
        )
    if declaration.cleanup == "compact" and "retention" in _written(case):
        case.find(
            ("retention",),
            "retention means nothing with cleanup: compact: remove it, or write "
            "cleanup: compact,delete",
        )


def _written(case: Case) -> dict[str, object]:
    value = case.entry.document.value
    return value if isinstance(value, dict) else {}


def _used(declaration: Declaration) -> list[tuple[Place, str, str]]:
    """Where in the contract, which field, and what for."""
    used: list[tuple[Place, str, str]] = [(("key",), declaration.key, "the order key")]
    if declaration.partition_key is not None:
        used.append((("partition_key",), declaration.partition_key, "the partition key"))
    if declaration.dedupe is not None:
        used += [
            (("dedupe", "key", index), place, "the dedupe key")
            for index, place in enumerate(declaration.dedupe.key)
        ]
    if declaration.ordering.policy in ("sequence", "monotonic"):
        used.append((("ordering", "field"), declaration.ordering.field, "the sequence"))
    return used


def _role(declaration: Declaration, place: str) -> str | None:
    """Role of a field, or of what it is in; attributes are what CloudEvents makes them."""
    while place:
        described = declaration.fields.get(place)
        if described is not None:
            return described.role
        if not is_pointer(place):
            return "metadata"
        place = place.rpartition("/")[0]
    return None


def _implies(known: list[str], wanted: str) -> bool:
    """Whether equal values of the known places mean equal values of the wanted one."""
    return any(place == wanted or wanted.startswith(f"{place}/") for place in known)
