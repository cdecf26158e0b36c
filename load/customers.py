"""The demo's second input: rows of a real PostgreSQL, changed by real transactions.

Keeps count of what it commits, so that what comes out of the pipeline can be judged: every
committed change once, no rolled-back one, and the last state of each row.
"""

import json
import random
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg

TABLE: Final = "public.customers"
SNAPSHOT_ROWS: Final = 100
_TIERS: Final = ("bronze", "silver", "gold")
_PAUSE_S: Final = 0.02


@dataclass(slots=True)
class Customers:
    """One writer; ids begin at ``first_id``, so that runs can follow each other on one broker."""

    dsn: str
    first_id: int
    seed: int
    changes: int = 0
    """Rows inserted, updated and deleted by committed transactions, those before the capture too:
    the snapshot reads them."""
    rolled_back: int = 0
    _next_id: int = field(init=False)
    _living: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._next_id = self.first_id

    def create(self) -> None:
        """Make the table anew, with rows for the snapshot."""
        with psycopg.connect(self.dsn) as connection:
            connection.execute(f"drop table if exists {TABLE}")
            connection.execute(
                f"create table {TABLE} (id bigint primary key, name text, tier text)"
            )
            for _ in range(SNAPSHOT_ROWS):
                self._insert(connection)
        self.changes = SNAPSHOT_ROWS

    def work(self, until: threading.Event) -> None:
        """Commit transactions of a few changes each, and roll some back."""
        chance = random.Random(self.seed)
        with psycopg.connect(self.dsn) as connection:
            while not until.wait(_PAUSE_S):
                living, next_id = list(self._living), self._next_id
                changes = sum(self._change(connection, chance) for _ in range(chance.randint(1, 8)))
                if chance.random() < 0.1:
                    connection.rollback()
                    self._living, self._next_id = living, next_id
                    self.rolled_back += changes
                else:
                    connection.commit()
                    self.changes += changes

    def _change(self, connection: psycopg.Connection[Any], chance: random.Random) -> int:
        kind = chance.random()
        if kind < 0.4 or not self._living:
            self._insert(connection)
        elif kind < 0.85:
            connection.execute(
                "update public.customers set tier = %s, name = name || '.' where id = %s",
                (chance.choice(_TIERS), chance.choice(self._living)),
            )
        else:
            gone = self._living.pop(chance.randrange(len(self._living)))
            connection.execute("delete from public.customers where id = %s", (gone,))
        return 1

    def _insert(self, connection: psycopg.Connection[Any]) -> None:
        connection.execute(
            "insert into public.customers values (%s, %s, %s)",
            (self._next_id, f"customer {self._next_id}", _TIERS[self._next_id % len(_TIERS)]),
        )
        self._living.append(self._next_id)
        self._next_id += 1

    def rows(self) -> dict[int, tuple[str, str]]:
        """The table as it is."""
        with psycopg.connect(self.dsn) as connection:
            found = connection.execute("select id, name, tier from public.customers").fetchall()
        return {id_: (name, tier) for id_, name, tier in found}


@dataclass(slots=True)
class Captured:
    """What came out: how many changes, and the table that they add up to."""

    changes: int = 0
    repeated: int = 0
    rows: dict[int, tuple[str, str]] = field(default_factory=dict)
    _seen: set[bytes] = field(default_factory=set)

    async def read(self, results: AsyncIterator[Any], first_id: int) -> "Captured":
        """Apply the results of one run, in the order of each key."""
        async for record in results:
            id_ = json.loads(record.key)["id"]
            if id_ < first_id:
                continue
            cause = dict(record.headers)["ce_causationid"]
            self.repeated += cause in self._seen
            self._seen.add(cause)
            self.changes += 1
            after = json.loads(record.value)["after"]
            if after is None:
                self.rows.pop(id_, None)
            else:
                self.rows[id_] = (after["name"], after["tier"])
        return self
