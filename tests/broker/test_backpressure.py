"""A slow receiver, from its commands to the senders of webhooks: nobody is lost, and all wait."""

import http.client
import json
import os
import sys
from pathlib import Path

from edo_stream.local.process import Process
from edo_stream.local.service import Launch, LocalService
from tests.broker.bench import PATIENCE_S, Bench, event, wait_for
from tests.broker.test_observe import total

HANDLER = '''\
"""Does not come to an end before it is told to."""
import asyncio, os
from edo_stream.actions import action

@action(dict)
async def ship(event):
    while not os.path.exists(os.environ["MENDED"]):
        await asyncio.sleep(0.1)
'''

FLOW = """\
name: {name}
owner: team-tests
description: Ships.
on: {topic}
group: {name}
partitions: 1
action: {{kind: python, handler: slow_handler:ship, idempotency_key: command, replay: safe}}
concurrency: 8
"""

GATEWAY = """\
listen: 127.0.0.1:{port}
access_log: refused
sources:
  orders:
    topic: {topic}
    verify: {{scheme: api-key, secrets: ["env:ORDERS_KEY"]}}
    id: /id
    key: /id
    type: test.happened
    backpressure: {{lag: 1500, retry_after: 3s}}
  aged:
    topic: {topic}
    verify: {{scheme: api-key, secrets: ["env:ORDERS_KEY"]}}
    id: /id
    key: /id
    type: test.happened
    backpressure: {{age: 1s}}
"""

#: More than the thousand that a task has in hand at once.
MANY = 2_000


class Gateway(LocalService):
    """A gateway process with a file of the test's own."""

    title = "gateway"

    def __init__(self, data_dir: Path, environment: dict[str, str], topic: str) -> None:
        super().__init__(data_dir)
        self._environment = {**os.environ, **environment, "ORDERS_KEY": "k"}
        self._text = GATEWAY.format(port=self.port, topic=topic)

    def _prepare(self) -> Launch:
        file = self.directory / "gateway.yaml"
        file.write_text(self._text)
        command = [sys.executable, "-m", "edo_stream", "gateway", "--config", str(file)]
        return Launch(command, self._environment)

    def _is_ready(self, process: Process) -> bool:
        return "gateway listens" in process.logged()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, method: str, path: str, body: str = "") -> tuple[int, str | None]:
        """Status of an answer, and what its Retry-After says."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        headers = {"content-type": "application/json", "x-api-key": "k"}
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            answer.read()
            return answer.status, answer.headers.get("retry-after")
        finally:
            connection.close()


def test_a_slow_receiver_is_seen_as_lag_and_holds_back_whoever_sends_to_it(
    bench: Bench, tmp_path: Path
) -> None:
    topic, flow = bench.declare("placed"), f"{bench.name}-ship"
    bench.apply()
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / f"{flow}.yaml").write_text(FLOW.format(name=flow, topic=topic))
    (tmp_path / "slow_handler.py").write_text(HANDLER)
    mended, commands = tmp_path / "mended", f"edo.commands.{flow}"
    worker = bench.worker(MENDED=str(mended))
    worker.start()
    with Gateway(tmp_path / "gateway", bench.environment, topic) as gateway:
        wait_for(lambda: gateway.ask("POST", "/orders", '{"id": "first"}')[0] == 202, "a request")
        bench.send(topic, [event(f"e-{number}", f"k{number}") for number in range(MANY)])

        # The window is full, its partition pauses, and what is behind it is lag.
        wait_for(lambda: total(worker, "edo_lag_records", topic=commands) > MANY - 100, "lag")
        wait_for(lambda: gateway.ask("POST", "/orders", '{"id": "late"}') == (429, "3"), "429")
        wait_for(lambda: gateway.ask("POST", "/aged", '{"id": "late"}') == (429, "10"), "429")
        lag = bench.edo("lag", "--json", "--window", "0.5")
        of_commands = next(one for one in json.loads(lag.stdout) if one["topic"] == commands)
        assert (lag.returncode, of_commands["status"]) == (1, "STALL")
        assert of_commands["lag"] >= MANY
        wait_for(lambda: total(worker, "edo_action_running", flow=flow) == 8, "all slots taken")
        mended.write_text("")

        for path in ("/orders", "/aged"):
            wait_for(lambda path=path: gateway.ask("POST", path, '{"id": "late"}')[0] == 202, path)
    outcomes = wait_for(lambda: outcomes_of(bench, flow), "an outcome for each")
    assert len(outcomes) == len(set(outcomes)) == MANY + 3


def outcomes_of(bench: Bench, flow: str) -> list[bytes] | None:
    found = [dict(one.headers)["ce_causationid"] for one in bench.read(f"edo.outcomes.{flow}")]
    return found if len(found) >= MANY + 3 else None
