"""Schema versions: the files beside the contract, what is declared of them, who reads which."""

import re
from typing import Final

from edo_stream.catalog.case import Case, Version, line_of
from edo_stream.catalog.comparison import breaks_between
from edo_stream.catalog.folder import SCHEMA_SUFFIXES
from edo_stream.catalog.judges import NotJsonError
from edo_stream.registry.declaration import Schema
from edo_stream.registry.enforced import rules_of
from edo_stream.registry.finding import RegistryError

_CAST: Final = re.compile(r"v[0-9]+-to-v[0-9]+\.ya?ml")
_OTHER: Final = {"json": "avro", "avro": "json"}


def find_misplaced_files(case: Case) -> None:
    """What looks like a schema is named like one, and is declared."""
    for name in case.folder.misnamed:
        case.find_in(
            name,
            "is neither a schema nor an example by its name: write v1.schema.json, v1.avsc, "
            "examples/v1.<name>.json or examples/invalid/v1.<name>.json",
        )
    declared = case.declaration.schema_
    if declared is None and case.folder.schemas:
        name = case.folder.schemas[0].name
        case.find(
            (),
            f"{name} is here, and the contract has no schema: write schema: {{format: "
            f"{case.folder.schemas[0].format}, versions: {{1: {{note: First version.}}}}}}",
        )
    if declared is not None:
        _find_unequal(case, declared)


def _find_unequal(case: Case, declared: Schema) -> None:
    """Each declared version has its file, and each file is declared."""
    suffix = SCHEMA_SUFFIXES[declared.format]
    other = SCHEMA_SUFFIXES[_OTHER[declared.format]]
    for file in case.folder.schemas:
        if file.format != declared.format:
            case.find_in(
                file.name, f"is no {declared.format}: write *{suffix}, or change schema.format"
            )
        elif file.version not in declared.versions:
            case.find(
                ("schema", "versions"),
                f"{file.name} is not declared: write {file.version}: {{note: what is new}}",
            )
    files = {file.version for file in case.folder.schemas if file.format == declared.format}
    for number in sorted(declared.versions):
        if number not in files:
            case.find(
                _version(case, number),
                f"v{number}{suffix} is missing: write it beside the contract (or v{number}{other} "
                f"with format: {_OTHER[declared.format]}), or remove version {number}",
            )
    expected = list(range(min(declared.versions), max(declared.versions) + 1))
    missing = [str(number) for number in expected if number not in declared.versions]
    if missing:
        case.find(
            ("schema", "versions"), f"versions count up by one: {', '.join(missing)} is missing"
        )


def find_bad_schemas(case: Case) -> None:
    """Each schema is one, by the rules of its format."""
    for version in case.versions.values():
        if version.error is not None:
            line = version.error.line if isinstance(version.error, NotJsonError) else 1
            case.find_in(version.file.name, str(version.error), line)


def find_breaking_versions(case: Case) -> None:
    """Each version keeps what the compatibility mode says, towards those before it."""
    declared = case.declaration.schema_
    if declared is None or declared.compatibility == "NONE":
        return
    usable = [version for version in case.versions.values() if version.judge is not None]
    for index, version in enumerate(usable[1:], start=1):
        _find_breaks(case, declared, usable[:index], version)


def _find_breaks(case: Case, declared: Schema, before: list[Version], new: Version) -> None:
    olds = before if declared.compatibility.endswith("_TRANSITIVE") else before[-1:]
    for old in olds:
        for found in breaks_between(
            declared.format, declared.compatibility, old.schema, new.schema
        ):
            is_forward = found.direction == "forward"
            reader, writer = (old, new) if is_forward else (new, old)
            line = 1 if is_forward else line_of(new.file.content, found.pointer)
            case.find_in(
                new.file.name,
                f"{reader.file.name} does not read all that {writer.file.name} writes, and "
                f"compatibility is {declared.compatibility}: {found.pointer or '/'}: "
                f"{found.message} [{found.rule}]",
                line,
            )


def find_bad_casts(case: Case) -> None:
    """What makes data of one version into another can be compiled, and leads where it must."""
    declared = case.declaration.schema_
    if declared is None:
        return
    has_steps = any(one.upcast or one.downcast for one in declared.versions.values())
    has_files = any(_CAST.fullmatch(name) for name in case.folder.others)
    emit = case.declaration.emit
    is_pinned = emit is not None and emit.version is not None
    if not (has_steps or has_files or is_pinned):
        return
    if any(version.error is not None for version in case.versions.values()):
        return
    if set(case.versions) < set(declared.versions):
        return
    try:
        rules_of(case.declaration, case.entry.file)
    except RegistryError as error:
        case.findings += error.findings


def find_unknown_versions(case: Case) -> None:
    """Consumers accept versions that there are, at least one of them for good."""
    declared = case.declaration.versions
    for index, consumer in enumerate(case.declaration.consumers):
        path = ("consumers", index)
        if consumer.versions is None:
            if declared:
                case.find(
                    path,
                    f"{consumer.name} does not say which versions it accepts: write versions: "
                    f"[{', '.join(str(number) for number in declared)}]",
                )
            continue
        if not declared:
            case.find(
                (*path, "versions"), "there is no schema, so there are no versions: remove versions"
            )
            continue
        for place, number in enumerate(consumer.versions):
            if number not in declared:
                known = ", ".join(str(one) for one in declared)
                case.find(
                    (*path, "versions", place), f"there is no version {number}: known are {known}"
                )


def _version(case: Case, number: int) -> tuple[str, ...]:
    lines = case.entry.document.lines
    for name in (str(number), f"v{number}"):
        if ("schema", "versions", name) in lines:
            return ("schema", "versions", name)
    return ("schema", "versions")
