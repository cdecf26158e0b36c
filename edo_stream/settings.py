"""Settings of this process: the only reader of the environment.

Every field is one variable: ``EDO_`` and its name in capitals. Units are in the names.
"""

import os
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from socket import gethostname
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo

PREFIX: Final = "EDO_"
#: The suffix says the unit; what has none counts things or is a text.
_UNITS: Final = {"_ms": "ms", "_bytes": "bytes"}
_SERVICE_PATTERN: Final = r"^[a-z][a-z0-9-]{0,48}$"

Milliseconds = Annotated[int, Field(ge=1, le=86_400_000)]


class SettingsError(Exception):
    """The environment cannot be used; ``problems`` has a line for each variable to change."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(problems))


class Settings(BaseModel):
    """What differs between two places that run the same version."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    service: str = Field(
        "edo",
        pattern=_SERVICE_PATTERN,
        description="Name of this installation; consumer groups begin with it, such as edo-decide",
    )
    instance: str | None = Field(
        None,
        min_length=1,
        max_length=100,
        description="Name of this worker, unique and kept over restarts: static membership, so "
        "that a restart within the session timeout moves no partition",
    )
    broker: str = Field(
        "127.0.0.1:9092", description="Kafka's bootstrap servers, host:port, comma-separated"
    )
    topics: Path = Field(Path("topics"), description="Folder of the declared topics")
    schedules: Path | None = Field(
        None,
        description="Folder of the declared schedules; without it, `schedules` beside the topics, "
        "which may be missing",
    )
    flows: Path | None = Field(
        None,
        description="Folder of the declared flows; without it, `flows` beside the topics, which "
        "may be missing",
    )
    data: Path = Field(Path("data"), description="Folder of this worker's state; may be lost")

    session_timeout_ms: Milliseconds = Field(
        10_000,
        description="A worker that is silent for so long loses its partitions; the broker allows "
        "6,000 to 1,800,000 unless configured otherwise",
    )
    heartbeat_interval_ms: Milliseconds = Field(
        3_000, description="Time between two signs of life; at most a third of the session timeout"
    )
    rebalance_timeout_ms: Milliseconds = Field(
        30_000, description="Time that workers have to finish their batches in a rebalance"
    )
    transaction_timeout_ms: Annotated[int, Field(ge=1_000, le=900_000)] = Field(
        10_000,
        description="The broker aborts a transaction that is open for so long: how long readers "
        "wait behind a worker that died; at most the broker's transaction.max.timeout.ms",
    )
    transaction_protocol: Literal["auto", "1"] = Field(
        "auto",
        description="Version of Kafka's transaction protocol: `auto` takes the second (KIP-890), "
        "which needs fewer requests, where the brokers have agreed upon it when the worker starts, "
        "and on a `metadata.version` of Kafka 4.1 (4.0.0 has KAFKA-19367); `1` takes the first",
    )
    batch_records_max: Annotated[int, Field(ge=1, le=100_000)] = Field(
        4_000,
        description="Records of one partition in one transaction, at most; twice as many of events "
        "that have come to their waits",
    )
    transactions_per_second_max: Annotated[int, Field(ge=1, le=10_000)] = Field(
        300,
        description="Transactions that this worker starts, over all its tasks: many busy tasks "
        "wait and take larger batches",
    )
    standbys: Annotated[int, Field(ge=0, le=8)] = Field(
        0,
        description="Workers that keep the state of each task warm besides the one that runs it, "
        "so that one of them takes over within moments; the same on all workers",
    )
    accept_loss: str = Field(
        "",
        pattern=r"^$|^[^:, ]+:\d+:\d+-\d+(,[^:, ]+:\d+:\d+-\d+)*$",
        description="Ranges of records that are gone from the log unread and may be skipped, as "
        "the worker's message names them: topic:partition:first-next, comma-separated",
    )

    replication: Annotated[int, Field(ge=1, le=9)] = Field(
        1, description="Copies of the internal topics and changelogs; 3 in production"
    )
    compression: Literal["lz4", "zstd", "none"] = Field(
        "zstd",
        description="Compression of what workers write: results, dead letters, changelogs; "
        "records are read whatever they were written with",
    )
    compression_internal: Literal["lz4", "zstd", "none"] = Field(
        "lz4",
        description="Compression of what workers' tasks write for one another: commands, events on "
        "their way to a wait, retries; zstd halves their bytes, for more CPU (docs/benchmarks.md)",
    )
    web_bind: str = Field(
        "127.0.0.1", min_length=1, description="Address that the web server listens on"
    )
    web_port: Annotated[int, Field(ge=1, le=65_535)] = Field(
        6066, description="Port of the web server; one for each worker of a machine"
    )

    web_url: str | None = Field(
        None,
        pattern=r"^https?://[^/?#\s]+$",
        description="Address under which others reach this worker's web server, http://host:port, "
        "as a redirect to it says; without one, EDO_WEB_BIND and EDO_WEB_PORT, and the host's name "
        "where it listens on all addresses",
    )
    state_data: bool = Field(
        False,
        description="Whether the pages of state show the data of sagas' events and results as "
        "well, to whoever reaches the web server",
    )

    schema_registry: str | None = Field(
        None,
        pattern=r"^https?://[^/?#\s]+",
        description="Address of a schema registry with Confluent's API, for data in its wire "
        "format; without one, ids are not checked where records are read",
    )
    schema_registry_username: str | None = Field(
        None, min_length=1, description="User name for the schema registry"
    )
    schema_registry_password: SecretStr | None = Field(
        None, description="Password for the schema registry"
    )

    log_format: Literal["text", "json"] = Field(
        "text", description="How log lines are written: for people, or one JSON object a line"
    )

    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="How the broker is spoken to"
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(
        None, description="How this worker proves who it is"
    )
    sasl_username: str | None = Field(None, min_length=1, description="User name for SASL")
    sasl_password: SecretStr | None = Field(None, description="Password for SASL")
    sasl_password_file: Path | None = Field(
        None, description="File with the password, instead of the password itself"
    )
    tls_ca_file: Path | None = Field(
        None, description="Certificates that sign the broker's, PEM; without it, the system's"
    )
    tls_cert_file: Path | None = Field(None, description="This worker's certificate, PEM")
    tls_key_file: Path | None = Field(None, description="Key of this worker's certificate, PEM")

    @property
    def app_id(self) -> str:
        """Name of the decide plane: its consumer group, the prefix of its topics and ids."""
        return f"{self.service}-decide"

    @property
    def schedules_folder(self) -> Path:
        """Where schedules are declared, if any are."""
        return self.topics.parent / "schedules" if self.schedules is None else self.schedules

    @property
    def flows_folder(self) -> Path:
        """Where flows are declared, if any are."""
        return self.topics.parent / "flows" if self.flows is None else self.flows

    @property
    def advertised_url(self) -> str:
        """Where others reach this worker's web server."""
        if self.web_url is not None:
            return self.web_url
        host = gethostname() if self.web_bind in ("0.0.0.0", "::") else self.web_bind  # noqa: S104 - compared
        return (
            f"http://[{host}]:{self.web_port}" if ":" in host else f"http://{host}:{self.web_port}"
        )

    @property
    def accepted_losses(self) -> frozenset[tuple[str, int, int, int]]:
        """``accept_loss`` as topic, partition, first and next offset."""
        losses = []
        for loss in filter(None, self.accept_loss.split(",")):
            topic, partition, offsets = loss.rsplit(":", 2)
            first, _, following = offsets.partition("-")
            losses.append((topic, int(partition), int(first), int(following)))
        return frozenset(losses)

    @property
    def uses_sasl(self) -> bool:
        """Whether the security protocol asks for a user."""
        return self.security_protocol.startswith("SASL")

    @property
    def uses_tls(self) -> bool:
        """Whether the security protocol encrypts."""
        return self.security_protocol.endswith("SSL")

    @field_validator("accept_loss")
    @classmethod
    def _check_losses(cls, value: str) -> str:
        for loss in filter(None, value.split(",")):
            first, _, following = loss.rpartition(":")[2].partition("-")
            if int(first) >= int(following):
                raise ValueError(f"{loss} ends before it begins: write topic:partition:first-next")
        return value

    @field_validator("broker")
    @classmethod
    def _check_broker(cls, value: str) -> str:
        for server in value.split(","):
            host, _, port = server.strip().rpartition(":")
            if not host or not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
                raise ValueError(f"{server!r} is not a server: write host:port, such as kafka:9092")
        return value

    @field_validator("schedules", "flows")
    @classmethod
    def _check_folder(cls, value: Path | None) -> Path | None:
        # Left out, there may be none; a wrong name must not mean that nothing ever ticks, or that
        # no event leads to anything.
        if value is not None and not value.is_dir():
            raise ValueError(f"{value} is not a folder")
        return value

    @field_validator("sasl_password_file", "tls_ca_file", "tls_cert_file", "tls_key_file")
    @classmethod
    def _check_file(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_file():
            raise ValueError(f"{value} is not a file")
        return value

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        problems = [*_timeouts(self), *_security(self)]
        if problems:
            raise ValueError("\n".join(problems))
        return self


def _timeouts(settings: Settings) -> list[str]:
    problems = []
    if settings.heartbeat_interval_ms * 3 > settings.session_timeout_ms:
        problems.append(
            f"EDO_HEARTBEAT_INTERVAL_MS is {settings.heartbeat_interval_ms}: write at most a third "
            f"of EDO_SESSION_TIMEOUT_MS, {settings.session_timeout_ms}"
        )
    if settings.rebalance_timeout_ms < settings.session_timeout_ms:
        problems.append(
            f"EDO_REBALANCE_TIMEOUT_MS is {settings.rebalance_timeout_ms}: write at least "
            f"EDO_SESSION_TIMEOUT_MS, {settings.session_timeout_ms}"
        )
    return problems


def _security(settings: Settings) -> list[str]:
    problems = []
    protocol = settings.security_protocol
    user = (settings.sasl_mechanism, settings.sasl_username, settings.sasl_password)
    has_sasl = any(one is not None for one in user)
    if settings.uses_sasl:
        for name in ("sasl_mechanism", "sasl_username", "sasl_password"):
            if getattr(settings, name) is None:
                hint = " (or EDO_SASL_PASSWORD_FILE)" if name == "sasl_password" else ""
                problems.append(f"{variable(name)}{hint} is missing: {protocol} needs it")
    elif has_sasl:
        problems.append(
            f"EDO_SASL_MECHANISM, user name and password mean nothing with {protocol}: "
            "write EDO_SECURITY_PROTOCOL=SASL_SSL, or remove them"
        )
    if (settings.tls_cert_file is None) != (settings.tls_key_file is None):
        problems.append("EDO_TLS_CERT_FILE and EDO_TLS_KEY_FILE go together: write both or none")
    problems += [
        f"{variable(name)} means nothing with {protocol}: write EDO_SECURITY_PROTOCOL=SSL or "
        "SASL_SSL, or remove it"
        for name in ("tls_ca_file", "tls_cert_file")
        if getattr(settings, name) is not None and not settings.uses_tls
    ]
    return problems


def variable(name: str) -> str:
    """Environment variable of a field."""
    return PREFIX + name.upper()


def read_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings; empty variables count as not set.

    Raises:
        SettingsError: with every problem of every variable.
    """
    values: dict[str, Any] = {}
    problems = []
    for name in Settings.model_fields:
        if environ.get(variable(name), "") != "":
            values[name] = environ[variable(name)]
    known = [variable(name) for name in Settings.model_fields]
    for name in sorted(environ):
        # Other programs may have variables that begin alike; a near miss is a mistake.
        near = get_close_matches(name, known, n=1, cutoff=0.85) if name not in known else []
        if near and name.startswith(PREFIX):
            problems.append(f"{name} is not a setting: did you mean {near[0]}?")
    problems += _read_password(values)
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        problems += [line for item in error.errors(include_url=False) for line in _said(item)]
        raise SettingsError(problems) from None
    if problems:
        raise SettingsError(problems)
    return settings


def _read_password(values: dict[str, Any]) -> list[str]:
    """Take the password out of its file; the field then has it like any other."""
    file = values.get("sasl_password_file")
    if file is None:
        return []
    if "sasl_password" in values:
        return ["EDO_SASL_PASSWORD and EDO_SASL_PASSWORD_FILE are both set: remove one of them"]
    try:
        values["sasl_password"] = Path(file).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError):
        # That it is no file is said by its own check; the password must not be missed as well.
        values["sasl_password"] = "unread"  # noqa: S105 - stands for what could not be read
        return [] if not Path(file).is_file() else [f"EDO_SASL_PASSWORD_FILE: {file} is unreadable"]
    return []


def _said(error: Any) -> list[str]:
    """One error of the model in words; never the value of a secret."""
    if not error["loc"]:
        return str(error["ctx"]["error"]).split("\n")
    name = str(error["loc"][0])
    if error["type"] == "value_error":
        return [f"{variable(name)}: {error['ctx']['error']}"]
    message = error["msg"].replace("Input should", "should").replace("String should", "should")
    if Settings.model_fields[name].annotation == SecretStr | None:
        return [f"{variable(name)} {message}"]
    return [f"{variable(name)} is {str(error['input'])!r:.80}: {message}"]


def settings_table() -> str:
    """All settings as a Markdown table, for the documentation."""
    rows = ["| Variable | Default | Unit | Meaning |", "|---|---|---|---|"]
    for name, field in Settings.model_fields.items():
        meaning = f"{field.description}{_choices(field)}"
        rows.append(f"| `{variable(name)}` | {_default(field)} | {_unit(name)} | {meaning} |")
    return "\n".join(rows) + "\n"


def _default(field: FieldInfo) -> str:
    return "" if field.default is None else f"`{field.default}`"


def _unit(name: str) -> str:
    return next((unit for suffix, unit in _UNITS.items() if name.endswith(suffix)), "")


def _choices(field: FieldInfo) -> str:
    options = (field.annotation, *getattr(field.annotation, "__args__", ()))
    names = next(
        (option.__args__ for option in options if getattr(option, "__origin__", None) is Literal),
        (),
    )
    return f"; one of {', '.join(f'`{name}`' for name in names)}" if names else ""
