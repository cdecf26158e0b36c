"""A real PostgreSQL: ready for change data capture, and its data stays."""

from pathlib import Path

import psycopg
import pytest

from edo_stream.local.errors import LocalError
from edo_stream.local.postgres import LocalPostgres


def test_data_survives_a_stop_and_a_crash(open_dir: Path) -> None:
    with LocalPostgres(open_dir) as postgres:
        with psycopg.connect(postgres.dsn) as connection:
            connection.execute("create table kept as select 1")
        postgres.restart()
        # With a client at work: its backend has to be gone before the next start.
        with psycopg.connect(postgres.dsn):
            postgres.kill()
            postgres.start()
        with psycopg.connect(postgres.dsn) as connection:
            assert connection.execute("table kept").fetchone() == (1,)
            assert connection.execute("show wal_level").fetchone() == ("logical",)


def test_a_half_written_data_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data" / "base").mkdir(parents=True)
    with pytest.raises(LocalError, match=r"holds no complete PostgreSQL data"):
        LocalPostgres(tmp_path).start()


def test_data_of_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "PG_VERSION").write_text("12\n")
    with pytest.raises(LocalError, match=r"was written by PostgreSQL 12"):
        LocalPostgres(tmp_path).start()
