"""The gateway on a real Kafka: what it acknowledges is on the topic, whatever is killed."""

import asyncio
import json
import urllib.request
from pathlib import Path

from edo_stream.local.kafka import LocalKafka
from load.gateway.client import Load
from load.gateway.measures import kills
from load.gateway.place import LocalGateway, batch_name, create_topic, ids_on
from load.gateway.requests import event_id, signed_requests
from tests.broker.bench import PATIENCE_S, wait_for

TOPIC = "gatewaytest.webhook.received"


def status_of(gateway: LocalGateway, path: str) -> int:
    try:
        with urllib.request.urlopen(f"{gateway.address}{path}", timeout=PATIENCE_S) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_nothing_acknowledged_is_lost_when_gateway_and_broker_are_killed(
    tmp_path: Path, kafka: LocalKafka
) -> None:
    asyncio.run(create_topic(kafka.bootstrap, TOPIC))
    with LocalGateway(tmp_path / "gateway", {"EDO_BROKER": kafka.bootstrap}, TOPIC) as gateway:
        found = asyncio.run(kills(gateway, kafka, rate=150.0, seconds=4.5, topic=TOPIC))
        assert found.is_met, found
        wait_for(lambda: status_of(gateway, "/readyz") == 200, "a ready gateway")


def test_without_kafka_requests_are_turned_away_and_taken_again_when_it_is_back(
    tmp_path: Path, kafka: LocalKafka
) -> None:
    topic = f"{TOPIC}.again"
    asyncio.run(create_topic(kafka.bootstrap, topic))
    environment = {"EDO_BROKER": kafka.bootstrap}

    async def ask(batch: str) -> dict[int, int]:
        async with Load(gateway.port, 2) as load:
            return (await load.open_loop(signed_requests(batch, 20), 100.0, PATIENCE_S)).counts

    with LocalGateway(tmp_path / "gateway", environment, topic, "5s") as gateway:
        wait_for(lambda: status_of(gateway, "/readyz") == 200, "a ready gateway")
        first, away, again = batch_name(), batch_name(), batch_name()
        assert {202: 20} == asyncio.run(ask(first))
        kafka.kill()
        try:
            assert {503: 20} == asyncio.run(ask(away))
            wait_for(lambda: status_of(gateway, "/readyz") == 503, "a gateway that is not ready")
            assert status_of(gateway, "/healthz") == 200
        finally:
            kafka.start()
        wait_for(lambda: asyncio.run(ask(again)) == {202: 20}, "requests taken again")
        found = asyncio.run(ids_on(kafka.bootstrap, topic))
        assert {event_id(name, n) for name in (first, again) for n in range(20)} <= {*found}
    lines = [json.loads(line) for line in gateway.log.read_text().splitlines() if line[0] == "{"]
    assert {"kafka-away"} == {line["cause"] for line in lines}
