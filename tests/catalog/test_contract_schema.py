"""The JSON Schema for editors takes what the registry takes, and its copy in docs/ is current."""

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from edo_stream.catalog.contract_schema import contract_schema
from edo_stream.registry.document import read
from tests.catalog.shelf import CLEAN, WITH_SCHEMA

ROOT = Path(__file__).parents[2]
VALIDATOR = jsonschema_rs.validator_for(contract_schema())


@pytest.mark.parametrize("file", sorted(ROOT.glob("topics/*/contract.yaml")), ids=str)
def test_contracts_of_this_repository_are_valid(file: Path) -> None:
    assert [] == [error.message for error in VALIDATOR.iter_errors(read(file).value)]


@pytest.mark.parametrize(
    "changes",
    [
        {"dedupe": "off", "retry": "off"},
        {"producers": ["checkout", {"name": "app", "source": "/app"}]},
        {"fields": {"/order/id": "identifier", "subject": {"role": "metadata"}}},
        {"retention": "7d", "record_bytes_max": "1MiB", "start": "latest"},
        {"ordering": {"policy": "sequence", "start": "first-seen"}},
    ],
)
def test_what_the_registry_takes_is_valid(changes: dict[str, Any]) -> None:
    assert VALIDATOR.is_valid(CLEAN | changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"retenton": "7d"},
        {"retention": 7},
        {"codec": "xml"},
        {"name": "placed"},
        {"dedupe": False},
        {"schema": {"format": "json", "versions": {"one": {"note": "x"}}}},
    ],
)
def test_what_the_registry_refuses_is_not_valid(changes: dict[str, Any]) -> None:
    assert not VALIDATOR.is_valid(CLEAN | changes)


def test_versions_are_read_as_texts() -> None:
    values = json.loads(json.dumps(WITH_SCHEMA))

    assert VALIDATOR.is_valid(values)


def test_every_field_is_described() -> None:
    schema = contract_schema()
    models = [schema, *schema["$defs"].values()]
    bare = [
        f"{model.get('title')}.{name}"
        for model in models
        for name, field in model["properties"].items()
        if "description" not in field
    ]
    assert [] == bare


def test_copy_in_the_documentation_is_current() -> None:
    assert contract_schema() == json.loads((ROOT / "docs/contract.schema.json").read_text())


def test_guide_names_every_key() -> None:
    guide = (ROOT / "docs/contracts.md").read_text()

    assert [] == [name for name in contract_schema()["properties"] if f"`{name}`" not in guide]
