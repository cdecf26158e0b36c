"""`edo contracts show`, `owners`, `schema`: what is declared, for people and for editors."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from edo_stream.catalog.contract_schema import contract_schema
from edo_stream.catalog.describe import described
from edo_stream.cli.contracts_read import AsJson, entry_of, load_topics, print_json
from edo_stream.cli.screen import screen
from edo_stream.registry import Registry


def show(
    topic: Annotated[str | None, typer.Argument(help="Topic; default: a line for each.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what a contract says, with what it leaves to defaults; or all of them, a line each."""
    registry = load_topics()
    if topic is None:
        _show_all(registry, as_json)
        return
    values = described(entry_of(registry, topic))
    if as_json:
        print_json(values)
        return
    table = Table("what", "value", title=Text(topic), show_header=False)
    for name, value in _rows(values):
        table.add_row(Text(name), Text(value))
    screen().print(table)


def _show_all(registry: Registry, as_json: bool) -> None:
    all_described = [described(entry) for entry in registry.entries.values()]
    if as_json:
        print_json(all_described)
        return
    names = ("name", "kind", "owner", "partitions", "ordering", "versions", "emit", "consumers")
    table = Table(*names)
    table.columns[0].overflow = "fold"
    for values in all_described:
        cells = {
            **values,
            "ordering": values["ordering"]["policy"],
            "versions": ", ".join(values.get("schema", {}).get("versions", {})),
            "emit": (values.get("emit") or {}).get("topic", ""),
            "consumers": ", ".join(one["name"] for one in values["consumers"]),
        }
        table.add_row(*(Text(str(cells[name])) for name in names))
    screen().print(table)


def _rows(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _rows(value, f"{prefix}{name}.")
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            for one in value:
                inner = ", ".join(f"{key} {_text(item)}" for key, item in one.items())
                yield f"{prefix}{name}", inner
        elif value not in (None, [], {}):
            yield f"{prefix}{name}", _text(value)


def _text(value: Any) -> str:
    return ", ".join(str(one) for one in value) if isinstance(value, list) else str(value)


def owners(as_json: AsJson = False) -> None:
    """Show who owns what: topics, their dead letters, who writes and who reads."""
    found: dict[str, dict[str, list[str]]] = {}

    def add(owner: str, role: str, what: str) -> None:
        roles = found.setdefault(owner, {name: [] for name in _ROLES})
        if what not in roles[role]:
            roles[role].append(what)

    for entry in load_topics().entries.values():
        declaration = entry.declaration
        add(declaration.owner, "topics", entry.name)
        add(declaration.dead_letters.owner or declaration.owner, "dead_letters", entry.name)
        for producer in declaration.producers:
            add(producer.owner or declaration.owner, "producers", f"{producer.name} → {entry.name}")
        for consumer in declaration.consumers:
            if consumer.owner is not None:
                add(consumer.owner, "consumers", f"{entry.name} → {consumer.name}")
    rows = dict(sorted(found.items()))
    if as_json:
        print_json([{"owner": owner, **roles} for owner, roles in rows.items()])
        return
    table = Table("owner", *(role.replace("_", " ") for role in _ROLES), show_lines=True)
    for owner, roles in rows.items():
        table.add_row(Text(owner), *(Text("\n".join(roles[role])) for role in _ROLES))
    screen().print(table)


_ROLES = ("topics", "dead_letters", "producers", "consumers")


def schema() -> None:
    """Print the JSON Schema of contract.yaml, for editors."""
    print_json(contract_schema())
