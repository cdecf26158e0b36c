"""DAG runs in a real Airflow 3 from its wheels: `make airflow`.

The server, a scheduler and a DAG processor run on SQLite in a folder of their own, from a virtual
environment that is made once (some 280 MB) in the folder that ``EDO_AIRFLOW`` names.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest

from edo_stream.actions.airflow import AirflowExecutor, DagRun, dag_run_id
from edo_stream.actions.outside import Outside
from edo_stream.actions.template import Place, Template
from edo_stream.core.act.command import Command
from edo_stream.core.act.outcome import Done, Failed, FailureClass, Outcome
from edo_stream.local.ports import free_port
from tests.actions.commands import command

FOLDER = os.environ.get("EDO_AIRFLOW")
pytestmark = pytest.mark.skipif(not FOLDER, reason="make airflow: it installs Airflow")

CONSTRAINTS = Path(__file__).with_name("constraints.txt")
INSTALLED = ("apache-airflow-core", "apache-airflow-task-sdk", "apache-airflow-providers-standard")
TOKEN_S = 5
DAGS = """\
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG


def fail():
    raise RuntimeError("on purpose")


with DAG("daily_revenue", schedule=None, is_paused_upon_creation=False):
    EmptyOperator(task_id="nothing")
with DAG("broken", schedule=None, is_paused_upon_creation=False):
    PythonOperator(task_id="fail", python_callable=fail)
"""


class Airflow:
    """One that runs, and what it says of itself."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, path: str, body: Any = None, token: str | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        with urlopen(Request(f"{self.url}{path}", data, headers), timeout=10) as answer:
            return json.load(answer)

    def login(self) -> str:
        token: str = self.ask("/auth/token", {"username": "edo", "password": "pw"})["access_token"]
        return token

    def runs(self, dag: str) -> dict[str, Any]:
        found = self.ask(f"/api/v2/dags/{dag}/dagRuns?limit=100", token=self.login())
        return {run["dag_run_id"]: run for run in found["dag_runs"]}

    def run(self, *commands: Command, password: str = "pw", **more: Any) -> list[Outcome]:
        """Outcomes of commands, one after the other."""
        plan = DagRun(**{"url": self.url, "dag_id": "daily_revenue", **more})
        if plan.token is None:
            plan = DagRun(
                **{"url": self.url, "dag_id": "daily_revenue", **more},
                credentials=lambda: ("edo", password),
            )

        async def go() -> list[Outcome]:
            outside = Outside(lambda: 0)
            try:
                executor = AirflowExecutor(plan, outside.session, outside.now_s)
                return [await executor(one) for one in commands]
            finally:
                await outside.close()

        return asyncio.run(go())


def environment_of(folder: Path) -> Path:
    """Programs of a virtual environment with Airflow in it, which is made if it is not there."""
    programs = folder / "venv" / "bin"
    ready = folder / f"ready-{sha256(CONSTRAINTS.read_bytes()).hexdigest()[:16]}"
    if not ready.exists():
        subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
        pip = [programs / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*pip, "-c", CONSTRAINTS, *INSTALLED], check=True)
        ready.touch()
    return programs


def wait_for(what: Callable[[], Any], name: str, timeout_s: float = 120) -> Any:
    deadline_s = time.monotonic() + timeout_s
    while True:
        try:
            found = what()
        except (URLError, OSError, KeyError):
            found = None
        if found:
            return found
        assert time.monotonic() < deadline_s, f"{name}: not after {timeout_s:.0f} s"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    assert FOLDER is not None
    programs, port = environment_of(Path(FOLDER).absolute()), free_port()
    home = tmp_path_factory.mktemp("airflow")
    (home / "dags").mkdir()
    (home / "dags" / "shop.py").write_text(DAGS)
    (home / "passwords.json").write_text('{"edo": "pw"}')
    environment = {
        **os.environ,
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "edo:admin",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "passwords.json"),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API_AUTH__JWT_EXPIRATION_TIME": str(TOKEN_S),
        "AIRFLOW__SCHEDULER__PARSING_PROCESSES": "1",
    }
    program = str(programs / "airflow")
    with (home / "log").open("wb") as log:
        said: dict[str, Any] = {"env": environment, "stdout": log, "stderr": log}
        subprocess.run([program, "db", "migrate"], check=True, **said)
        services = [
            subprocess.Popen([program, name], start_new_session=True, **said)
            for name in ("api-server", "scheduler", "dag-processor")
        ]
        try:
            found = Airflow(f"http://127.0.0.1:{port}")
            wait_for(
                lambda: found.ask("/api/v2/dags", token=found.login())["total_entries"] == 2,
                f"both DAGs ({home / 'log'})",
            )
            yield found
        finally:
            for service in services:
                os.killpg(service.pid, signal.SIGTERM)
            for service in services:
                try:
                    service.wait(20)
                except subprocess.TimeoutExpired:
                    os.killpg(service.pid, signal.SIGKILL)
                    service.wait()


def test_a_command_starts_one_run_whose_id_derives_from_it(airflow: Airflow) -> None:
    one = command({"day": "2026-01-31"}, id="once")
    outcomes = airflow.run(one, one, command({"day": "2026-01-31"}, id="once", attempt=2))
    assert [type(outcome) for outcome in outcomes] == [Done, Done, Done]
    run = airflow.runs("daily_revenue")[dag_run_id(one)]
    assert run["conf"] == {"day": "2026-01-31"}
    assert len([name for name in airflow.runs("daily_revenue") if name == run["dag_run_id"]]) == 1


def test_a_configuration_comes_from_a_template(airflow: Airflow) -> None:
    one = command({"day": 'a"b'}, id="configured")
    (outcome,) = airflow.run(one, conf=Template('{"day": "{{ data.day }}"}', Place.JSON))
    assert isinstance(outcome, Done)
    assert airflow.runs("daily_revenue")[dag_run_id(one)]["conf"] == {"day": 'a"b'}


def test_a_command_may_end_with_its_run(airflow: Airflow) -> None:
    (outcome,) = airflow.run(command({}, id="waits"), waits=True)
    assert isinstance(outcome, Done)
    assert json.loads(outcome.data or b"")["state"] == "success"


def test_a_run_that_fails_is_a_business_failure_however_often_it_is_looked_at(
    airflow: Airflow,
) -> None:
    one = command({}, id="fails")
    outcomes = airflow.run(one, one, dag_id="broken", waits=True)
    detail = f"broken {dag_run_id(one)}"
    assert outcomes == [Failed(FailureClass.BUSINESS, "dag-run-failed", detail)] * 2


def test_a_token_is_renewed_when_it_has_expired_or_is_none(airflow: Airflow) -> None:
    old = airflow.login()

    def is_refused() -> bool:
        try:
            airflow.ask("/api/v2/dags", token=old)
        except URLError as error:
            return getattr(error, "code", 0) == 401
        return False

    wait_for(is_refused, "the token's end", TOKEN_S + 60)

    async def go() -> list[Outcome]:
        outside = Outside(lambda: 0)
        plan = DagRun(airflow.url, "daily_revenue", credentials=lambda: ("edo", "pw"))
        executor = AirflowExecutor(plan, outside.session, outside.now_s)
        outcomes = []
        try:
            for number, token in enumerate((old, "no.token.at-all")):
                executor._token = token
                outcomes.append(await executor(command({}, id=f"renewed-{number}")))
        finally:
            await outside.close()
        return outcomes

    assert [type(outcome) for outcome in asyncio.run(go())] == [Done, Done]
    (with_an_old_one,) = airflow.run(command({}, id="old"), token=lambda: old)
    assert with_an_old_one == Failed(FailureClass.TRANSIENT, "http-401", "Token Expired")


def test_what_a_command_cannot_help_passes(airflow: Airflow) -> None:
    (nobody,) = airflow.run(command({}), password="another")
    assert nobody == Failed(FailureClass.TRANSIENT, "login", "no token for user edo: status 401")
    (nowhere,) = airflow.run(command({}), dag_id="nowhere")
    assert isinstance(nowhere, Failed)
    assert (nowhere.failure, nowhere.reason) == (FailureClass.TRANSIENT, "http-404")
