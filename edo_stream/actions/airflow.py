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

from edo_stream.actions.http import retry_after_ms
from edo_stream.actions.rules import HTTP_RULES, meaning_of
from edo_stream.actions.template import Template, UnfilledError, values_of
from edo_stream.core.act.command import Command
from edo_stream.core.act.outcome import Done, Failed, FailureClass, Outcome

_ANSWER_BYTES_MAX: Final = 256 * 1024
_POLL_S: Final = (0.5, 1, 2, 5, 10)
_SUCCEEDED: Final = "success"
_ENDED: Final = frozenset({_SUCCEEDED, "failed"})


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
        except (UnfilledError, ValueError) as error:
            return Failed(FailureClass.POISON, "template", str(error))
        run_id = dag_run_id(command)
        body = {"dag_run_id": run_id, "logical_date": None, "conf": conf}
        try:
            status, headers, answer = await self._ask("POST", self._runs, body)
            if status == 409:
                status, headers, answer = await self._ask("GET", f"{self._runs}/{run_id}", None)
                if status == 404:
                    return Failed(FailureClass.POISON, "http-409", "another conflict")
            if (failed := self._failed(status, headers, answer)) is not None:
                return failed
            return await self._wait(run_id, answer) if self._run.waits else _done(answer)
        except aiohttp.ClientError as error:
            return Failed(FailureClass.TRANSIENT, "connection", type(error).__name__)

    def _conf(self, command: Command) -> Any:
        values = values_of(command)
        if self._run.conf is None:
            return values["data"] if isinstance(values["data"], dict) else {}
        conf = msgspec.json.decode(self._run.conf.fill(values))
        if not isinstance(conf, dict):
            raise ValueError("conf: expected a JSON object")
        return conf

    async def _wait(self, run_id: str, answer: bytes) -> Outcome:
        polls = 0
        while True:
            state = _state(answer)
            if state in _ENDED:
                break
            await asyncio.sleep(_POLL_S[min(polls, len(_POLL_S) - 1)])
            polls += 1
            status, headers, answer = await self._ask("GET", f"{self._runs}/{run_id}", None)
            if (failed := self._failed(status, headers, answer)) is not None:
                return failed
        if state == _SUCCEEDED:
            return _done(answer)
        return Failed(FailureClass.BUSINESS, "dag-run-failed", f"{self._run.dag_id} {run_id}")

    async def _ask(self, method: str, url: str, body: Any) -> tuple[int, Any, bytes]:
        """Send a request, with a new token if the old one is not good any more."""
        for is_last in (False, True):
            token = await self._bearer()
            headers = {} if token is None else {"Authorization": f"Bearer {token}"}
            async with self._session().request(
                method, url, json=body, headers=headers, allow_redirects=False
            ) as answer:
                if answer.status == 401 and not is_last and self._run.credentials is not None:
                    if self._token == token:
                        self._token = None
                    continue
                return answer.status, answer.headers, await answer.content.read(_ANSWER_BYTES_MAX)
        raise AssertionError("the last answer is returned")

    async def _bearer(self) -> str | None:
        run = self._run
        if run.token is not None:
            return run.token()
        if run.credentials is None:
            return None
        async with self._login:
            if self._token is None:
                user, password = run.credentials()
                async with self._session().post(
                    f"{run.url.rstrip('/')}/auth/token",
                    json={"username": user, "password": password},
                ) as answer:
                    answer.raise_for_status()
                    self._token = (await answer.json())["access_token"]
            return self._token

    def _failed(self, status: int, headers: Any, answer: bytes) -> Failed | None:
        # A token that is refused is a setting to mend, and nothing that a command can help.
        meaning = FailureClass.TRANSIENT if status in (401, 403) else meaning_of(status, HTTP_RULES)
        if meaning is None:
            return None
        wait_ms = retry_after_ms(headers.get("Retry-After"), self._now())
        return Failed(meaning, f"http-{status}", _detail(answer), wait_ms)


def _done(answer: bytes) -> Done:
    return Done(answer, "application/json")


def _state(answer: bytes) -> str:
    try:
        found = msgspec.json.decode(answer)
    except ValueError:
        return ""
    return str(found.get("state")) if isinstance(found, dict) else ""


def _detail(answer: bytes) -> str:
    try:
        found = msgspec.json.decode(answer)
    except ValueError:
        return ""
    return str(found.get("detail", ""))[:300] if isinstance(found, dict) else ""
