"""Runs of DAGs, against a server that answers as Airflow 3 documents."""

import asyncio
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from edo_stream.actions.airflow import AirflowExecutor, DagRun, dag_run_id
from edo_stream.actions.template import Place, Template
from edo_stream.core.act.outcome import Done, Failed, FailureClass, Outcome
from tests.actions.commands import command


class Airflow:
    """What of Airflow's API a trigger needs: tokens, runs with unique ids, closed bodies."""

    def __init__(self, ends_after: int = 0, ends_as: str = "success") -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.tokens: list[str] = []
        self.is_conflicting = False
        self.refusal = (401, "Token Expired")
        self.password = "pw"
        self.polls = 0
        self._ends_after = ends_after
        self._ends_as = ends_as

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/auth/token", self._login)
        app.router.add_post("/api/v2/dags/{dag}/dagRuns", self._trigger)
        app.router.add_get("/api/v2/dags/{dag}/dagRuns/{run}", self._look)
        return app

    async def _login(self, request: web.Request) -> web.Response:
        if await request.json() != {"username": "edo", "password": self.password}:
            return web.json_response({"detail": "Invalid credentials"}, status=401)
        self.tokens.append(f"t{len(self.tokens)}")
        return web.json_response({"access_token": self.tokens[-1]}, status=201)

    def _is_known(self, request: web.Request) -> bool:
        return request.headers.get("Authorization") == f"Bearer {self.tokens[-1]}"

    async def _trigger(self, request: web.Request) -> web.Response:
        if not self._is_known(request):
            status, detail = self.refusal
            return web.json_response({"detail": detail}, status=status)
        if request.match_info["dag"] == "nowhere":
            return web.json_response({"detail": "DAG with dag_id: 'nowhere'"}, status=404)
        body = await request.json()
        assert set(body) == {"dag_run_id", "logical_date", "conf"}
        assert body["logical_date"] is None
        if self.is_conflicting or body["dag_run_id"] in self.runs:
            detail = {"reason": "Unique constraint violation", "statement": "INSERT …"}
            return web.json_response({"detail": detail}, status=409)
        self.runs[body["dag_run_id"]] = {
            **body,
            "dag": request.match_info["dag"],
            "state": "queued",
        }
        return web.json_response(self.runs[body["dag_run_id"]])

    async def _look(self, request: web.Request) -> web.Response:
        run = self.runs.get(request.match_info["run"])
        if run is None:
            return web.json_response({"detail": "none"}, status=404)
        self.polls += 1
        if self.polls > self._ends_after:
            run["state"] = self._ends_as
        return web.json_response(run)


def run(
    airflow: Airflow,
    times: int = 1,
    between: Callable[[], None] = lambda: None,
    dag: str = "daily revenue",
    **more: Any,
) -> list[Outcome]:
    async def go() -> list[Outcome]:
        async with TestServer(airflow.app()) as server, aiohttp.ClientSession() as session:
            plan = DagRun(
                str(server.make_url("/")),
                dag,
                credentials=lambda: ("edo", "pw"),
                **more,
            )
            executor = AirflowExecutor(plan, lambda: session, lambda: 0.0)
            outcomes = []
            for attempt in range(1, times + 1):
                outcomes.append(await executor(command({"date": "2026-01-31"}, attempt=attempt)))
                between()
            return outcomes

    return asyncio.run(go())


def test_a_command_starts_one_run_however_often_it_runs() -> None:
    airflow = Airflow()
    outcomes = run(airflow, times=3)
    assert all(isinstance(outcome, Done) for outcome in outcomes)
    assert list(airflow.runs) == [dag_run_id(command())]
    (started,) = airflow.runs.values()
    assert (started["dag"], started["conf"]) == ("daily revenue", {"date": "2026-01-31"})
    assert len(airflow.tokens) == 1


def test_another_conflict_is_no_success() -> None:
    airflow = Airflow()
    airflow.is_conflicting = True
    (outcome,) = run(airflow)
    assert outcome == Failed(FailureClass.POISON, "http-409", "another conflict")


@pytest.mark.parametrize("refusal", [(401, "Token Expired"), (403, "Invalid JWT token")])
def test_a_token_that_is_not_good_any_more_is_renewed(refusal: tuple[int, str]) -> None:
    airflow = Airflow()
    airflow.refusal = refusal
    outcomes = run(airflow, times=2, between=lambda: airflow.tokens.append("other"))
    assert all(isinstance(outcome, Done) for outcome in outcomes)
    assert airflow.tokens == ["t0", "other", "t2", "other"]


def test_a_user_that_is_refused_is_transient_and_the_password_is_not_told() -> None:
    airflow = Airflow()
    airflow.password = "another"
    (outcome,) = run(airflow)
    assert outcome == Failed(FailureClass.TRANSIENT, "login", "no token for user edo: status 401")


def test_a_dag_that_is_not_there_is_no_fault_of_the_command() -> None:
    (outcome,) = run(Airflow(), dag="nowhere")
    assert outcome == Failed(FailureClass.TRANSIENT, "http-404", "DAG with dag_id: 'nowhere'")


def test_a_command_may_end_with_its_run() -> None:
    airflow = Airflow(ends_after=1)
    (outcome,) = run(airflow, waits=True)
    assert isinstance(outcome, Done)
    assert airflow.polls == 2
    (failed,) = run(Airflow(ends_as="failed"), waits=True)
    assert isinstance(failed, Failed)
    assert (failed.failure, failed.reason) == (FailureClass.BUSINESS, "dag-run-failed")


def test_a_configuration_is_a_json_object() -> None:
    airflow = Airflow()
    (outcome,) = run(airflow, conf=Template('{"day": "{{ data.date }}"}', Place.JSON))
    assert isinstance(outcome, Done)
    assert next(iter(airflow.runs.values()))["conf"] == {"day": "2026-01-31"}
    (wrong,) = run(Airflow(), conf=Template("[1]", Place.JSON))
    assert isinstance(wrong, Failed)
    assert wrong.failure is FailureClass.POISON
