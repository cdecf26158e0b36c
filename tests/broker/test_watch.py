"""`edo watch` on a real broker: files that land become events, each version once."""

import json
from pathlib import Path

from typer.testing import CliRunner

from edo_stream.cli.main import app
from tests.broker.bench import Bench


def test_files_that_land_become_events_once(bench: Bench, tmp_path: Path) -> None:
    topic = bench.declare("arrived", partitions=2)
    bench.apply()
    folder = tmp_path / "in"
    (folder / "below").mkdir(parents=True)
    (folder / "a b.csv").write_text("1")
    (folder / "below" / "ü.csv").write_text("22")
    (folder / "c.csv.part").write_text("not yet")

    def watch() -> list[str]:
        arguments = ["watch", str(folder), "--topic", topic, "--settle", "100ms", "--once"]
        environment = {**bench.environment, "EDO_DATA": str(tmp_path / "data")}
        told = CliRunner().invoke(app, arguments, env=environment)
        assert 0 == told.exit_code, told.output
        return sorted(told.stdout.splitlines())

    assert ["a b.csv", "below/ü.csv"] == watch()
    assert [] == watch()
    (folder / "c.csv.part").rename(folder / "c.csv")
    (folder / "a b.csv").write_text("1 and more")
    assert ["a b.csv", "c.csv"] == watch()

    keys = [json.loads(record.value)["key"] for record in bench.read(topic)]
    assert ["a b.csv", "a b.csv", "below/ü.csv", "c.csv"] == sorted(keys)
    away = bench.edo("watch", str(folder), "--topic", topic, EDO_BROKER="127.0.0.1:1")
    assert 3 == away.returncode
    unknown = bench.edo("watch", str(folder), "--topic", "no.such.topic")
    assert (2, True) == (unknown.returncode, "is not at the broker" in unknown.stderr)
    missing = bench.edo("watch", str(tmp_path / "no"), "--topic", topic)
    assert (2, True) == (missing.returncode, "is not a folder" in missing.stderr)
