"""Settings come from the environment, all mistakes at once, and secrets are never shown."""

from pathlib import Path

import pytest

from edo_stream.settings import Settings, SettingsError, read_settings, settings_table, variable


def problems(environ: dict[str, str]) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as raised:
        read_settings(environ)
    return raised.value.problems


def test_nothing_has_to_be_set() -> None:
    assert Settings() == read_settings({})


def test_variables_set_the_fields_and_empty_ones_do_not() -> None:
    settings = read_settings(
        {"EDO_SERVICE": "shop", "EDO_BATCH_RECORDS_MAX": "500", "EDO_DATA": "/x", "EDO_BROKER": ""}
    )

    assert (settings.app_id, settings.batch_records_max) == ("shop-decide", 500)
    assert (Path("/x"), "127.0.0.1:9092") == (settings.data, settings.broker)


def test_all_problems_are_reported_at_once() -> None:
    found = problems(
        {
            "EDO_BROKER": "kafka",
            "EDO_WEB_PORT": "http",
            "EDO_SECURITY_PROTOCOL": "TLS",
            "EDO_TLS_CA_FILE": "/does/not/exist",
            "EDO_TOPIC": "t",
        }
    )

    assert list(found) == [
        "EDO_TOPIC is not a setting: did you mean EDO_TOPICS?",
        "EDO_BROKER: 'kafka' is not a server: write host:port, such as kafka:9092",
        "EDO_WEB_PORT is 'http': should be a valid integer, unable to parse string as an integer",
        (
            "EDO_SECURITY_PROTOCOL is 'TLS': should be 'PLAINTEXT', 'SSL', 'SASL_PLAINTEXT' or "
            "'SASL_SSL'"
        ),
        "EDO_TLS_CA_FILE: /does/not/exist is not a file",
    ]


def test_variables_of_other_programs_are_left_alone() -> None:
    assert read_settings({"EDO_CONFORMANCE": "/cases", "PATH": "/bin"}) == Settings()


def test_timeouts_must_fit_each_other() -> None:
    found = problems({"EDO_HEARTBEAT_INTERVAL_MS": "9000", "EDO_REBALANCE_TIMEOUT_MS": "1000"})

    assert [line.split(" ")[0] for line in found] == [
        "EDO_HEARTBEAT_INTERVAL_MS",
        "EDO_REBALANCE_TIMEOUT_MS",
    ]


def test_a_loss_that_ends_before_it_begins_is_a_mistake() -> None:
    read = read_settings({"EDO_ACCEPT_LOSS": "shop.a.b:0:3-5"})
    assert {("shop.a.b", 0, 3, 5)} == read.accepted_losses
    assert (
        "shop.a.b:0:5-3 ends before it begins" in problems({"EDO_ACCEPT_LOSS": "shop.a.b:0:5-3"})[0]
    )


def test_sasl_needs_mechanism_user_and_password() -> None:
    assert len(problems({"EDO_SECURITY_PROTOCOL": "SASL_SSL"})) == 3


def test_credentials_without_sasl_are_a_mistake() -> None:
    assert "SASL_SSL" in problems({"EDO_SASL_PASSWORD": "hunter2"})[0]
    assert "SASL_SSL" in problems({"EDO_SASL_MECHANISM": "PLAIN"})[0]


def test_a_certificate_without_tls_is_a_mistake(tmp_path: Path) -> None:
    file = tmp_path / "worker.pem"
    file.write_text("")
    environ = {"EDO_TLS_CERT_FILE": str(file), "EDO_TLS_KEY_FILE": str(file)}

    assert ["EDO_TLS_CERT_FILE means nothing with PLAINTEXT"] == [
        line.partition(":")[0] for line in problems(environ)
    ]


@pytest.mark.parametrize("name", ["EDO_FLOWS", "EDO_SCHEDULES"])
def test_a_folder_that_is_named_must_be_there(name: str, tmp_path: Path) -> None:
    missing = tmp_path / "no"

    assert problems({name: str(missing)}) == (f"{name}: {missing} is not a folder",)


def test_password_is_read_from_its_file_without_the_line_end(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("hunter2\n")
    settings = read_settings(
        {
            "EDO_SECURITY_PROTOCOL": "SASL_SSL",
            "EDO_SASL_MECHANISM": "SCRAM-SHA-512",
            "EDO_SASL_USERNAME": "edo",
            "EDO_SASL_PASSWORD_FILE": str(file),
        }
    )

    assert settings.sasl_password is not None
    assert settings.sasl_password.get_secret_value() == "hunter2"
    assert "hunter2" not in repr(settings) + settings.model_dump_json()


def test_password_and_its_file_are_not_both_set(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("x")
    environ = {"EDO_SASL_PASSWORD": "hunter2", "EDO_SASL_PASSWORD_FILE": str(file)}

    assert any("remove one of them" in line for line in problems(environ))
    assert not any("hunter2" in line for line in problems(environ))


def test_missing_password_file_is_one_problem() -> None:
    environ = {
        "EDO_SECURITY_PROTOCOL": "SASL_SSL",
        "EDO_SASL_MECHANISM": "PLAIN",
        "EDO_SASL_USERNAME": "edo",
        "EDO_SASL_PASSWORD_FILE": "/does/not/exist",
    }

    assert problems(environ) == ("EDO_SASL_PASSWORD_FILE: /does/not/exist is not a file",)


def test_certificate_and_key_go_together(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    file.write_text("")
    environ = {"EDO_SECURITY_PROTOCOL": "SSL", "EDO_TLS_KEY_FILE": str(file)}

    assert "write both or none" in problems(environ)[0]


def test_table_has_every_setting_with_its_meaning() -> None:
    table = settings_table()

    assert all(f"`{variable(name)}`" in table for name in Settings.model_fields)
    assert all(field.description for field in Settings.model_fields.values())
    assert "| `EDO_SESSION_TIMEOUT_MS` | `10000` | ms | " in table
