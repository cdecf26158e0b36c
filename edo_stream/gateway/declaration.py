"""What a ``gateway.yaml`` may say: its keys, their values, their defaults."""

import ipaddress
import re
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field, model_validator

from edo_stream.gateway.expression import ExpressionError, compile_expression
from edo_stream.gateway.secrets import is_reference
from edo_stream.registry.declaration import Declared
from edo_stream.registry.names import TopicName
from edo_stream.registry.quantity import Duration, PositiveDuration, Size
from edo_stream.webhooks.options import (
    Algorithm,
    Auth,
    Encoding,
    Options,
    SecretEncoding,
    TimestampUnit,
)
from edo_stream.webhooks.schemes import UnknownSchemeError, scheme_name

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,48}")
_PATH: Final = re.compile(r"(/[A-Za-z0-9._~!$&'()*+,;=:@-]+)+")
_RATE: Final = re.compile(r"([0-9]{1,9})/(s|m|h)")
_MEDIA: Final = re.compile(r"(\*|[a-z0-9.+-]+)/(\*|[*a-z0-9.+-]+)")
_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,80}")
_UNIT_S: Final = {"s": 1, "m": 60, "h": 3_600}
#: Paths that the gateway answers itself.
RESERVED: Final = ("/healthz", "/readyz", "/metrics")
#: Headers that records have from the gateway itself.
_WRITTEN: Final = ("content-type", "traceparent", "tracestate")
_WRITTEN_PREFIX: Final = "ce_"


def _source_name(value: object) -> str:
    if isinstance(value, str) and _NAME.fullmatch(value):
        return value
    raise ValueError(f"{value} is not a name: write lower-case letters, digits, - and _")


def _path(value: object) -> str:
    if not isinstance(value, str) or not _PATH.fullmatch(value) or "/../" in f"{value}/":
        raise ValueError(f"{value} is not a path: write one such as /hooks/github")
    if value in RESERVED:
        raise ValueError(f"{value} is answered by the gateway itself: write another path")
    return value


def address(value: object) -> tuple[str, int]:
    host, _, port = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    if host and port.isascii() and port.isdigit() and int(port) < 65_536:
        return host.removeprefix("[").removesuffix("]"), int(port)
    raise ValueError(f"{value} is not an address: write host:port, such as 0.0.0.0:8080")


def _network(value: object) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(str(value))
    except ValueError:
        raise ValueError(
            f"{value} is not a network: write an address or a range such as 10.0.0.0/8"
        ) from None


def _scheme(value: object) -> str:
    if value == "none":
        return "none"
    try:
        return scheme_name(str(value))
    except UnknownSchemeError as error:
        raise ValueError(str(error)) from None


def _reference(value: object) -> str:
    if isinstance(value, str) and is_reference(value):
        return value
    # What was written may be the secret itself: it is not repeated.
    raise ValueError("a secret is written by reference: env:NAME or file:PATH")


def _expression(value: object) -> str:
    try:
        compile_expression(value if isinstance(value, str) else "")
    except ExpressionError as error:
        raise ValueError(str(error)) from None
    return str(value)


def _rate(value: object) -> float:
    match = _RATE.fullmatch(value) if isinstance(value, str) else None
    if match is None or int(match[1]) == 0:
        raise ValueError(f"{value} is not a rate: write requests in a time, such as 100/s or 600/m")
    return int(match[1]) / _UNIT_S[match[2]]


def _media(value: object) -> str:
    if isinstance(value, str) and _MEDIA.fullmatch(value.lower()):
        return value.lower()
    raise ValueError(f"{value} is not a content type: write one such as application/json or */*")


def _header(value: object) -> str:
    if isinstance(value, str) and _HEADER.fullmatch(value):
        return value
    raise ValueError(f"{value} is not the name of a header: write one such as X-GitHub-Event")


def _carried(value: object) -> str:
    name = _header(value)
    if name.lower() in _WRITTEN or name.lower().startswith(_WRITTEN_PREFIX):
        raise ValueError(f"{name} is written by the gateway itself: remove it")
    return name


Network = Annotated[ipaddress.IPv4Network | ipaddress.IPv6Network, BeforeValidator(_network)]
Address = Annotated[tuple[str, int], BeforeValidator(address)]
Expression = Annotated[str, BeforeValidator(_expression)]
HeaderName = Annotated[str, BeforeValidator(_header)]
CarriedName = Annotated[str, BeforeValidator(_carried)]
SourceName = Annotated[str, BeforeValidator(_source_name)]
Count = Annotated[int, Field(ge=1, le=10_000_000)]
Body = Literal[
    "json",
    "form",
    "raw",
    "cloudevents",
    "event-grid",
    "eventbridge",
    "s3",
    "minio",
    "gcs",
    "azure-blob",
]


class Verify(Declared):
    scheme: Annotated[str, BeforeValidator(_scheme)] = Field(examples=["github"])
    secrets: list[Annotated[str, BeforeValidator(_reference)]] = Field(
        default=[], description="Where the secrets are; several while one is rotated."
    )
    window: PositiveDuration | None = None
    header: HeaderName | None = None
    prefix: str = ""
    algorithm: Algorithm = "sha256"
    encoding: Encoding = "hex"
    secret_encoding: SecretEncoding = "text"  # noqa: S105 - how a secret is written
    template: str = "{body}"
    timestamp_header: HeaderName | None = None
    timestamp_unit: TimestampUnit = "s"
    id_header: HeaderName | None = None
    auth: Auth | None = None
    query: str | None = None
    topic_arns: list[str] = Field(default=[])
    audience: str | None = None
    email: str | None = None

    def options(self) -> Options:
        """What the schemes are told."""
        told = self.model_dump(exclude={"scheme", "secrets", "window", "topic_arns"})
        return Options(window_ms=self.window, topic_arns=tuple(self.topic_arns), **told)


class Backpressure(Declared):
    lag: Count | None = None
    age: Duration | None = None
    flows: list[str] | None = None
    retry_after: Duration = 10_000

    @model_validator(mode="after")
    def _check_bound(self) -> "Backpressure":
        if self.lag is None and self.age is None:
            raise ValueError("backpressure needs lag or age: write for instance lag: 10000")
        return self


class Source(Declared):
    topic: TopicName = Field(examples=["shop.payment.received"])
    verify: Verify = Field(examples=["{scheme: github, secrets: [env:GITHUB_SECRET]}"])
    path: Annotated[str, BeforeValidator(_path)] | None = None
    body: Body | None = None
    form_field: str | None = None
    id: Expression | None = None
    type: Expression | None = None
    source: Expression | None = None
    subject: Expression | None = None
    time: Expression | None = None
    key: Expression | None = None
    headers: list[CarriedName] | None = None
    size: Annotated[Size, Field(ge=1, le=16 << 20)] = 256 << 10
    content_types: list[Annotated[str, BeforeValidator(_media)]] | None = None
    networks: list[Network] | None = Field(default=None, alias="from")
    rate: Annotated[float | None, BeforeValidator(_rate)] = None
    burst: Count | None = None
    backpressure: Backpressure | None = None
    confirm: bool = True

    @model_validator(mode="after")
    def _check_burst(self) -> "Source":
        if self.burst is not None and self.rate is None:
            raise ValueError("burst means nothing without rate")
        return self


class Limits(Declared):
    connections: Count = 4_096
    header_time: PositiveDuration = 10_000
    body_time: PositiveDuration = 30_000
    idle_time: PositiveDuration = 75_000
    header_bytes: Annotated[Size, Field(ge=1 << 10, le=1 << 20)] = 16 << 10
    in_flight: Count = 20_000
    in_flight_bytes: Annotated[Size, Field(ge=1 << 16)] = 64 << 20


class Refused(Declared):
    topic: str | None = "edo.gateway.rejected"
    rate: Annotated[float, BeforeValidator(_rate)] = 5.0


class Tls(Declared):
    certificate: str = Field(examples=["/etc/tls/tls.crt"])
    key: str = Field(examples=["/etc/tls/tls.key"])


class Declaration(Declared):
    """A whole ``gateway.yaml``."""

    listen: Address = ("127.0.0.1", 8080)
    admin: Address | None = None
    tls: Tls | None = None
    reuse_port: bool = False
    trusted_proxies: list[Network] = Field(default=[])
    limits: Limits = Limits()
    produce_time: PositiveDuration = 5_000
    drain_time: Duration = 15_000
    remembered: Annotated[int, Field(ge=0, le=10_000_000)] = 100_000
    rejected: Refused = Refused()
    access_log: Literal["all", "refused", "off"] = "all"
    allowed_origins: list[str] = Field(default=["*"])
    sources: Annotated[dict[SourceName, Source], Field(min_length=1)] = Field(
        examples=["{github: {topic: …, verify: …}}"]
    )
