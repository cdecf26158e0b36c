"""Runs of DAGs in Airflow 3, by its REST API: a run's id derives from the command's.

So a repeated request meets the run that the first one made: Airflow answers 409, and a look whether
the run is there tells that from any other conflict.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final
from urllib.parse import quote

import aiohttp
import msgspec

from edo_stream.actions.http import Answer, ask, failed
from edo_stream.actions.rules import HTTP_RULES, CodeRule, meaning_of
from edo_stream.actions.template import Template, UnfilledError, values_of
from edo_stream.core.act.command import Command
from edo_stream.core.act.outcome import Done, Failed, FailureClass, Outcome

_POLL_S: Final = (0.5, 1, 2, 5, 10)
_SUCCEEDED: Final = "success"
_ENDED: Final = frozenset({_SUCCEEDED, "failed"})
# Rights or a DAG that are missing are to be mended there, and nothing that a command can help.
_RULES: Final = (CodeRule(403, 404, FailureClass.TRANSIENT), *HTTP_RULES)


class _LoginError(Exception):
    """Airflow gives no token for the user; says so, and not the password."""


@dataclass(frozen=True, slots=True)
class DagRun:
    """Which DAG to run, and where."""

    url: str
    """Of the API server, such as ``http://airflow:8080``."""
    dag_id: str
    conf: Template | None = None
    """JSON object of the run's configuration; ``None``: the event's data, if it is an object."""
    credentials: Callable[[], tuple[str, str]] | None = None
    """User and password, for a token."""
    token: Callable[[], str] | None = None
    """A token, where another way than the simple one gives it."""
    waits: bool = False
    """Whether the command ends with the run, not with its start."""


def dag_run_id(command: Command) -> str:
    """Id of the run of a command, the same for each attempt."""
    return "edo__" + sha256(command.id.encode()).hexdigest()[:32]


class AirflowExecutor:
    """Starts a run for each command; see the module's docstring."""

    def __init__(
        self, run: DagRun, session: Callable[[], aiohttp.ClientSession], now: Callable[[], float]
    ) -> None:
        self._run = run
        self._session = session
        self._now = now
        self._token: str | None = None
        self._login = asyncio.Lock()
        self._runs = f"{run.url.rstrip('/')}/api/v2/dags/{quote(run.dag_id, safe='')}/dagRuns"

    async def __call__(self, command: Command) -> Outcome:
        """Start the run, or find that it was started; wait for its end if told to."""
        try:
            conf = self._conf(command)
        except UnfilledError as error:
            return Failed(FailureClass.POISON, "template", str(error))
        run_id = dag_run_id(command)
        body = {"dag_run_id": run_id, "logical_date": None, "conf": conf}
        try:
            answer = await self._ask("POST", self._runs, body)
            if answer.status == 409:
                answer = await self._ask("GET", f"{self._runs}/{run_id}", None)
                if answer.status == 404:
                    return Failed(FailureClass.POISON, "http-409", "another conflict")
            if (refused := self._failed(answer)) is not None:
                return refused
            return await self._wait(run_id, answer) if self._run.waits else _done(answer)
        except _LoginError as error:
            # A user that is refused is a setting to mend, and nothing that a command can help.
            return Failed(FailureClass.TRANSIENT, "login", str(error))
        except aiohttp.ClientError as error:
            return Failed(FailureClass.TRANSIENT, "connection", type(error).__name__)

    def _conf(self, command: Command) -> Any:
        values = values_of(command)
        if self._run.conf is None:
            return values["data"] if isinstance(values["data"], dict) else {}
        conf = msgspec.json.decode(self._run.conf.fill(values))
        if not isinstance(conf, dict):
            raise UnfilledError("conf: expected a JSON object")
        return conf

    async def _wait(self, run_id: str, answer: Answer) -> Outcome:
        polls = 0
        while (state := _text(answer, "state")) not in _ENDED:
            await asyncio.sleep(_POLL_S[min(polls, len(_POLL_S) - 1)])
            polls += 1
            answer = await self._ask("GET", f"{self._runs}/{run_id}", None)
            if (refused := self._failed(answer)) is not None:
                return refused
        if state == _SUCCEEDED:
            return _done(answer)
        return Failed(FailureClass.BUSINESS, "dag-run-failed", f"{self._run.dag_id} {run_id}")

    async def _ask(self, method: str, url: str, body: Any) -> Answer:
        """Send a request, and once more with a new token if the old one is not good any more."""
        token = await self._bearer()
        answer = await self._send(method, url, body, token)
        if self._run.credentials is None or not _is_of_the_token(answer):
            return answer
        if self._token == token:
            self._token = None
        return await self._send(method, url, body, await self._bearer())

    async def _send(self, method: str, url: str, body: Any, token: str | None) -> Answer:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return await ask(self._session(), method, url, json=body, headers=headers)

    async def _bearer(self) -> str | None:
        run = self._run
        if run.token is not None:
            return run.token()
        if run.credentials is None:
            return None
        async with self._login:
            if self._token is None:
                user, password = run.credentials()
                answer = await ask(
                    self._session(),
                    "POST",
                    f"{run.url.rstrip('/')}/auth/token",
                    json={"username": user, "password": password},
                )
                self._token = _text(answer, "access_token")
                if not self._token:
                    self._token = None
                    raise _LoginError(f"no token for user {user}: status {answer.status}")
            return self._token

    def _failed(self, answer: Answer) -> Failed | None:
        meaning = meaning_of(answer.status, _RULES)
        if meaning is None:
            return None
        return failed(answer, meaning, _text(answer, "detail")[:300], self._now())


def _is_of_the_token(answer: Answer) -> bool:
    """Whether a token was refused: 401 when it has expired, 403 when its key is another one."""
    return answer.status == 401 or (answer.status == 403 and "token" in _text(answer, "detail"))


def _done(answer: Answer) -> Done:
    return Done(answer.body, answer.content_type)


def _text(answer: Answer, name: str) -> str:
    """A text of an answer in JSON; empty when there is none."""
    try:
        found = msgspec.json.decode(answer.body)
    except (ValueError, RecursionError):
        return ""
    value = found.get(name) if isinstance(found, dict) else None
    if isinstance(value, dict):
        # Of a refused constraint: the statement besides is nothing for a person.
        value = value.get("reason")
    return value if isinstance(value, str) else ""
