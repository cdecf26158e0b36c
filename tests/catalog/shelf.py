"""A folder of topics for tests: contracts written as their differences from a clean one."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from edo_stream.catalog.lint import Before, lint
from edo_stream.catalog.tree import read_tree

TODAY = date(2026, 6, 15)

ORDER_V1: dict[str, Any] = {
    "type": "object",
    "required": ["order", "total"],
    "additionalProperties": False,
    "properties": {
        "order": {
            "type": "object",
            "required": ["id"],
            "properties": {"id": {"type": "string"}, "number": {"type": "integer"}},
        },
        "total": {"type": "string"},
    },
}

CLEAN: dict[str, Any] = {
    "name": "shop.order.placed",
    "owner": "team-orders",
    "description": "An order was placed.",
    "codec": "cloudevents",
    "partitions": 4,
    "emit": {"topic": "shop.order.accepted"},
}
WITH_SCHEMA = CLEAN | {
    "schema": {"format": "json", "versions": {1: {"note": "First version."}}},
}


class Shelf:
    """The folder; what is added without a contract of its own gets a clean one."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def add(self, contract: dict[str, Any] | str, **files: Any) -> Path:
        """Write a topic; keys of ``files`` are paths with ``__`` for ``/`` and ``_`` for ``.``."""
        is_text = isinstance(contract, str)
        text = contract if is_text else yaml.safe_dump(contract, sort_keys=False)
        name = yaml.safe_load(text)["name"]
        folder = self.root / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "contract.yaml").write_text(str(text), encoding="utf-8")
        self.put(name, **files)
        return folder

    def put(self, topic: str, **files: Any) -> None:
        """Write files beside a contract."""
        for key, value in files.items():
            path = self.root / topic / key.replace("__", "/").replace("_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(value if isinstance(value, str) else json.dumps(value, indent=2))

    def findings(self, before: Before | None = None) -> list[tuple[str, int, str]]:
        """What the lint finds: file within the topic's folder, line, message."""
        found = lint(read_tree(self.root), TODAY, before).findings
        return [
            ("/".join(one.file.relative_to(self.root).parts[1:]), one.line, one.message)
            for one in found
        ]


def order(**changes: Any) -> dict[str, Any]:
    """Data that version 1 takes, with changes."""
    return {"order": {"id": "o-1", "number": 1}, "total": "9.90"} | changes
