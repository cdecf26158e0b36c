"""What the demo's flows have made of their inputs, against what they must."""

import asyncio
import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from edo_stream.cli.environment import Environment
from edo_stream.engine.group_topics import state_changelog
from edo_stream.observe.waits import read_waits
from load.read import records
from load.shop import PAID, REVENUE, SAGA_CHANGES, WAITS_FOR_PAYMENT, Shop

_POLL_S: Final = 1.0
_ENDS: Final = ("completed", "compensated")


@dataclass(frozen=True, slots=True)
class Firings:
    """Firings of the flow of each day: why, in order."""

    days: Mapping[str, list[str]] = field(default_factory=dict)

    @classmethod
    async def read(cls, broker: Mapping[str, Any]) -> "Firings":
        """Read all that there are."""
        found = defaultdict(list)
        async for record in records(REVENUE, broker, lambda _: True):
            told = json.loads(record.value)
            found[told["key"]].append(told["reason"])
        return cls(found)


@dataclass(frozen=True, slots=True)
class Flowed:
    """What has come out, of one run."""

    shop: Shop
    before: Firings
    """Of earlier runs on the same broker."""
    paid: Counter[str]
    ends: Mapping[str, Counter[str]]
    """Of the saga's instances, by order."""
    shipped: list[str]
    reserved: list[str]
    waiting: list[str]
    """Orders that wait, each for its payment only."""
    firings: Firings

    def checks(self) -> Iterator[tuple[str, Any, Any]]:
        """What was looked at, what is expected, and what is there."""
        shop = self.shop
        good = [name for name in shop.paid if name != shop.undeliverable]
        yield "orders that are placed and paid", len(shop.paid), len(self.paid)
        yield "  fired more than once", 0, sum(times > 1 for times in self.paid.values())
        yield "orders shipped", len(good), len(set(self.shipped))
        yield "  more than once", 0, len(self.shipped) - len(set(self.shipped))
        undone = [name for name, ends in self.ends.items() if ends["compensated"]]
        yield "orders compensated", [shop.undeliverable], undone
        yield "  goods reserved still", sorted(good), self.reserved
        ends = sum((ends.total() for ends in self.ends.values()), 0)
        yield "ends of sagas", len(shop.paid), ends
        unpaid = [name for name in shop.names if name not in shop.paid]
        yield "orders that wait for a payment", sorted(unpaid), self.waiting
        for day, what in ((shop.complete_day, "complete"), (shop.late_day, "fallback")):
            key = day.isoformat()
            expected = self.before.days.get(key, [what])
            yield f"revenue of {key}, fired by", expected, self.firings.days.get(key, [])

    @property
    def is_exact(self) -> bool:
        """Whether all is as it must be."""
        return all(expected == found for _, expected, found in self.checks())


async def judge_flows(
    environment: Environment, shop: Shop, before: Firings, deadline_s: float
) -> Flowed:
    """Wait until all has come out, or for as long as it may take (:func:`time.monotonic`)."""
    while True:
        flowed = await _look(environment, shop, before)
        if flowed.is_exact or time.monotonic() > deadline_s:
            return flowed
        await asyncio.sleep(_POLL_S)


async def fallback_fired(broker: Mapping[str, Any], shop: Shop, deadline_s: float) -> None:
    """Wait until the deadline that was missed has led to its firing."""
    while time.monotonic() < deadline_s:
        if shop.late_day.isoformat() in (await Firings.read(broker)).days:
            return
        await asyncio.sleep(_POLL_S)


async def _look(environment: Environment, shop: Shop, before: Firings) -> Flowed:
    broker = environment.access.client()
    names = {name.encode() for name in shop.names}
    paid: Counter[str] = Counter()
    async for record in records(PAID, broker, lambda record: record.key in names):
        paid[record.key.decode()] += 1
    ends: dict[str, Counter[str]] = defaultdict(Counter)
    async for record in records(SAGA_CHANGES, broker, lambda record: record.key in names):
        change = json.loads(record.value)["change"]
        if change in _ENDS:
            ends[record.key.decode()][change] += 1
    groups = environment.flows.join_groups
    application = environment.settings.app_id
    waits = await read_waits(
        {name: group.spec for name, group in groups.items()},
        {name: state_changelog(application, name) for name in groups},
        broker,
    )
    waiting = sorted(
        wait.key.decode()
        for wait in waits
        if wait.flow == WAITS_FOR_PAYMENT and wait.missing == ("payment",) and wait.key in names
    )
    shipped, reserved = await asyncio.to_thread(lambda: (shop.shipped(), shop.reserved()))
    firings = await Firings.read(broker)
    return Flowed(shop, before, paid, ends, shipped, reserved, waiting, firings)
