"""The client of a schema registry, against one that answers as Confluent's API documents it."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from edo_stream.cli.main import app
from edo_stream.registry import load
from edo_stream.schema_ids import register, remote_registry, schema_ids
from edo_stream.schemas.compatibility import SchemaFormat
from edo_stream.schemas.remote import RemoteError, SchemaRegistry, UnreachableError
from edo_stream.settings import Settings, read_settings

CONTENT = "application/vnd.schemaregistry.v1+json"
CONTRACT = """\
name: shop.order.placed
owner: team-orders
description: An order was placed.
codec: cloudevents
partitions: 1
schema: {format: json, versions: {1: {note: First.}, 2: {note: Second.}}, wire: confluent}
"""


class Registry(ThreadingHTTPServer):
    """Subjects and ids in memory; ``refused`` is the answer to whatever is registered."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.subjects: dict[str, list[int]] = {}
        self.schemas: dict[int, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.refused: tuple[int, dict[str, Any]] | None = None
        self.authorization: str | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def id_of(self, body: dict[str, Any]) -> int | None:
        wanted = (body["schema"], body.get("schemaType", "AVRO"))
        known = {(s["schema"], s["schemaType"]): number for number, s in self.schemas.items()}
        return known.get(wanted)


class _Handler(BaseHTTPRequestHandler):
    server: Registry

    def do_GET(self) -> None:
        self.server.asked.append(f"GET {self.path}")
        if self.path == "/subjects":
            self._answer(200, [*self.server.subjects])
            return
        found = self.server.schemas.get(int(self.path.rpartition("/")[2]))
        if found is None:
            self._answer(404, {"error_code": 40403, "message": "Schema not found"})
        else:
            # Avro is what a schema without a type is.
            shown = {k: v for k, v in found.items() if (k, v) != ("schemaType", "AVRO")}
            self._answer(200, shown)

    def do_POST(self) -> None:
        self.server.asked.append(f"POST {self.path}")
        self.server.authorization = self.headers["Authorization"]
        assert self.headers["Content-Type"] == CONTENT
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        subject = self.path.split("/")[2]
        known = self.server.id_of(body)
        if self.path.endswith("/versions"):
            if self.server.refused is not None:
                self._answer(*self.server.refused)
                return
            number = known or len(self.server.schemas) + 1
            self.server.schemas[number] = {"schemaType": "AVRO"} | body
            versions = self.server.subjects.setdefault(subject, [])
            if number not in versions:
                versions.append(number)
            self._answer(200, {"id": number})
        elif known in self.server.subjects.get(subject, []):
            version = self.server.subjects[subject].index(known) + 1
            told = {"subject": subject, "id": known, "version": version}
            self._answer(200, told | {"schema": body["schema"]})
        else:
            self._answer(404, {"error_code": 40401, "message": f"Subject '{subject}' not found."})

    def _answer(self, status: int, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", CONTENT)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def registry() -> Iterator[Registry]:
    with Registry() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def settings(registry: Registry, tmp_path: Path) -> Settings:
    folder = tmp_path / "topics" / "shop.order.placed"
    folder.mkdir(parents=True)
    (folder / "contract.yaml").write_text(CONTRACT)
    for number in (1, 2):
        (folder / f"v{number}.schema.json").write_text(json.dumps({"title": f"v{number}"}))
    return read_settings(
        {
            "EDO_BROKER": "127.0.0.1:1",
            "EDO_TOPICS": str(tmp_path / "topics"),
            "EDO_DATA": str(tmp_path / "data"),
            "EDO_SCHEMA_REGISTRY": registry.url,
        }
    )


def test_a_schema_is_registered_looked_up_and_fetched(registry: Registry) -> None:
    client = SchemaRegistry(registry.url, ("user", "secret"))
    schema = {"type": "object", "title": "Grüße"}
    assert client.lookup("a-value", SchemaFormat.JSON, schema) is None
    assert 1 == client.register("a-value", SchemaFormat.JSON, schema)
    assert 1 == client.lookup("a-value", SchemaFormat.JSON, schema)
    assert (SchemaFormat.JSON, schema) == client.fetch(1)
    assert client.fetch(7) is None
    assert "Basic dXNlcjpzZWNyZXQ=" == registry.authorization


def test_what_was_told_is_not_asked_again(registry: Registry) -> None:
    client = SchemaRegistry(registry.url)
    client.register("a-value", SchemaFormat.AVRO, "string")
    for _ in range(2):
        client.lookup("a-value", SchemaFormat.AVRO, "string")
        assert (SchemaFormat.AVRO, "string") == client.fetch(1)
    assert ["POST /subjects/a-value/versions", "GET /schemas/ids/1"] == registry.asked


def test_a_refusal_is_told_in_the_registrys_words(registry: Registry) -> None:
    registry.refused = (409, {"error_code": 409, "message": "READER_FIELD_MISSING_DEFAULT_VALUE"})
    with pytest.raises(RemoteError, match="not compatible: 409: READER_FIELD_MISSING"):
        SchemaRegistry(registry.url).register("a-value", SchemaFormat.AVRO, "string")


def test_nobody_and_somebody_else_are_told_apart_from_a_refusal(registry: Registry) -> None:
    registry.refused = (200, {"hello": "world"})
    with pytest.raises(UnreachableError, match="does not answer as a schema registry"):
        SchemaRegistry(registry.url).register("a-value", SchemaFormat.AVRO, "string")
    with pytest.raises(UnreachableError, match="no answer from"):
        SchemaRegistry("http://127.0.0.1:1").fetch(1)


def test_doctor_says_whether_the_registry_answers_and_knows_the_versions(
    registry: Registry, settings: Settings
) -> None:
    def found(url: str) -> list[tuple[str, str]]:
        environment = {
            "EDO_BROKER": settings.broker,
            "EDO_TOPICS": str(settings.topics),
            "EDO_DATA": str(settings.data),
            "EDO_SCHEMA_REGISTRY": url,
        }
        told = CliRunner().invoke(app, ["doctor", "--json"], env=environment)
        checks = json.loads(told.stdout)["checks"]
        return [(one["verdict"], one["found"]) for one in checks if one["area"] == "registry"]

    assert [
        ("ok", f"{registry.url} has 0 subjects"),
        ("warning", "version 1 of shop.order.placed is not registered"),
        ("warning", "version 2 of shop.order.placed is not registered"),
    ] == found(registry.url)
    register(SchemaRegistry(registry.url), load(settings.topics).entries["shop.order.placed"])
    assert [("ok", f"{registry.url} has 1 subjects")] == found(registry.url)
    (verdict, said), *_ = found("http://127.0.0.1:1")
    assert ("problem", True) == (verdict, said.startswith("no answer from http://127.0.0.1:1"))


def test_ids_of_versions_are_asked_for_once_and_kept_in_a_file(
    registry: Registry, settings: Settings
) -> None:
    entries = load(settings.topics).entries
    assert {} == schema_ids(settings, entries.values())
    client = remote_registry(settings)
    assert client is not None
    assert {1: 1, 2: 2} == register(client, entries["shop.order.placed"])
    assert ["shop.order.placed-value"] == list(registry.subjects)
    assert {"shop.order.placed": {1: 1, 2: 2}} == schema_ids(settings, entries.values())
    asked = len(registry.asked)
    assert {"shop.order.placed": {1: 1, 2: 2}} == schema_ids(settings, entries.values())
    assert asked == len(registry.asked)
