"""Credentials reach the clients and nothing else."""

import logging

import pytest
from aiokafka.errors import KafkaConnectionError

from edo_stream.engine.security import broker_access, reason_of
from edo_stream.settings import Settings

PASSWORD = "s3cret"
SECURED = Settings.model_validate(
    {
        "broker": "kafka:9092",
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "PLAIN",
        "sasl_username": "edo",
        "sasl_password": PASSWORD,
    }
)


class SaslAuthenticateRequest_v1:  # noqa: N801 - as the client names it
    def __repr__(self) -> str:
        return PASSWORD


def test_clients_get_address_and_credentials() -> None:
    assert broker_access(SECURED).client(acks="all") == {
        "bootstrap_servers": "kafka:9092",
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "PLAIN",
        "sasl_plain_username": "edo",
        "sasl_plain_password": PASSWORD,
        "acks": "all",
    }


def test_what_goes_through_tls_is_known_as_such() -> None:
    assert not broker_access(SECURED).is_encrypted
    for protocol, is_encrypted in (("SSL", True), ("PLAINTEXT", False)):
        settings = Settings.model_validate({"broker": "k:1", "security_protocol": protocol})
        assert broker_access(settings).is_encrypted is is_encrypted


def test_the_access_shows_no_password() -> None:
    assert repr(broker_access(SECURED)) == "BrokerAccess('kafka:9092')"


def test_the_client_s_request_with_the_password_is_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broker_access(SECURED)
    log = logging.getLogger("aiokafka.conn")
    with caplog.at_level(logging.DEBUG, "aiokafka.conn"):
        log.debug("Request to %s:%d %d: %s", "kafka", 9092, 1, SaslAuthenticateRequest_v1())
        log.debug("Request to %s:%d %d: %s", "kafka", 9092, 2, "Metadata")
    assert [record.getMessage() for record in caplog.records] == [
        "Request to kafka:9092 2: Metadata"
    ]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (KafkaConnectionError("gone"), "KafkaConnectionError: gone"),
        (TimeoutError("late"), "TimeoutError: late"),
    ],
)
def test_a_reason_names_the_error_once(error: Exception, reason: str) -> None:
    assert reason_of(error) == reason
