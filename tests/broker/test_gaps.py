"""A key with a gap, from the operator's side: `edo gap list`, `skip` and `release`."""

import base64
import json
from typing import Any

from edo_stream.registry.plan import GAPS
from tests.broker.bench import Bench, Sent, event, wait_for

BINARY_KEY = b"\xff\x00key"
BINARY_KEY_BASE64 = base64.b64encode(BINARY_KEY).decode()
HOLD = "ordering: {policy: sequence, start: 1, on_timeout: hold}"


def numbered(*numbers: int, key: str = "k", partition: int = 0) -> list[Sent]:
    return [event(f"{key}-{number}", key, number, partition) for number in numbers]


def with_key(sent: Sent, key: bytes) -> Sent:
    return Sent(key, sent.value, sent.headers, sent.partition)


def listed(bench: Bench, *arguments: str) -> list[dict[str, Any]]:
    told = bench.edo("gap", "list", "--json", *arguments)
    assert told.returncode == 0, told.stderr
    return json.loads(told.stdout)


def notices(bench: Bench, topic: str) -> list[dict[str, Any]]:
    found = [
        {"type": dict(record.headers)["ce_type"].decode(), **json.loads(record.value)}
        for record in bench.read(GAPS)
    ]
    return [notice for notice in found if notice.get("topic") == topic]


def test_what_is_held_is_listed(bench: Bench) -> None:
    topic = bench.declare("held", HOLD, partitions=2)
    timed = bench.declare("timed", "ordering: {policy: sequence, gap_timeout: 1h}", partitions=2)
    bench.apply()
    assert bench.edo("gap", "list").stdout == "nothing is held\n"
    bench.send(topic, numbered(1, 3, 4, 7, partition=1))
    bench.send(topic, [with_key(one, BINARY_KEY) for one in numbered(2, 3)])
    bench.send(timed, numbered(1, 3, key="t"))
    bench.worker().start()

    found = wait_for(lambda: len(listed(bench)) == 3 and listed(bench), "three held keys")

    binary, text, waiting = found
    assert (binary["partition"], binary["key"]) == (0, {"base64": BINARY_KEY_BASE64})
    assert (text["topic"], text["partition"], text["group"]) == (topic, 1, bench.name)
    assert (text["key"], text["next"], text["held"]) == ("k", 2, 3)
    assert (text["lowest"], text["highest"], text["deadlineMs"]) == (3, 7, None)
    assert waiting["deadlineMs"] - waiting["sinceMs"] == 3_600_000
    assert listed(bench, "--topic", timed) == [waiting]
    assert listed(bench, "--key", "k") == [text]
    told = bench.edo("gap", "list", "--topic", topic).stdout
    assert "none" in told


def test_what_waits_goes_on_in_order_when_an_operator_skips_or_releases(bench: Bench) -> None:
    topic = bench.declare("held", HOLD, partitions=2)
    bench.apply()
    bench.send(topic, numbered(1, 3, 4, 7, partition=1))
    bench.send(topic, [with_key(one, BINARY_KEY) for one in numbered(2, 3)])
    worker = bench.worker()
    worker.start()
    wait_for(lambda: len(listed(bench)) == 2, "two held keys")

    done = bench.edo("gap", "skip", topic, "k", "--to", "2")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"gap.skip of key k of {topic}-1 is done\n"
    assert bench.result_ids(topic, 3) == ["k-1", "k-3", "k-4"]
    gap, answer = notices(bench, topic)
    assert gap["type"] == "edo.gap.skipped"
    assert (gap["key"], gap["first"], gap["last"], gap["reason"]) == ("k", 2, 2, "operator")
    assert (answer["type"], answer["op"], answer["to"]) == ("edo.operation.done", "gap.skip", 2)

    refused = bench.edo("gap", "skip", topic, "k", "--to", "4")
    assert refused.returncode == 1
    assert "was refused: to: expected a number from 5" in refused.stderr

    released = bench.edo("gap", "release", topic, "--key-base64", BINARY_KEY_BASE64)
    assert (released.returncode, released.stderr) == (0, "")
    worker.stop()
    unanswered = bench.edo("gap", "release", topic, "k", "--timeout", "1")
    assert unanswered.returncode == 3
    assert "is carried out once a worker runs" in unanswered.stderr
    worker.start()
    assert bench.result_ids(topic, 6) == ["k-2", "k-3", "k-1", "k-3", "k-4", "k-7"]
    assert listed(bench) == []


def test_gap_commands_say_in_one_line_why_they_cannot(bench: Bench) -> None:
    topic = bench.declare("quiet", HOLD)
    bench.apply()

    for arguments, status, message in (
        (("release", topic, "k"), 1, f"nothing is held for key k of {topic}"),
        (("skip", topic, "k"), 2, "--to is missing"),
        (("skip", topic, "--to", "1"), 2, "write the key, or --key-base64"),
        (("release", topic, "--key-base64", "§"), 2, "--key-base64 §"),
        (("list", "--topic", "no.such.topic"), 2, "no.such.topic is not declared"),
    ):
        ended = bench.edo("gap", *arguments)
        assert ended.returncode == status, ended
        assert ended.stderr.startswith("edo: ")
        assert message in ended.stderr
        assert ended.stderr.count("\n") == 1

    away = bench.edo("gap", "list", EDO_BROKER="127.0.0.1:1")
    assert away.returncode == 3
    assert away.stderr.startswith("edo: no answer from 127.0.0.1:1: ")
    assert away.stderr.count("\n") == 1
