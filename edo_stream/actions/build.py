"""From what flows declare to the targets that run their commands."""

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import aiohttp

from edo_stream.actions.airflow import AirflowExecutor, DagRun
from edo_stream.actions.handler import HandlerError, PythonExecutor, load_handler
from edo_stream.actions.http import HttpExecutor, HttpRequest
from edo_stream.actions.kafka import RecordExecutor, RecordPlan
from edo_stream.actions.noop import do_nothing
from edo_stream.actions.process import Program, ProgramExecutor
from edo_stream.actions.rules import CodeRule
from edo_stream.actions.template import Place, Template, place_of
from edo_stream.core.act.breaker import BreakerPolicy
from edo_stream.core.act.limits import RateLimit
from edo_stream.core.act.outcome import FailureClass
from edo_stream.engine.target import Executor, Protection, Target, Targets
from edo_stream.flows.declaration import (
    Action,
    AirflowAction,
    Auth,
    CodeMeaning,
    DaprAction,
    FlowDeclaration,
    HttpAction,
    NoopAction,
    ProgramAction,
    PythonAction,
    RecordAction,
    SqlAction,
)
from edo_stream.flows.flow import Flow, Flows
from edo_stream.gateway.secrets import SecretUnreadError, read_secret
from edo_stream.registry import Finding, Registry, RegistryError


class Outside:
    """What executors share: a session of HTTP connections, made when the first one is needed."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self.now_ms = now_ms

    @cached_property
    def _session(self) -> aiohttp.ClientSession:
        # The limit of time is the flow's own.
        return aiohttp.ClientSession(
            # Each flow has its own bound; one for all would let a slow receiver starve others.
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=None),
            # What a receiver sets for one command is none of the next one's.
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "edo_stream"},
        )

    def session(self) -> aiohttp.ClientSession:
        """The session; call it in the event loop."""
        return self._session

    def now_s(self) -> float:
        """Epoch seconds."""
        return self.now_ms() / 1000

    async def close(self) -> None:
        """Close what was opened."""
        if "_session" in self.__dict__:
            await self._session.close()


def targets_of(flows: Flows, registry: Registry, outside: Outside) -> Targets:
    """Make the targets of all flows.

    Raises:
        RegistryError: handlers, templates or secrets cannot be used; with every mistake.
    """
    findings: list[Finding] = []
    targets: dict[str, Target] = {}
    for name, flow in flows.flows.items():
        declaration = flow.declaration
        executors: list[Executor | None] = []
        for key, action in (("action", declaration.action), ("fallback", declaration.fallback)):
            try:
                executors.append(
                    None if action is None else _executor(action, flow, registry, outside)
                )
            except (HandlerError, SecretUnreadError, ValueError) as error:
                findings.append(Finding(flow.file, 1, f"{key}: {error}"))
        if len(executors) == 2 and executors[0] is not None:
            protection = _protection(declaration)
            targets[name] = Target(name, executors[0], protection, outside.now_ms, executors[1])
    if findings:
        raise RegistryError(findings)
    return targets


def _executor(action: Action, flow: Flow, registry: Registry, outside: Outside) -> Executor:  # noqa: PLR0911 - one line a kind
    match action:
        case PythonAction():
            return PythonExecutor(load_handler(action.handler))
        case HttpAction():
            return HttpExecutor(_request(action), outside.session, outside.now_s)
        case ProgramAction():
            return ProgramExecutor(_program(action))
        case RecordAction():
            return RecordExecutor(_record(action, flow, registry))
        case SqlAction():
            return _sql(action)
        case AirflowAction():
            return AirflowExecutor(_dag_run(action), outside.session, outside.now_s)
        case DaprAction():
            return HttpExecutor(_dapr(action), outside.session, outside.now_s)
        case NoopAction():
            return do_nothing


def _secret(reference: str) -> Callable[[], str]:
    """Read it now, so that a start without it fails, and anew for each use."""
    read_secret(reference)
    return lambda: read_secret(reference)[0]


def _templates(texts: dict[str, str]) -> dict[str, Template]:
    return {name: Template(text) for name, text in texts.items()}


def _content(text: str | None) -> Template | None:
    return None if text is None else Template(text, place_of(text))


def _request(action: HttpAction) -> HttpRequest:
    return HttpRequest(
        method=action.method,
        url=Template(action.url, Place.URL),
        headers=_templates(action.headers),
        body=_content(action.body),
        secrets={} if action.auth is None else _credentials(action.auth),
        rules=_rules(action.rules),
    )


def _credentials(auth: Auth) -> dict[str, Callable[[], str]]:
    headers = {name: _secret(reference) for name, reference in auth.header.items()}
    if auth.bearer is not None:
        token = _secret(auth.bearer)
        headers["Authorization"] = lambda: f"Bearer {token()}"
    if auth.basic is not None:
        user, password = auth.basic.user, _secret(auth.basic.password)
        headers["Authorization"] = lambda: aiohttp.BasicAuth(user, password()).encode()
    return headers


def _rules(meanings: Sequence[CodeMeaning]) -> tuple[CodeRule, ...]:
    rules = []
    for meaning in meanings:
        kind = None if meaning.means == "success" else FailureClass(meaning.means)
        for code in meaning.codes:
            first, _, last = str(code).strip().partition("-")
            if not first.isdigit() or (last and not last.isdigit()):
                raise ValueError(f"{code} is not a code: write 404, or a range such as 500-599")
            rules.append(CodeRule(int(first), int(last or first), kind))
    return tuple(rules)


def _program(action: ProgramAction) -> Program:
    return Program(
        arguments=[Template(argument) for argument in action.arguments],
        environment=action.environment,
        directory=None if action.directory is None else Path(action.directory),
        rules=_rules(action.rules),
    )


def _record(action: RecordAction, flow: Flow, registry: Registry) -> RecordPlan:
    partitions = action.partitions
    if partitions is None:
        partitions = registry.entries[action.topic].declaration.partitions
    return RecordPlan(
        topic=action.topic,
        partitions=partitions,
        type=action.type or action.topic,
        source=f"/edo/{flow.policy.flow}",
        key=None if action.key is None else Template(action.key),
        value=_content(action.value),
        headers=_templates(action.headers),
    )


def _sql(action: SqlAction) -> Executor:
    try:
        from edo_stream.actions.sql import SqlExecutor, Statement  # noqa: PLC0415 - an extra
    except ImportError:
        raise ValueError("kind sql needs psycopg: pip install 'edo-stream[sql]'") from None
    statement = Statement(
        action.statement, action.parameters, action.inbox, frozenset(action.business_states)
    )
    return SqlExecutor(statement, _secret(action.connection))


def _dag_run(action: AirflowAction) -> DagRun:
    credentials: Any = None
    if action.user is not None and action.password is not None:
        user, password = action.user, _secret(action.password)

        def credentials() -> tuple[str, str]:
            return user, password()

    return DagRun(
        url=action.url,
        dag_id=action.dag,
        conf=None if action.conf is None else Template(action.conf, Place.JSON),
        credentials=credentials,
        token=None if action.token is None else _secret(action.token),
        waits=action.wait,
    )


def _dapr(action: DaprAction) -> HttpRequest:
    if action.invoke is not None:
        app, _, method = action.invoke.partition("/")
        path = f"invoke/{app}/method/{method}"
    else:
        path = f"publish/{action.publish}"
    return HttpRequest("POST", Template(f"{action.sidecar.rstrip('/')}/v1.0/{path}", Place.URL))


def _protection(declaration: FlowDeclaration) -> Protection:
    rate, breaker = declaration.rate, declaration.breaker
    return Protection(
        concurrency=declaration.concurrency,
        timeout_s=declaration.action.timeout / 1000,
        rate=None if rate is None else RateLimit(rate.per_second, rate.burst),
        breaker=BreakerPolicy(
            failure_ratio=breaker.failure_ratio,
            window=breaker.window,
            consecutive=breaker.consecutive,
            open_ms=breaker.open,
            open_max_ms=breaker.open_max,
            probes=breaker.probes,
        ),
        letters_max=declaration.letters_max,
    )
