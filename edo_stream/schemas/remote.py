"""A client of a schema registry with Confluent's API: theirs, Karapace, Apicurio's ccompat.

It is asked at start and by commands, never while records are processed; so it is plain and blocks.
What it was told once it does not ask again: an id means the same schema for ever.
"""

import base64
import json
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import Request, urlopen

from edo_stream.schemas.compatibility import SchemaFormat

_CONTENT: Final = "application/vnd.schemaregistry.v1+json"
_TYPES: Final = {SchemaFormat.JSON: "JSON", SchemaFormat.AVRO: "AVRO"}
_NOT_FOUND: Final = 404
_INCOMPATIBLE: Final = 409
_TIMEOUT_S: Final = 5.0
_ANSWER_BYTES_MAX: Final = 16 << 20


class RemoteError(Exception):
    """The registry refused a request; the text is its own."""


class UnreachableError(RemoteError):
    """Nobody answered, or not as a registry does."""


class SchemaRegistry:
    """One registry, by its address."""

    def __init__(
        self, url: str, credentials: tuple[str, str] | None = None, timeout_s: float = _TIMEOUT_S
    ) -> None:
        self._url = url.rstrip("/")
        self._timeout_s = timeout_s
        self._headers = {"Content-Type": _CONTENT, "Accept": f"{_CONTENT}, application/json"}
        if credentials is not None:
            token = base64.b64encode(":".join(credentials).encode()).decode()
            self._headers["Authorization"] = f"Basic {token}"
        self._ids: dict[tuple[str, str], int] = {}
        self._schemas: dict[int, tuple[SchemaFormat, Any]] = {}

    def register(self, subject: str, schema_format: SchemaFormat, schema: Any) -> int:
        """Register a schema as the subject's next version, and return its id; the same again too.

        Raises:
            RemoteError: it is refused, for instance as incompatible.
            UnreachableError: nobody answers.
        """
        body = _body(schema_format, schema)
        told = self._ask("POST", f"/subjects/{quote(subject, safe='')}/versions", body)
        return self._remembered(subject, body, told)

    def lookup(self, subject: str, schema_format: SchemaFormat, schema: Any) -> int | None:
        """The id of a schema under a subject; ``None`` if it is not registered.

        Raises:
            RemoteError: it is refused.
            UnreachableError: nobody answers.
        """
        body = _body(schema_format, schema)
        if (known := self._ids.get((subject, body["schema"]))) is not None:
            return known
        told = self._ask("POST", f"/subjects/{quote(subject, safe='')}", body)
        return None if told is None else self._remembered(subject, body, told)

    def subjects(self) -> list[str]:
        """Names of all subjects.

        Raises:
            RemoteError: it is refused.
            UnreachableError: nobody answers.
        """
        told = self._ask("GET", "/subjects", None)
        if not isinstance(told, list):
            raise UnreachableError(f"{self._url} does not answer as a schema registry does")
        return told

    def fetch(self, schema_id: int) -> tuple[SchemaFormat, Any] | None:
        """The schema of an id; ``None`` if there is none.

        Raises:
            RemoteError: it is neither JSON Schema nor Avro.
            UnreachableError: nobody answers.
        """
        if schema_id not in self._schemas:
            told = self._ask("GET", f"/schemas/ids/{schema_id}", None)
            if told is None:
                return None
            self._schemas[schema_id] = _schema_of(told)
        return self._schemas[schema_id]

    def _remembered(self, subject: str, body: Mapping[str, str], told: Any) -> int:
        schema_id = told.get("id") if isinstance(told, dict) else None
        if not isinstance(schema_id, int):
            raise UnreachableError(f"{self._url} does not answer as a schema registry does")
        self._ids[subject, body["schema"]] = schema_id
        return schema_id

    def _ask(self, method: str, path: str, body: Mapping[str, str] | None) -> Any:
        """The JSON of an answer; ``None`` for what is not found."""
        data = None if body is None else json.dumps(body).encode()
        # The address is the operator's setting, which only http and https pass.
        request = Request(self._url + path, data, self._headers, method=method)  # noqa: S310
        try:
            with urlopen(request, timeout=self._timeout_s) as answer:  # noqa: S310
                return json.loads(answer.read(_ANSWER_BYTES_MAX))
        except HTTPError as error:
            with error:
                if error.code == _NOT_FOUND:
                    return None
                raise RemoteError(_message(error)) from None
        except (URLError, OSError, HTTPException, ValueError) as error:
            why = getattr(error, "reason", error)
            raise UnreachableError(f"no answer from {self._url}: {why}") from None


def _body(schema_format: SchemaFormat, schema: Any) -> dict[str, str]:
    text = json.dumps(schema, separators=(",", ":"), ensure_ascii=False)
    return {"schema": text, "schemaType": _TYPES[schema_format]}


def _schema_of(told: Any) -> tuple[SchemaFormat, Any]:
    kind = told.get("schemaType", "AVRO") if isinstance(told, dict) else None
    found = [schema_format for schema_format, name in _TYPES.items() if name == kind]
    if not found or not isinstance(told.get("schema"), str):
        raise RemoteError(f"schema type {kind} is not read")
    try:
        return found[0], json.loads(told["schema"])
    except ValueError:
        # Avro allows the bare name of a primitive type.
        return found[0], told["schema"]


def _message(error: HTTPError) -> str:
    try:
        told = json.loads(error.read(_ANSWER_BYTES_MAX))
        text = f"{told['error_code']}: {told['message']}"
    except (ValueError, KeyError, TypeError, OSError):
        text = f"status {error.code}"
    incompatible = "not compatible: " if error.code == _INCOMPATIBLE else ""
    return f"the schema registry refuses: {incompatible}{text}"
