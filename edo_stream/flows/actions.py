"""What the ``action`` of a flow may say: the side effect, and what a repetition of it means."""

import re
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field

from edo_stream.core.contract import DAY_MS
from edo_stream.registry.declaration import Declared, Partitions
from edo_stream.registry.names import Text, TopicName
from edo_stream.registry.quantity import PositiveDuration

_HANDLER: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_SECRET: Final = re.compile(r"(env|file):.+")
_HEADER: Final = r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"
_CODES: Final = re.compile(r"([0-9]{1,3})(?:-([0-9]{1,3}))?")
_STATE: Final = re.compile(r"[0-9A-Z]{2}(?:[0-9A-Z]{3})?")
_CLASS: Final = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")
_TABLE: Final = re.compile(r"[A-Za-z_]\w{0,62}(?:\.[A-Za-z_]\w{0,62})?")
#: Letters are kept for 30 days, and commands for 7; what may come again comes within both.
_INBOX_KEPT_MS: Final = 40 * DAY_MS


def _handler(value: object) -> str:
    if not isinstance(value, str) or not _HANDLER.fullmatch(value):
        raise ValueError(f"{value} is not a handler: write package.module:function")
    return value


def _reference(value: object) -> str:
    if not isinstance(value, str) or not _SECRET.fullmatch(value):
        # Not repeated: it may be the secret itself.
        raise ValueError("not a reference to a secret: write env:NAME or file:PATH")
    return value


def _url(value: object) -> str:
    if not isinstance(value, str) or not value.startswith(("http://", "https://")):
        raise ValueError(f"{value} is not a URL: it begins with http:// or https://")
    if "@" in value.split("/")[2]:
        # Not repeated, and shown by nobody else: it may hold a password.
        raise ValueError("a URL has no user or password: write auth: {basic: …}")
    return value


def _codes(value: object) -> tuple[int, int]:
    found = None if isinstance(value, bool) else _CODES.fullmatch(str(value).strip())
    if found is None:
        raise ValueError(f"{value} is not a code: write 404, or a range such as 500-599")
    first, last = int(found[1]), int(found[2] or found[1])
    if first > last:
        raise ValueError(f"{value} is an empty range: write {last}-{first}")
    return first, last


def _state(value: object) -> str:
    if not isinstance(value, str) or not _STATE.fullmatch(value):
        raise ValueError(f"{value} is not an SQLSTATE: write '23505', or '23' for its whole class")
    return value


def _exception(value: object) -> str:
    if not isinstance(value, str) or not _CLASS.fullmatch(value):
        raise ValueError(f"{value} is not an exception: write ValueError, or package.module.Name")
    return value


def is_table(text: str) -> bool:
    """Whether it names a table, with or without its schema."""
    return _TABLE.fullmatch(text) is not None


def _table(value: object) -> str:
    if not isinstance(value, str) or not is_table(value):
        raise ValueError(f"{value} is not a table: write name or schema.name")
    return value


Handler = Annotated[str, BeforeValidator(_handler)]
Reference = Annotated[str, BeforeValidator(_reference)]
Url = Annotated[str, BeforeValidator(_url)]
Codes = Annotated[tuple[int, int], BeforeValidator(_codes)]
State = Annotated[str, BeforeValidator(_state)]
ExceptionName = Annotated[str, BeforeValidator(_exception)]
Table = Annotated[str, BeforeValidator(_table)]
HeaderName = Annotated[str, Field(pattern=_HEADER)]
FailureMeaning = Literal["transient", "throttled", "poison", "business"]
Meaning = Literal["success", "transient", "throttled", "poison", "business"]
Replay = Literal["safe", "sandbox-only", "forbidden"]


class Basic(Declared):
    user: Text = Field(examples=["edo"], description="User name.")
    password: Reference = Field(examples=["env:PASSWORD"], description="Reference to it.")


class Auth(Declared):
    bearer: Reference | None = Field(default=None, description="Reference to a token.")
    basic: Basic | None = Field(default=None, description="User and password.")
    header: dict[HeaderName, Reference] = Field(
        default={}, description="Headers whose values are secrets."
    )


class CodeMeaning(Declared):
    codes: Annotated[list[Codes], Field(min_length=1)] = Field(
        examples=['[404, "410-419"]'], description="Codes, or ranges such as 500-599."
    )
    means: Meaning = Field(examples=["business"], description="What they mean.")


class StateMeaning(Declared):
    states: Annotated[list[State], Field(min_length=1)] = Field(
        examples=['["23505"]'], description="SQLSTATEs, or the two letters of a class of them."
    )
    means: FailureMeaning = Field(examples=["business"], description="What they mean.")


class ExceptionMeaning(Declared):
    exceptions: Annotated[list[ExceptionName], Field(min_length=1)] = Field(
        examples=["[ValueError, shop.errors.NoStock]"],
        description="Classes by name, with or without their module; subclasses are meant too.",
    )
    means: FailureMeaning = Field(examples=["business"], description="What they mean.")


class _Action(Declared):
    idempotency_key: Literal["command"] = Field(
        examples=["command"],
        description="By what the receiver can tell a repetition: the command's id, the same for "
        "every attempt and run.",
    )
    replay: Replay = Field(
        examples=["safe"], description="Whether a replay of old events may run it."
    )
    timeout: PositiveDuration = Field(default=30_000, description="Of one run.")


class PythonAction(_Action):
    kind: Literal["python"]
    handler: Handler = Field(examples=["shop.shipping:ship"], description="The function.")
    rules: list[ExceptionMeaning] = Field(default=[], description="What exceptions mean.")


class HttpAction(_Action):
    kind: Literal["http"]
    url: Url = Field(
        examples=["https://ship.example/orders/{{ data.id }}"], description="A template."
    )
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = Field(
        default="POST", description="HTTP's method."
    )
    headers: dict[HeaderName, str] = Field(default={}, description="Templates.")
    body: str | None = Field(default=None, description="A template; default: the event's data.")
    auth: Auth | None = Field(default=None, description="Credentials, by reference.")
    rules: list[CodeMeaning] = Field(default=[], description="What status codes mean.")


class ProgramAction(_Action):
    kind: Literal["program"]
    arguments: Annotated[list[str], Field(min_length=1)] = Field(
        examples=['[/usr/bin/load, "{{ data.path }}"]'], description="Templates; never a shell."
    )
    environment: list[Text] = Field(
        default=[], description="Variables of the worker that the program may see."
    )
    directory: Text | None = Field(default=None, description="Where it runs.")
    rules: list[CodeMeaning] = Field(default=[], description="What exit codes mean.")


class RecordAction(_Action):
    kind: Literal["record"]
    topic: TopicName = Field(examples=["shop.label.wanted"], description="Where to write.")
    type: Text | None = Field(default=None, description="Its type; default: the topic's name.")
    key: str | None = Field(default=None, description="A template; default: the command's key.")
    value: str | None = Field(default=None, description="A template; default: the event's data.")
    headers: dict[Text, str] = Field(default={}, description="Templates.")
    partitions: Partitions | None = Field(
        default=None, description="Of the topic, if no contract says it."
    )


class SqlAction(_Action):
    kind: Literal["sql"]
    connection: Reference = Field(
        examples=["env:SHOP_DATABASE"], description="Reference to a connection string."
    )
    statement: Text = Field(
        examples=["UPDATE stock SET n = n - %(items)s WHERE id = %(item)s"],
        description="SQL, with %(name)s for parameters.",
    )
    parameters: dict[Text, Annotated[str, Field(pattern="^/")]] = Field(
        default={}, description="JSON pointers into the data, by the parameter's name."
    )
    inbox: Table = Field(default="edo_inbox", description="Table that tells what has run.")
    inbox_kept: PositiveDuration = Field(
        default=_INBOX_KEPT_MS, description="How long it tells; longer than a command may come."
    )
    rules: list[StateMeaning] = Field(default=[], description="What SQLSTATEs mean.")


class AirflowAction(_Action):
    kind: Literal["airflow"]
    url: Url = Field(examples=["http://airflow:8080"], description="Of the API server.")
    dag: Text = Field(examples=["daily_revenue"], description="The DAG's id.")
    conf: str | None = Field(default=None, description="Template of a JSON object.")
    user: Text | None = Field(default=None, description="For a token.")
    password: Reference | None = Field(default=None, description="Reference to its password.")
    token: Reference | None = Field(default=None, description="Reference to a token.")
    wait: bool = Field(default=False, description="Whether to wait for the run's end.")


class DaprAction(_Action):
    kind: Literal["dapr"]
    invoke: Annotated[str, Field(pattern="^[^/]+/.+")] | None = Field(
        default=None, description="<app id>/<method>, to call a service; a template."
    )
    publish: Annotated[str, Field(pattern="^[^/]+/[^/]+$")] | None = Field(
        default=None, description="<pubsub>/<topic>, to publish; a template."
    )
    sidecar: Url = Field(default="http://127.0.0.1:3500", description="Dapr's HTTP endpoint.")
    token: Reference | None = Field(default=None, description="Reference to Dapr's API token.")


class NoopAction(_Action):
    kind: Literal["noop"]


Action = Annotated[
    PythonAction
    | HttpAction
    | ProgramAction
    | RecordAction
    | SqlAction
    | AirflowAction
    | DaprAction
    | NoopAction,
    Field(discriminator="kind"),
]
