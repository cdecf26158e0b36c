"""What it costs to hold an event against the flows of its topic: ``python -m load.routing``.

One process, one core, no broker; the best of many short runs, with the parsing of the event's JSON.
The figures in ``docs/flow-patterns.md`` are from here.
"""

import json
from collections.abc import Callable
from time import perf_counter
from timeit import repeat
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from edo_stream.core.event import Event
from edo_stream.core.facts import Facts
from edo_stream.core.patterns import parse_pattern
from edo_stream.core.routing import Condition, Route, Routes
from edo_stream.core.trigger import FlowTrigger
from edo_stream.flows.expression import WhereExpression

DATA: Final[dict[str, Any]] = {
    "order": {"id": "order-77", "number": 7, "status": "placed"},
    "customer": {"id": "c-77", "country": "DE"},
    "total": 77.5,
    "path": "in/77/orders.csv",
    "address": "10.0.77.9",
    "lines": [
        {"sku": "A-100", "quantity": 2, "price": 49.95},
        {"sku": "B-7", "quantity": 1, "price": 30.0},
    ],
    "note": "leave it at the door, please",
}
_LOOPS: Final = 200
_REPEATS: Final = 40

#: Each gives the n-th pattern of its kind; one of them matches.
KINDS: Final[dict[str, Callable[[int], dict[str, Any]]]] = {
    "a value": lambda n: {"data": {"customer": {"id": [f"c-{n}"]}}},
    "a value, and a number above": lambda n: {
        "data": {"customer": {"id": [f"c-{n}"]}, "total": [{"numeric": [">", 5]}]}
    },
    "prefix": lambda n: {"data": {"path": [{"prefix": f"in/{n}/"}]}},
    "suffix": lambda n: {"data": {"address": [{"suffix": f".{n}.9"}]}},
    "wildcard": lambda n: {"data": {"path": [{"wildcard": f"in/{n}/*.csv"}]}},
    "equals-ignore-case": lambda n: {
        "data": {"order": {"id": [{"equals-ignore-case": f"ORDER-{n}"}]}}
    },
    "range of numbers": lambda n: {"data": {"total": [{"numeric": [">=", n, "<", n + 1]}]}},
    "cidr": lambda n: {"data": {"address": [{"cidr": f"10.{n // 250}.{n % 250}.0/24"}]}},
    "anything-but, which all match": lambda n: {"data": {"note": [{"anything-but": f"{n}"}]}},
}


def routes(
    pattern: Callable[[int], dict[str, Any] | None], count: int, where: str | None = None
) -> Routes:
    """So many flows; one expression for all of them."""
    compiled = None if where is None else WhereExpression(where)

    def condition(number: int) -> Condition:
        wanted = pattern(number)
        return Condition(None if wanted is None else parse_pattern(wanted), compiled)

    return Routes(
        Route(FlowTrigger(f"f-{n}", f"c-{n}", f"d-{n}", 8), (condition(n),)) for n in range(count)
    )


def event() -> Event:
    """The event that is held against them."""
    data = msgspec.json.encode(DATA)
    return Event("e-1", "/shop", "shop.order.placed", b"k", data, "application/json", "order-77")


def us_an_event(look: Callable[[], object], repeats: int) -> float:
    """Microseconds of one look, the best of many runs."""
    look()
    start = perf_counter()
    look()
    loops = max(1, min(_LOOPS, int(0.02 / (perf_counter() - start + 1e-9))))
    return min(repeat(look, number=loops, repeat=repeats)) / loops * 1e6


def _row(name: str, choose: Routes, count: int, repeats: int) -> dict[str, Any]:
    one = event()
    matching = len(choose.choose(Facts(one)))
    return {
        "what": name,
        "patterns": count,
        "matching": matching,
        "us": round(us_an_event(lambda: choose.choose(Facts(one)), repeats), 1),
    }


def measure(count: int, repeats: int = _REPEATS) -> list[dict[str, Any]]:
    """One row a kind of pattern."""
    made = [(name, routes(pattern, count), count) for name, pattern in KINDS.items()]
    names = list(KINDS)[:-1]

    def mixed(number: int) -> dict[str, Any]:
        return KINDS[names[number % len(names)]](number)

    made += [("all of these but the last", routes(mixed, few), few) for few in (1, 100, count)]
    by_type = routes(lambda n: {"type": [f"shop.order.{n}"]}, count)
    made.append(("an attribute only: no JSON is parsed", by_type, count))
    where = "data.total > 50.0 && data.customer.country in ['DE', 'FR']"
    made.append(("a value, and an expression", routes(KINDS["a value"], count, where), count))
    alone = [routes(lambda n: None, few, where) for few in (1, 10)]
    made += [("an expression alone", one, len(one.routes)) for one in alone]
    return [_row(*one, repeats) for one in made]


def main(
    count: Annotated[
        int, typer.Option("--patterns", min=100, help="Patterns on the topic.")
    ] = 10_000,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure, and print a table."""
    rows = measure(count)
    if as_json:
        print(json.dumps(rows))
        return
    table = Table("patterns of", "patterns", "matching", "µs an event")
    for row in rows:
        table.add_row(row["what"], f"{row['patterns']:,}", f"{row['matching']:,}", f"{row['us']:,}")
    Console(width=100).print(table)


if __name__ == "__main__":
    typer.run(main)
