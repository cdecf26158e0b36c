"""Examples: each passes its version, and each that is meant to fail does."""

import json

from edo_stream.catalog.case import Case, Version, line_of
from edo_stream.catalog.folder import Example
from edo_stream.catalog.judges import Fault
from edo_stream.catalog.payloads import data_of, envelope_faults, parsed_document, version_of_event


def find_wrong_examples(case: Case) -> None:
    """Judge every example; a topic without one cannot be understood from its folder."""
    for example in case.folder.examples:
        version = _version(case, example)
        if version is None and example.version is not None:
            case.find_in(
                example.name,
                f"there is no version {example.version}: name it after one, such as "
                f"examples/v1.{example.name.rpartition('.')[0].rpartition('.')[2]}.json",
            )
            continue
        _judge(case, example, version)
    valid = {_number(case, example) for example in case.folder.examples if example.is_valid}
    for number, version in case.versions.items():
        if version.judge is not None and number not in valid:
            case.find(
                ("schema", "versions"),
                f"version {number} has no example: write examples/v{number}.<name>.json",
            )


def _judge(case: Case, example: Example, version: Version | None) -> None:
    try:
        document = parsed_document(example.content)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        if example.is_valid:
            line = error.lineno if isinstance(error, json.JSONDecodeError) else 1
            case.find_in(example.name, f"not JSON: {error}", line)
        return
    faults = [
        Fault(fault.pointer, fault.rule, fault.message)
        for fault in envelope_faults(document, case.declaration, "")
    ]
    prefix, data = data_of(document, case.declaration.codec)
    if version is not None and version.judge is not None:
        faults += [
            Fault(prefix + fault.pointer, fault.rule, fault.message)
            for fault in version.judge(data)
        ]
    if example.is_valid:
        for fault in faults:
            place = f"{fault.pointer}: " if fault.pointer else ""
            by = "" if version is None else f" ({version.file.name})"
            case.find_in(
                example.name,
                f"{place}{fault.message} [{fault.rule}]{by}",
                line_of(example.content, fault.pointer),
            )
    elif not faults and (version is None or version.judge is not None):
        by = "the contract" if version is None else version.file.name
        case.find_in(
            example.name, f"is meant to fail and passes {by}: move it out of invalid/, or mend one"
        )


def _version(case: Case, example: Example) -> Version | None:
    number = _number(case, example)
    return None if number is None else case.versions.get(number)


def _number(case: Case, example: Example) -> int | None:
    """Version that an example is for: by its name, by what it says itself, else the newest."""
    if example.version is not None:
        return example.version
    if not case.versions:
        return None
    try:
        named = version_of_event(json.loads(example.content))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
        named = None
    return max(case.versions) if named is None else named
