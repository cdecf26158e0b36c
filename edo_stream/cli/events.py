"""`edo events`: events written by hand, or by a script."""

import asyncio
import base64
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from decimal import Decimal
from importlib import import_module
from typing import Annotated, Any

import typer

from edo_stream.cli.environment import CommandError, Environment, unreachable
from edo_stream.cli.files import read_input
from edo_stream.registry import RegistryError

app = typer.Typer(no_args_is_help=True, help="Events, written by hand or by a script.")

#: Of the number of a version.
_DIGITS_MAX = 9
#: Attributes of an event in JSON, and what an envelope calls them.
_ENVELOPE = {
    "id": "id",
    "source": "source",
    "type": "type",
    "subject": "subject",
    "correlationid": "correlation_id",
    "causationid": "causation_id",
    "datacontenttype": "content_type",
}


@dataclass(frozen=True, slots=True)
class _Broken:
    """A document that breaks its contract; documents count from 1."""

    document: int
    reason: str
    detail: str


@app.callback()
def events() -> None:
    """Events, written by hand or by a script."""


@app.command()
def publish(  # noqa: PLR0913 - options
    topic: Annotated[str, typer.Argument(help="Topic whose contract the events are of.")],
    file: Annotated[str, typer.Argument(help="JSON, or JSON lines; - is standard input.")],
    source: Annotated[
        str, typer.Option(help="CloudEvents source of events that do not say theirs.")
    ] = "/edo/publish",
    key: Annotated[
        str | None, typer.Option(help="Key of all of them; default: what the contract says.")
    ] = None,
    version: Annotated[
        int | None, typer.Option(help="Schema version of data alone; default: the newest.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a line of JSON for each.")] = False,
) -> None:
    """Check events against their contract, then write them: all, or none if one is wrong.

    A document is an event in the JSON format of CloudEvents, or data alone; a list is many of
    them. What says no id gets one that follows from its content: publishing it again writes the
    same event again, which dedupe drops.

    Exit codes: 0 all are written, 1 some break their contract, 2 the file or the topic cannot be
    used, 3 the broker does not answer.
    """
    environment = Environment.read()
    documents = list(read_documents(file))
    if not documents:
        raise CommandError(f"{file}: there is nothing in it", 2)
    try:
        producer = _producer(environment, topic, source)
        given = {"key": key, "version": version}
        records, broken = _prepared(producer, topic, documents, source, given)
        broken += _oversized(environment, topic, records)
        _require_none(broken, as_json=as_json)
        with unreachable(environment.settings.broker):
            sent = asyncio.run(_deliver(producer, list(records.values())))
    except (ValueError, RegistryError) as error:
        raise CommandError(str(error), 2) from error
    if not as_json:
        print(f"{len(sent):,} {'event' if len(sent) == 1 else 'events'} written to {topic}")
        return
    for one in sent:
        place = {"partition": one.partition, "offset": one.offset}
        print(json.dumps({"topic": one.topic, **place, "id": one.id}))


def _producer(environment: Environment, topic: str, source: str) -> Any:
    entries = [entry for name, entry in environment.registry.entries.items() if name == topic]
    ids = import_module("edo_stream.schema_ids").schema_ids(environment.settings, entries)
    return import_module("edo_stream.producer").Producer(
        source, settings=environment.settings, registry=environment.registry, schema_ids=ids
    )


def _prepared(
    producer: Any, topic: str, documents: list[Any], source: str, given: dict[str, Any]
) -> tuple[dict[int, Any], list[_Broken]]:
    """Records of the documents by number, and every document that breaks its contract."""
    outgoing = import_module("edo_stream.outgoing")
    records: dict[int, Any] = {}
    broken: list[_Broken] = []
    twins: Counter[str] = Counter()
    for number, document in enumerate(documents, 1):
        try:
            data, told = split_event(document)
        except CommandError as error:
            broken.append(_Broken(number, "invalid", str(error)))
            continue
        content = json.dumps(data, sort_keys=True, default=str)
        twins[content] += 1
        try:
            if "id" not in told:
                own = told.get("source", source)
                told["id"] = outgoing.repeatable_id(topic, own, data, twins[content])
            records[number] = producer.prepare(topic, data, outgoing.Envelope(**given | told))
        except outgoing.ContractError as error:
            broken.append(_Broken(number, error.violation.reason, str(error)))
        except UnicodeEncodeError:
            detail = f"{topic}: half of a surrogate pair is no text, UTF-8 has no bytes for it"
            broken.append(_Broken(number, "undecodable", detail))
    return records, broken


def _oversized(environment: Environment, topic: str, records: dict[int, Any]) -> list[_Broken]:
    """Records that the topic does not take: the others are not written without them."""
    if not records:
        return []
    most = environment.registry.entries[topic].declaration.record_bytes_max
    broken = []
    for number, record in records.items():
        parts = [record.key, record.value, *(part for pair in record.headers for part in pair)]
        size = sum(len(part) for part in parts if part is not None)
        if size > most:
            detail = f"{topic}: {size:,} bytes, and record_bytes_max is {most:,}"
            broken.append(_Broken(number, "too-large", detail))
    return broken


def _require_none(broken: list[_Broken], *, as_json: bool) -> None:
    """Nothing may be wrong with any document.

    Raises:
        CommandError: with every document that breaks its contract.
    """
    if not broken:
        return
    broken.sort(key=lambda one: one.document)
    if as_json:
        for one in broken:
            print(json.dumps(asdict(one)))
    told = [f"document {one.document}: {one.detail}" for one in broken]
    raise CommandError("\nedo: ".join([*told, "nothing was written"]), 1)


async def _deliver(producer: Any, records: list[Any]) -> list[Any]:
    async with producer:
        found: list[Any] = await producer.deliver(*records)
        return found


def split_event(document: Any) -> tuple[Any, dict[str, Any]]:
    """Data, and what an event in JSON says around it, in the words of an envelope.

    Raises:
        CommandError: it says so in a way that CloudEvents does not know.
    """
    if not isinstance(document, dict) or "specversion" not in document:
        return document, {}
    # An attribute that is null is not there.
    rest = {name: value for name, value in document.items() if name == "data" or value is not None}
    if rest.pop("specversion", None) != "1.0":
        raise CommandError('specversion is another one: write "1.0"', 1)
    data = _data(rest)
    texts = {name: _attribute(name, value) for name, value in rest.items()}
    told: dict[str, Any] = {}
    for name, field in _ENVELOPE.items():
        if name in texts:
            told[field] = texts.pop(name)
            if not told[field]:
                raise CommandError(f"{name} is empty", 1)
    version = texts.get("dataschemaversion", "").removeprefix("v")
    if version.isdecimal() and "dataschema" not in texts:
        if len(version) > _DIGITS_MAX:
            raise CommandError(f"dataschemaversion has more than {_DIGITS_MAX} digits", 1)
        del texts["dataschemaversion"]
        told["version"] = int(version)
    told["extensions"] = texts
    return data, told


def _data(rest: dict[str, Any]) -> Any:
    """Data of an event, taken out of its members: a value, or bytes in Base64."""
    data = rest.pop("data", None)
    if "data_base64" not in rest:
        return data
    coded = rest.pop("data_base64")
    if data is not None:
        raise CommandError("both data and data_base64 are there", 1)
    try:
        return base64.b64decode(coded, validate=True)
    except (TypeError, ValueError):
        raise CommandError("data_base64 is not Base64", 1) from None


def _attribute(name: str, value: Any) -> str:
    """Text of an attribute; only those of others may be numbers or booleans."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int) and name not in _ENVELOPE:
        return str(value).lower()
    raise CommandError(f"attribute {name} has a value of the wrong JSON type", 1)


def read_documents(file: str) -> Iterator[Any]:
    """What is in a file: the documents of a list, or of lines."""
    content = read_input(file)
    try:
        document = json.loads(content, parse_float=Decimal)
    except ValueError as error:
        yield from _lines(file, content, error)
        return
    except RecursionError:
        raise CommandError(f"{file}: nested too deeply", 2) from None
    if isinstance(document, list):
        yield from document
    else:
        yield document


def _lines(file: str, content: bytes, error: ValueError) -> Iterator[Any]:
    lines = [(number, line) for number, line in enumerate(content.splitlines(), 1) if line.strip()]
    if len(lines) == 1:
        raise CommandError(f"{file}: not JSON: {error}", 2) from None
    for number, line in lines:
        try:
            yield json.loads(line, parse_float=Decimal)
        except (ValueError, RecursionError) as wrong:
            raise CommandError(f"{file}:{number}: not JSON: {wrong}", 2) from None
