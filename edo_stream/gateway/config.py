"""``gateway.yaml`` read: every mistake at once, with file and line."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from edo_stream.gateway.content import body_of
from edo_stream.gateway.declaration import Declaration, Source
from edo_stream.gateway.secrets import SecretUnreadError, read_secret
from edo_stream.registry.document import Document, read
from edo_stream.registry.finding import RegistryError
from edo_stream.registry.mistakes import find_mistake
from edo_stream.webhooks.options import MEANINGFUL
from edo_stream.webhooks.schemes import verifier

#: Schemes that a shared secret makes; the others have their proof from elsewhere.
_WITHOUT_SECRET: Final = ("none", "sns", "pubsub")
#: Schemes that need more than the provider's proof to know who is meant.
_NEEDED: Final = {"sns": ("topic_arns",), "pubsub": ("audience", "email")}
_RENAMED: Final = {"window": "window_ms"}
_BODIES_WITH_ID: Final = (
    "cloudevents",
    "event-grid",
    "eventbridge",
    "s3",
    "minio",
    "gcs",
    "azure-blob",
)
#: Schemes whose provider gives its events an id, in a header or in the body.
_WITH_ID: Final = (
    "standard-webhooks",
    "svix",
    "stripe",
    "github",
    "shopify",
    "slack",
    "eventbridge",
    "sns",
    "pubsub",
    "minio",
)


def read_config(file: Path, environ: Mapping[str, str]) -> Declaration:
    """Read the file, and try its secrets.

    Raises:
        RegistryError: with every mistake.
    """
    document = read(file)
    declaration = _declaration(document)
    if declaration is not None:
        for name, source in declaration.sources.items():
            _check_source(document, name, source, environ)
        _check_paths(document, declaration)
    if document.findings or declaration is None:
        raise RegistryError(document.findings)
    return declaration


def _declaration(document: Document) -> Declaration | None:
    if document.findings and document.value is None:
        return None
    if not isinstance(document.value, dict):
        document.find((), "not a gateway: write its keys, such as sources: {…}")
        return None
    try:
        return Declaration.model_validate(document.value)
    except ValidationError as error:
        for item in error.errors(include_url=False):
            find_mistake(document, item, Declaration)
        return None


def _check_source(
    document: Document, name: str, source: Source, environ: Mapping[str, str]
) -> None:
    place = ("sources", name, "verify")
    scheme = source.verify.scheme
    given = source.verify.model_fields_set - {"scheme", "secrets"}
    meaningful = MEANINGFUL.get(scheme, frozenset())
    for option in sorted(given):
        if _RENAMED.get(option, option) not in meaningful:
            document.find(
                (*place, option), f"{option} means nothing with scheme {scheme}: remove it"
            )
            return
    for option in _NEEDED.get(scheme, ()):
        if not getattr(source.verify, option):
            document.find(
                place,
                f"{option} is missing: {scheme} proves that its provider sent the request, for "
                "any of its customers; write which one is meant",
            )
    if not source.verify.secrets and scheme not in _WITHOUT_SECRET:
        document.find(place, "secrets is missing: write for instance secrets: [env:NAME]")
    _check_secrets(document, place, source, environ)
    _check_mapping(document, name, source)


def _check_secrets(
    document: Document, place: tuple[str, ...], source: Source, environ: Mapping[str, str]
) -> None:
    if source.verify.scheme == "none":
        if not source.networks:
            document.find(
                place, "scheme none believes everybody: write from: with the networks to believe"
            )
        return
    try:
        compiled = verifier(source.verify.scheme, source.verify.options())
    except ValueError as error:
        document.find(place, str(error))
        return
    for number, reference in enumerate(source.verify.secrets):
        try:
            for secret in read_secret(reference, environ):
                compiled.read_key(secret)
        except SecretUnreadError as error:
            document.find((*place, "secrets", number), str(error))
        except ValueError as error:
            document.find((*place, "secrets", number), f"{reference} {error}")


def _check_mapping(document: Document, name: str, source: Source) -> None:
    place = ("sources", name)
    body = body_of(source)
    if body in _BODIES_WITH_ID:
        for key in ("id", "type", "source", "subject", "time"):
            if getattr(source, key) is not None:
                document.find((*place, key), f"{key} is in the events of body {body}: remove it")
    elif (
        source.id is None
        and source.verify.scheme not in _WITH_ID
        and source.verify.id_header is None
    ):
        document.find(
            place,
            "id is missing: write where the provider has it, such as id: /id or "
            "'{header:X-Request-Id}', or id: '{digest}' if equal bodies are one event",
        )
    if source.form_field is not None and source.body != "form":
        document.find((*place, "form_field"), "form_field means nothing without body: form")


def _check_paths(document: Document, declaration: Declaration) -> None:
    first: dict[str, str] = {}
    for name, source in declaration.sources.items():
        path = source.path or f"/{name}"
        other = first.setdefault(path, name)
        if other != name:
            document.find(
                ("sources", name, "path"), f"{path} is the path of {other}: write another"
            )
