"""Log lines for machines, and what they never say."""

import json
import logging
import logging.config

import pytest

from edo_stream.core.contract import Codec
from edo_stream.core.effects import Effects, Publish
from edo_stream.observe.letters import log_dead_letters
from edo_stream.observe.log_format import JsonFormatter, logging_config
from tests.core.bench import Bench, contract, record

NAME = "edo_stream.test"


def line(message: str, *arguments: object, name: str = NAME, **extra: object) -> dict[str, object]:
    made = logging.getLogger(name).makeRecord(
        name, logging.WARNING, "file", 1, message, arguments, None, extra=extra
    )
    return json.loads(JsonFormatter().format(made))


def test_a_line_has_an_event_a_text_and_its_fields() -> None:
    told = line("task reset: %s: %s", "g-0", "why", task="g-0", partition=0)
    assert told["event"] == "task reset"
    assert told["message"] == "task reset: g-0: why"
    assert (told["level"], told["logger"], told["task"], told["partition"]) == (
        "WARNING",
        NAME,
        "g-0",
        0,
    )


def test_a_line_says_nothing_but_the_fields_that_are_allowed() -> None:
    assert "value" not in line("something", value=b"data")


def test_lines_of_others_have_no_event() -> None:
    assert "event" not in line("Got: error", name="aiokafka")


def test_faust_s_formatters_are_replaced_and_nothing_else() -> None:
    assert logging_config("text") is None
    config = logging_config("json")
    assert config is not None
    assert config.pop("merge")
    assert set(config) == {"formatters"}
    logging.config.DictConfigurator({"version": 1, **config}).configure_formatter(
        config["formatters"]["colored"]
    )


def test_dead_letters_are_told_by_source_and_reason_without_their_data(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = Bench([contract(codec=Codec.CLOUDEVENTS)])
    headers = [("x-secret", b"s3cret"), ("edo-reason", b"s3cret")]
    effects = bench.feed(
        record(4),
        *(record(offset, bad="broken", headers=headers, secret="s3cret") for offset in (5, 6)),
    )
    assert effects.counts
    topic = contract().dead_letters
    with caplog.at_level(logging.WARNING):
        log_dead_letters("shop", effects, {topic})

    (told,) = caplog.records
    text = JsonFormatter().format(told)
    assert "s3cret" not in text
    said = json.loads(text)
    assert said["event"] == "dead letters"
    assert (said["topic"], said["partition"], said["offset"]) == (contract().topic, 5, 5)
    assert (said["reason"], said["count"]) == ("invalid", 2)
    letter = next(each for each in effects.publish if each.topic == topic)
    assert said["event_id"] == dict(letter.headers)["edo-id"].decode()  # type: ignore[union-attr]


def test_a_result_with_headers_like_a_dead_letter_s_is_none(
    caplog: pytest.LogCaptureFixture,
) -> None:
    forged = Publish("t.out", 0, None, None, (("edo-reason", b"s3cret"), ("edo-id", b"1")), 0)
    log_dead_letters("g", Effects([forged], counts={("t", "x"): 1}), {"t.dead"})
    assert caplog.records == []
