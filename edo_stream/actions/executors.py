"""From what an action declares to the executor that does it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp

from edo_stream.actions.airflow import AirflowExecutor, DagRun
from edo_stream.actions.handler import HandlerError, PythonExecutor, load_handler
from edo_stream.actions.http import HttpExecutor, HttpRequest
from edo_stream.actions.kafka import RecordExecutor, RecordPlan
from edo_stream.actions.noop import do_nothing
from edo_stream.actions.outside import Outside
from edo_stream.actions.process import Program, ProgramExecutor
from edo_stream.actions.rules import CodeRule
from edo_stream.actions.supervised import Supervised
from edo_stream.actions.template import Place, Template, place_of
from edo_stream.core.act.outcome import FailureClass
from edo_stream.engine.target import Executor
from edo_stream.flows.actions import (
    Action,
    AirflowAction,
    Auth,
    CodeMeaning,
    DaprAction,
    HttpAction,
    NoopAction,
    ProgramAction,
    PythonAction,
    RecordAction,
    SqlAction,
)
from edo_stream.flows.flow import Flow
from edo_stream.gateway.secrets import SecretUnreadError, read_secret
from edo_stream.registry import Registry
from edo_stream.registry.document import Place as FilePlace


class ActionError(Exception):
    """An action cannot be done as it is declared; ``place`` leads to what is to be changed."""

    def __init__(self, place: FilePlace, message: str) -> None:
        super().__init__(message)
        self.place = place


def executor_of(action: Action, flow: Flow, registry: Registry, outside: Outside) -> Executor:
    """Make the executor of a flow's action.

    Raises:
        ActionError: its handler, a template or a secret cannot be used.
    """
    concurrency: Any = flow.declaration.concurrency
    runs_max = getattr(concurrency, "max", concurrency)
    return Supervised(_Maker(flow, registry, outside).make(action), runs_max)


@contextmanager
def _at(*place: str | int) -> Iterator[None]:
    """Tell where in the action a mistake is."""
    try:
        yield
    except (ValueError, HandlerError, SecretUnreadError) as error:
        raise ActionError(place, ".".join(map(str, place)) + f": {error}") from error


class _Maker:
    """Makes executors for one flow."""

    def __init__(self, flow: Flow, registry: Registry, outside: Outside) -> None:
        self._flow = flow
        self._registry = registry
        self._outside = outside

    def make(self, action: Action) -> Executor:  # noqa: PLR0911 - one line a kind
        match action:
            case PythonAction():
                return self._python(action)
            case HttpAction():
                return self._http(self._request(action))
            case ProgramAction():
                return ProgramExecutor(_program(action))
            case RecordAction():
                return RecordExecutor(self._record(action))
            case SqlAction():
                return self._sql(action)
            case AirflowAction():
                outside = self._outside
                return AirflowExecutor(self._dag_run(action), outside.session, outside.now_s)
            case DaprAction():
                return self._http(self._dapr(action))
            case NoopAction():
                return do_nothing

    def _python(self, action: PythonAction) -> Executor:
        with _at("handler"):
            function = load_handler(action.handler)
        meanings = {
            name: FailureClass(rule.means) for rule in action.rules for name in rule.exceptions
        }
        executor = PythonExecutor(function, meanings)
        self._outside.on_close(executor.close)
        return executor

    def _http(self, request: HttpRequest) -> Executor:
        return HttpExecutor(request, self._outside.session, self._outside.now_s)

    def _request(self, action: HttpAction) -> HttpRequest:
        with _at("url"):
            url = Template(action.url, Place.URL)
        return HttpRequest(
            method=action.method,
            url=url,
            headers=_templates(action.headers, "headers"),
            body=_content(action.body, "body"),
            secrets={} if action.auth is None else self._credentials(action.auth),
            rules=_rules(action.rules),
        )

    def _credentials(self, auth: Auth) -> dict[str, Callable[[], str]]:
        headers = {
            name: self._secret(reference, "auth", "header", name)
            for name, reference in auth.header.items()
        }
        if auth.bearer is not None:
            token = self._secret(auth.bearer, "auth", "bearer")
            headers["Authorization"] = lambda: f"Bearer {token()}"
        if auth.basic is not None:
            user = auth.basic.user
            password = self._secret(auth.basic.password, "auth", "basic", "password")
            headers["Authorization"] = lambda: aiohttp.BasicAuth(user, password()).encode()
        return headers

    def _secret(self, reference: str, *place: str) -> Callable[[], str]:
        """Read it now, so that a start without it fails, and anew for each use."""
        if self._outside.reads_secrets:
            with _at(*place):
                read_secret(reference)
        return lambda: read_secret(reference)[0]

    def _record(self, action: RecordAction) -> RecordPlan:
        entry, partitions = self._registry.entries.get(action.topic), action.partitions
        limits = {} if entry is None else {"bytes_max": entry.declaration.record_bytes_max}
        if partitions is None:
            with _at("topic"):
                if entry is None:
                    raise ValueError(f"no contract of {action.topic}: write its partitions")
                partitions = entry.declaration.partitions
        elif entry is not None and partitions != entry.declaration.partitions:
            with _at("partitions"):
                raise ValueError(f"the contract says {entry.declaration.partitions}: leave it out")
        with _at("key"):
            key = None if action.key is None else Template(action.key)
        return RecordPlan(
            topic=action.topic,
            partitions=partitions,
            type=action.type or action.topic,
            source=f"/edo/{self._flow.policy.flow}",
            key=key,
            value=_content(action.value, "value"),
            headers=_templates(action.headers, "headers"),
            **limits,
        )

    def _sql(self, action: SqlAction) -> Executor:
        with _at("kind"):
            try:
                from edo_stream.actions.sql import SqlExecutor, Statement  # noqa: PLC0415 - an extra
            except ImportError:
                raise ValueError("needs psycopg: pip install 'edo-stream[sql]'") from None
        with _at("statement"):
            statement = Statement(
                action.statement,
                action.parameters,
                action.inbox,
                action.inbox_kept,
                {state: FailureClass(rule.means) for rule in action.rules for state in rule.states},
                action.timeout,
            )
        executor = SqlExecutor(statement, self._secret(action.connection, "connection"))
        self._outside.on_close(executor.close)
        return executor

    def _dag_run(self, action: AirflowAction) -> DagRun:
        credentials: Callable[[], tuple[str, str]] | None = None
        if action.user is not None and action.password is not None:
            user, password = action.user, self._secret(action.password, "password")

            def credentials() -> tuple[str, str]:
                return user, password()

        with _at("conf"):
            conf = None if action.conf is None else Template(action.conf, Place.JSON)
        return DagRun(
            url=action.url,
            dag_id=action.dag,
            conf=conf,
            credentials=credentials,
            token=None if action.token is None else self._secret(action.token, "token"),
            waits=action.wait,
        )

    def _dapr(self, action: DaprAction) -> HttpRequest:
        rules: tuple[CodeRule, ...] = ()
        if action.invoke is not None:
            field = "invoke"
            app, _, method = action.invoke.partition("/")
            path = f"invoke/{app}/method/{method}"
        else:
            field = "publish"
            # Dapr makes the event; its id is the command's, so that a repetition can be told.
            path = (
                f"publish/{action.publish}?metadata.cloudevent.id={{{{ id }}}}"
                "&metadata.partitionKey={{ key }}"
            )
            # A component or a right that is missing: nothing that a command can help.
            rules = (CodeRule(403, 404, FailureClass.TRANSIENT),)
        with _at(field):
            url = Template(f"{action.sidecar.rstrip('/')}/v1.0/{path}", Place.URL)
        secrets = {}
        if action.token is not None:
            secrets["dapr-api-token"] = self._secret(action.token, "token")
        return HttpRequest("POST", url, secrets=secrets, rules=rules)


def _templates(texts: Mapping[str, str], place: str) -> dict[str, Template]:
    templates = {}
    for name, text in texts.items():
        with _at(place, name):
            templates[name] = Template(text)
    return templates


def _content(text: str | None, place: str) -> Template | None:
    with _at(place):
        return None if text is None else Template(text, place_of(text))


def _rules(meanings: Sequence[CodeMeaning]) -> tuple[CodeRule, ...]:
    return tuple(
        CodeRule(first, last, None if meaning.means == "success" else FailureClass(meaning.means))
        for meaning in meanings
        for first, last in meaning.codes
    )


def _program(action: ProgramAction) -> Program:
    arguments = []
    for index, argument in enumerate(action.arguments):
        with _at("arguments", index):
            arguments.append(Template(argument))
    return Program(
        arguments=arguments,
        environment=action.environment,
        directory=None if action.directory is None else Path(action.directory),
        rules=_rules(action.rules),
    )
