"""The demo's flows: orders that are paid and shipped, and the revenue of a day.

Orders are rows of PostgreSQL, payments are webhooks at a gateway, and the revenue comes as files in
a folder; what the flows of ``demo/`` must make of them is known here, and of nothing else.
"""

import base64
import hmac
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import psycopg

from edo_stream.actions.inbox import inbox_sql
from edo_stream.engine.clock import now_ms
from edo_stream.local.process import Process
from edo_stream.local.service import Launch, LocalService

PROJECT: Final = Path(__file__).parents[1] / "demo"
ORDERS_TABLE: Final = "public.orders"
ORDERS: Final = "shop.public.orders"
PAYMENTS: Final = "shop.payment.received"
PAID: Final = "shop.order.paid"
FILES: Final = "shop.file.landed"
REVENUE: Final = "shop.revenue.gathered"
SAGA_CHANGES: Final = "edo.sagas.ship-order"
WAITS_FOR_PAYMENT: Final = "paid-order"
SCHEDULE: Final = "schedules/revenue-deadline.yaml"
REGIONS: Final = ("eu", "us", "apac")

_ZONE: Final = ZoneInfo("Europe/Berlin")
_MISSED: Final = timedelta(hours=36)
"""The schedule has been for so long, so that one deadline was missed."""
_PAUSE_S: Final = 0.4
"""Between two orders: a worker is killed in the midst of them."""
_SECRET: Final = b"a secret of the demo, 32 bytes .."
_TABLES: Final = f"""\
DROP TABLE IF EXISTS {ORDERS_TABLE}, reservations, shipments;
CREATE TABLE {ORDERS_TABLE} (id text PRIMARY KEY, total numeric, address text);
CREATE TABLE reservations (order_id text NOT NULL);
CREATE TABLE shipments (order_id text NOT NULL, parcel text NOT NULL);
{inbox_sql()}"""


def write_project(topics: Path, project: Path) -> None:
    """Put contracts and flows together."""
    shutil.copytree(PROJECT, project)
    shutil.copytree(topics, project / "topics", dirs_exist_ok=True)


class PaymentsGateway(LocalService):
    """A gateway as a user runs it, with the demo's file."""

    title = "gateway"

    def __init__(self, data_dir: Path, config: Path, environment: Mapping[str, str]) -> None:
        super().__init__(data_dir)
        self._config = config
        self._environment = dict(environment)

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def _prepare(self) -> Launch:
        command = [sys.executable, "-m", "edo_stream", "gateway", "--config", str(self._config)]
        command += ["--listen", f"127.0.0.1:{self.port}"]
        secret = f"whsec_{base64.b64encode(_SECRET).decode()}"
        return Launch(command, {**os.environ, **self._environment, "SHOP_PAYMENTS_SECRET": secret})

    def _is_ready(self, process: Process) -> bool:
        return "gateway listens" in process.logged()


@dataclass(slots=True)
class Shop:
    """What happens in the shop. Ids of orders begin with the run's number."""

    dsn: str
    gateway: str
    """Address of the gateway."""
    folder: Path
    """The files of the revenue."""
    environment: Mapping[str, str]
    run: int
    deadline: datetime
    """Of yesterday's files."""
    count: int = 40
    unpaid: int = 4
    webhooks: int = 0
    """Sent and acknowledged, repetitions too."""
    names: list[str] = field(init=False)
    """Of all orders."""

    def __post_init__(self) -> None:
        self.names = [f"order-{self.run}-{number}" for number in range(self.count)]

    @property
    def paid(self) -> list[str]:
        """Orders that are placed and paid."""
        return self.names[: -self.unpaid]

    @property
    def undeliverable(self) -> str:
        """The paid order that nobody can deliver."""
        return self.names[7]

    @property
    def complete_day(self) -> date:
        """The day of which all files come in time."""
        return self.deadline.astimezone(_ZONE).date() - timedelta(days=1)

    @property
    def late_day(self) -> date:
        """The day before, of which a file comes after its deadline, which was missed as well."""
        return self.complete_day - timedelta(days=1)

    def set_deadline(self, schedule: Path) -> None:
        """Have the schedule tick at the deadline instead of 06:00; one day it has missed."""
        at = self.deadline.astimezone(_ZONE)
        cron = f'cron: "{at.second} {at.minute} {at.hour} * * *"\n'
        since = (self.deadline - _MISSED).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        text = re.sub(r"^cron:.*\n", cron, schedule.read_text(), flags=re.MULTILINE)
        schedule.write_text(f"{text}start: {since}\n")

    def create(self) -> None:
        """Make the tables anew."""
        with psycopg.connect(self.dsn) as connection:
            connection.execute(_TABLES)

    def begin(self) -> None:
        """Half of the payments come before their orders; the files come, but for one."""
        self._pay(self.paid[::2])
        for region in REGIONS:
            self._land(self.complete_day, region)
        for region in REGIONS[:-1]:
            self._land(self.late_day, region)
        self._tell_files()

    def go_on(self) -> None:
        """Orders are placed and paid, one after another; some payments are told twice."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            for number, name in enumerate(self.names):
                address = "" if name == self.undeliverable else f"{number} High Street"
                connection.execute(
                    "INSERT INTO public.orders VALUES (%s, %s, %s)", (name, 10 + number, address)
                )
                if name in self.paid and (number % 2 or number % 6 == 0):
                    self._pay([name])
                time.sleep(_PAUSE_S)

    def end(self) -> None:
        """The last file comes, too late."""
        self._land(self.late_day, REGIONS[-1])
        self._tell_files()

    def shipped(self) -> list[str]:
        """Orders that are on their way, each as often as it is."""
        return self._orders_in("shipments")

    def reserved(self) -> list[str]:
        """Orders whose goods are reserved, each as often as they are."""
        return self._orders_in("reservations")

    def _orders_in(self, table: str) -> list[str]:
        with psycopg.connect(self.dsn) as connection:
            found = connection.execute(f"SELECT order_id FROM {table} ORDER BY 1").fetchall()  # noqa: S608 - ours
        return [name for (name,) in found]

    def _pay(self, orders: list[str]) -> None:
        for order in orders:
            body = {"type": "payment.received", "order": {"id": order}, "currency": "EUR"}
            self._send(f"msg_{order}", json.dumps(body).encode())
            self.webhooks += 1

    def _send(self, name: str, body: bytes) -> None:
        """Send a webhook as Standard Webhooks says; it must be acknowledged."""
        at_s = now_ms() // 1_000
        signed = hmac.digest(_SECRET, b"%b.%d.%b" % (name.encode(), at_s, body), "sha256")
        headers = {
            "Content-Type": "application/json",
            "webhook-id": name,
            "webhook-timestamp": str(at_s),
            "webhook-signature": f"v1,{base64.b64encode(signed).decode()}",
        }
        request = urllib.request.Request(f"{self.gateway}/payments", body, headers)  # noqa: S310
        # Loopback is never reached through a proxy.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=30) as answer:
            answer.read()

    def _land(self, day: date, region: str) -> None:
        path = self.folder / day.isoformat() / f"{region}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{region};{day};1000.00\n")

    def _tell_files(self) -> None:
        """Run `edo watch` over what has landed."""
        command = [sys.executable, "-m", "edo_stream", "watch", str(self.folder)]
        environment = {**os.environ, **self.environment, "EDO_DATA": str(self.folder.parent)}
        subprocess.run(  # noqa: S603 - our own command
            [*command, "--topic", FILES, "--settle", "200ms", "--once"],
            env=environment,
            check=True,
            stdout=subprocess.DEVNULL,
        )
