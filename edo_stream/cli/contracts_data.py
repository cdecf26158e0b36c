"""`edo contracts validate`: payloads in files, or from standard input, against their contract."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from edo_stream.catalog.case import Version, compiled
from edo_stream.catalog.folder import folder_of
from edo_stream.catalog.judges import Fault
from edo_stream.catalog.payloads import (
    data_of,
    envelope_faults,
    parsed_document,
    topic_of_event,
    version_of_event,
)
from edo_stream.catalog.tree import read_files
from edo_stream.cli.contracts_decode import Unreadable, reader_of
from edo_stream.cli.contracts_read import AsJson, load_topics, print_json, today
from edo_stream.cli.environment import CommandError
from edo_stream.cli.files import read_input
from edo_stream.cli.screen import screen
from edo_stream.registry import Registry
from edo_stream.registry.entry import Entry
from edo_stream.registry.mistakes import nearest


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is said of one document."""

    file: str
    index: int
    """Of several documents in a file, from 0."""
    topic: str | None
    version: int | None
    faults: list[Fault]


def validate(
    files: Annotated[
        list[str], typer.Argument(help="Files of JSON, or of JSON lines; - is standard input.")
    ],
    topic: Annotated[
        str | None, typer.Option(help="Topic; default: an event's type, or the file's folder.")
    ] = None,
    version: Annotated[
        int | None, typer.Option(help="Version; default: the event's own, or the newest.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Validate events, or data alone, against the contract and the schema of their topic.

    Exit codes: 0 all are valid, 1 some are not, 2 a file or a topic cannot be found.
    """
    registry = load_topics()
    judges = Judges(registry, topic, version)
    verdicts = [
        judges.verdict(file, index, document)
        for file in files
        for index, document in enumerate(_documents(file))
    ]
    invalid = sum(1 for verdict in verdicts if verdict.faults)
    if as_json:
        results = [_as_json(verdict) for verdict in verdicts]
        print_json({"valid": len(verdicts) - invalid, "invalid": invalid, "results": results})
    else:
        _show(verdicts, invalid)
    raise typer.Exit(1 if invalid else 0)


class Judges:
    """The compiled schemas of the topics that are asked for, each once."""

    def __init__(self, registry: Registry, topic: str | None, version: int | None) -> None:
        if topic is not None and topic not in registry.entries:
            raise CommandError(f"{topic} is not declared: {nearest(topic, registry.entries)}", 2)
        self._registry = registry
        self._topic = topic
        self._version = version
        self._versions: dict[str, dict[int, Version]] = {}
        self._readers: dict[str, Unreadable] = {}
        self._now = f"{today()}T00:00:00Z"

    def verdict(self, file: str, index: int, document: Any) -> Verdict:
        """Judge one document."""
        if isinstance(document, ValueError):
            fault = Fault("", "json", f"not JSON: {document}")
            return Verdict(file, index, self._topic, None, [fault])
        topic = self._topic or self._inferred(file, document)
        if topic is None:
            said = topic_of_event(document)
            known = self._registry.entries
            why = "not an event" if said is None else f"type {said}: {nearest(said, known)}"
            fault = Fault("", "topic", f"which topic is it of? {why}; say --topic")
            return Verdict(file, index, None, None, [fault])
        entry = self._registry.entries[topic]
        number, faults = self.faults(entry, document)
        return Verdict(file, index, topic, number, faults)

    def faults(self, entry: Entry, document: Any) -> tuple[int | None, list[Fault]]:
        """Version that judged, and what it found; ``None`` where the topic has no schema."""
        faults = envelope_faults(document, entry.declaration, self._now)
        why = None if faults else self._reader(entry)(document)
        if why is not None:
            faults = [Fault("", "codec", why)]
        number, version, missing = self.version(entry, document)
        if missing is not None:
            return number, [*faults, missing]
        if version is None:
            return None, faults
        if version.judge is None:
            return number, [*faults, Fault("", "schema", f"{version.file.name}: {version.error}")]
        prefix, data = data_of(document, entry.declaration.codec)
        faults += [
            Fault(prefix + fault.pointer, fault.rule, fault.message)
            for fault in version.judge(data)
        ]
        return number, faults

    def version(
        self, entry: Entry, document: Any
    ) -> tuple[int | None, Version | None, Fault | None]:
        """The version to judge by: asked for, named by the event, or the newest."""
        versions = self._of(entry)
        number = self._version
        if number is None:
            number = version_of_event(document)
        if number is None:
            number = max(versions, default=None)
        if number is None or (not versions and self._version is None):
            return None, None, None
        if number not in versions:
            known = ", ".join(map(str, versions)) or "none"
            fault = Fault("", "version", f"there is no version {number}: known are {known}")
            return number, None, fault
        return number, versions[number], None

    def _of(self, entry: Entry) -> dict[int, Version]:
        if entry.name not in self._versions:
            declared = entry.declaration.schema_
            schemas = folder_of(read_files(entry.file.parent)).schemas if declared else []
            self._versions[entry.name] = {
                file.version: compiled(file)
                for file in schemas
                if declared is not None and file.format == declared.format
            }
        return self._versions[entry.name]

    def _reader(self, entry: Entry) -> Unreadable:
        if entry.name not in self._readers:
            try:
                self._readers[entry.name] = reader_of(entry.declaration)
            except ValueError as error:
                raise CommandError(f"{entry.file}: mapping: {error}", 2) from error
        return self._readers[entry.name]

    def _inferred(self, file: str, document: Any) -> str | None:
        said = topic_of_event(document)
        if said is not None:
            return said if said in self._registry.entries else None
        for parent in Path(file).resolve().parents:
            if parent.name in self._registry.entries:
                return parent.name
        return None


def _documents(file: str) -> Iterator[Any]:
    """The documents of a file; what is not JSON comes as the error."""
    content = read_input(file)
    try:
        document = parsed_document(content)
    except RecursionError:
        yield ValueError("nested too deeply")
    except ValueError as error:
        lines = [line for line in content.splitlines() if line.strip()]
        if len(lines) < 2:
            yield error
            return
        yield from (_line(line) for line in lines)
    else:
        is_batch = isinstance(document, list) and bool(document)
        if is_batch and all(topic_of_event(one) is not None for one in document):
            yield from document
        else:
            yield document


def _line(line: bytes) -> Any:
    try:
        return parsed_document(line)
    except ValueError as error:
        return error
    except RecursionError:
        return ValueError("nested too deeply")


def _as_json(verdict: Verdict) -> dict[str, Any]:
    return {
        "file": verdict.file,
        "index": verdict.index,
        "topic": verdict.topic,
        "version": verdict.version,
        "valid": not verdict.faults,
        "faults": faults_as_json(verdict.faults),
    }


def faults_as_json(faults: list[Fault]) -> list[dict[str, str]]:
    """Faults as plain values."""
    return [
        {"pointer": fault.pointer, "rule": fault.rule, "message": fault.message} for fault in faults
    ]


def _show(verdicts: list[Verdict], invalid: int) -> None:
    console = screen()
    for verdict in verdicts:
        by = "no schema" if verdict.version is None else f"v{verdict.version}"
        name = f"{verdict.file}[{verdict.index}]" if verdict.index else verdict.file
        for fault in verdict.faults:
            console.print(
                f"{name}: {verdict.topic or '?'} {by}: {fault.pointer or '/'}: {fault.message} "
                f"[{fault.rule}]",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )
        if not verdict.faults:
            console.print(f"{name}: {verdict.topic} {by}: valid", markup=False, highlight=False)
    console.print(f"{len(verdicts) - invalid:,} valid, {invalid:,} invalid", markup=False)
