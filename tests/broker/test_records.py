"""What records may look like: broken ones, every compression, other codecs, many partitions."""

import json

from tests.broker.bench import Bench, Sent, event, events, log_of, wait_until_logged


def test_what_cannot_be_decoded_becomes_a_dead_letter_with_its_bytes(bench: Bench) -> None:
    topic = bench.declare("poison")
    bench.apply()
    poison = [
        Sent(b"k", b"\xff\xfe\x00", [("x", b"\x00\xff"), ("x", b"twice")]),
        Sent(None, b"no key"),
        Sent(b"\xff", b'{"cut":', [("content-type", b"application/json")]),
    ]
    bench.send(topic, [*events("before"), *poison, *events("after")])
    bench.worker().start()

    assert bench.result_ids(topic, 2) == ["before", "after"]
    letters = bench.read(f"edo.dead-letters.{topic}")
    assert [(letter.key, letter.value) for letter in letters] == [
        (one.key, one.value) for one in poison
    ]
    for letter, one in zip(letters, poison, strict=True):
        assert list(letter.headers[: len(one.headers)]) == list(one.headers)
    assert [dict(letter.headers)["edo-offset"] for letter in letters] == [b"1", b"2", b"3"]


def test_records_of_every_compression_are_read(bench: Bench) -> None:
    topic = bench.declare("compressed")
    bench.apply()
    codecs = [None, "gzip", "snappy", "lz4", "zstd"]
    for codec in codecs:
        bench.send(topic, events(*(f"{codec}-{n}" for n in range(20))), codec)
    bench.worker().start()

    expected = [f"{codec}-{n}" for codec in codecs for n in range(20)]
    assert bench.result_ids(topic, 100) == expected


def change(lsn: int, name: str) -> Sent:
    source = {
        "connector": "postgresql",
        "name": "shop",
        "ts_ms": 1_700_000_000_000,
        "db": "shop",
        "sequence": f'["{lsn}","{lsn}"]',
        "schema": "public",
        "table": "things",
        "txId": lsn,
        "lsn": lsn,
    }
    row = {"before": None, "after": {"name": name}, "source": source, "op": "u", "ts_ms": 1}
    return Sent(b'{"id":1}', json.dumps(row).encode())


def test_a_task_reads_topics_of_different_codecs_and_orders(bench: Bench) -> None:
    counted = bench.declare("counted", "ordering: {policy: sequence, start: 1}")
    changed = bench.declare("changed", "ordering: {policy: monotonic}", codec="debezium")
    plain = bench.declare("plain", "ordering: {policy: none}", "dedupe: off")
    bench.apply()
    bench.send(counted, [event("b", number=2), event("a", number=1), event("b", number=2)])
    bench.send(changed, [change(10, "first"), change(5, "stale"), change(20, "second")])
    bench.send(plain, events("x", "x"))
    worker = bench.worker()
    worker.start()

    assert bench.result_ids(counted, 2) == ["a", "b"]
    changes = [json.loads(record.value) for record in bench.results(changed, 2)]
    assert [row["after"]["name"] for row in changes] == ["first", "second"]
    assert bench.result_ids(plain, 2) == ["x", "x"]
    assert log_of(worker).count("task running") == 1


def test_sixty_four_partitions_start_and_each_is_read(bench: Bench) -> None:
    topic = bench.declare("wide", partitions=64)
    bench.apply()
    worker = bench.worker()
    worker.start()

    wait_until_logged(worker, "task running", 64)
    bench.send(topic, [event(f"e{p}", f"k{p}", partition=p) for p in range(64)])

    assert {record.partition for record in bench.results(topic, 64)} == set(range(64))
