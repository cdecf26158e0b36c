"""A worker that cannot start says why in one place, ends with a status, and shows no traceback."""

import subprocess
from pathlib import Path

import pytest

from edo_stream.local.ports import free_port
from tests.broker.bench import Bench

CONFIGURATION = 78
TEMPORARY = 75


def run_worker(bench: Bench, **environment: str) -> subprocess.CompletedProcess[str]:
    own = {"EDO_DATA": str(bench.root / "own"), "EDO_WEB_PORT": str(free_port())}
    command = ("faust", "-A", "edo_stream.app", "worker", "-l", "info")
    return bench.run(*command, **{**own, **environment})


def said(ended: subprocess.CompletedProcess[str]) -> str:
    text = ended.stdout + ended.stderr
    assert "Traceback" not in text
    return text


def test_a_missing_topic_ends_the_worker(bench: Bench) -> None:
    topic = bench.declare("missing")

    ended = run_worker(bench)

    assert f"topic {topic} does not exist" in said(ended)
    assert "edo topics apply" in said(ended)
    assert ended.returncode == CONFIGURATION


def test_another_partition_count_ends_the_worker(bench: Bench) -> None:
    topic = bench.declare("counted", partitions=1)
    bench.apply()
    bench.declare("counted", partitions=2)

    ended = run_worker(bench)

    assert f"topic {topic} has 1 partitions but" in said(ended)
    assert "wants 2" in said(ended)
    assert ended.returncode == CONFIGURATION


def test_a_broker_that_does_not_answer_ends_the_worker(bench: Bench) -> None:
    bench.declare("unreached")

    ended = run_worker(bench, EDO_BROKER="127.0.0.1:1")

    assert "no broker at 127.0.0.1:1" in said(ended)
    assert ended.returncode == TEMPORARY


def test_a_data_directory_in_use_ends_the_second_worker(bench: Bench) -> None:
    bench.declare("shared", partitions=2)
    bench.apply()
    worker = bench.worker("data")
    worker.start()

    ended = run_worker(bench, EDO_DATA=str(worker.directory / "state"))

    assert "is in use by another worker" in said(ended)
    assert "EDO_DATA" in said(ended)
    assert ended.returncode == CONFIGURATION
    assert worker.is_running


def test_a_data_directory_that_cannot_be_made_ends_the_worker(bench: Bench, tmp_path: Path) -> None:
    bench.declare("unmade")
    (tmp_path / "file").touch()

    ended = run_worker(bench, EDO_DATA=str(tmp_path / "file" / "state"))

    assert "cannot be written (Not a directory)" in said(ended)
    assert "EDO_DATA" in said(ended)
    assert ended.returncode == CONFIGURATION


def test_a_data_directory_is_made_with_its_parents(bench: Bench, tmp_path: Path) -> None:
    bench.declare("parents")

    ended = run_worker(bench, EDO_DATA=str(tmp_path / "edo" / "state"), EDO_BROKER="127.0.0.1:1")

    assert "no broker" in said(ended)
    assert ended.returncode == TEMPORARY


@pytest.mark.parametrize(
    ("contract", "message"),
    [("name: [", "contract.yaml:"), ("name: t.thing.broken\n", "owner")],
    ids=["no YAML", "keys missing"],
)
def test_a_broken_contract_ends_the_worker(bench: Bench, contract: str, message: str) -> None:
    folder: Path = bench.contracts / "t.thing.broken"
    folder.mkdir()
    (folder / "contract.yaml").write_text(contract)

    ended = run_worker(bench)

    assert message in said(ended)
    assert "edo_stream cannot start:" in said(ended)
    assert ended.returncode == 1


def test_a_wrong_setting_ends_the_worker(bench: Bench) -> None:
    bench.declare("setting")

    ended = run_worker(bench, EDO_BATCH_RECORDS_MAX="many")

    assert "EDO_BATCH_RECORDS_MAX is 'many'" in said(ended)
    assert ended.returncode == 1


def test_faust_s_own_commands_work(bench: Bench) -> None:
    topic = bench.declare("commanded")

    agents = bench.run("faust", "-A", "edo_stream.app", "agents")
    tables = bench.run("faust", "-A", "edo_stream.app", "tables")
    usage = bench.run("faust", "-A", "edo_stream.app", "--help")

    assert agents.returncode == tables.returncode == usage.returncode == 0
    assert f"decide.{topic}" in agents.stdout
    assert f"{bench.name}-state" in tables.stdout
    assert "worker" in usage.stdout
    assert "Traceback" not in agents.stderr + tables.stderr + usage.stderr
