"""docs/gateway.md says what there is: its examples are read, its tables are complete."""

import json
import re
from pathlib import Path

import pytest

from edo_stream.gateway.config import read_config
from edo_stream.gateway.declaration import Declaration, Limits, Source
from edo_stream.webhooks.options import Options
from edo_stream.webhooks.probe import answer
from edo_stream.webhooks.schemes import SCHEMES
from edo_stream.webhooks.verdict import CAUSES
from tests.webhooks.ask import NOW_MS

PAGE = Path(__file__).parents[2] / "docs/gateway.md"
TEXT = PAGE.read_text()
EXAMPLES = [
    example.replace("file:/run/secrets/stripe", "env:STRIPE")
    for example in re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
]


class AnySecret(dict[str, str]):
    """An environment in which every variable is a secret of every scheme."""

    def get(self, name: str, default: object = None) -> str:  # type: ignore[override]
        return "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_are_read(example: str, tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(example)
    assert read_config(file, AnySecret()).sources


def test_there_are_examples_of_many_providers() -> None:
    assert len(EXAMPLES) > 10


@pytest.mark.parametrize("model", [Declaration, Source, Limits])
def test_every_key_is_in_a_table(model: type[Declaration]) -> None:
    keys = {field.alias or name for name, field in model.model_fields.items()}
    cells = " ".join(line.split("|")[1] for line in TEXT.splitlines() if line.startswith("| `"))
    assert set() == keys - {*re.findall(r"`(\w+)`", cells)}


def test_every_scheme_and_cause_is_in_a_table() -> None:
    named = {*re.findall(r"`([a-z-]+)`", TEXT)}
    assert set() == {*SCHEMES, *CAUSES} - named
    assert all(f"| `{cause}` | {meaning} |" in TEXT for cause, meaning in CAUSES.items())


def test_the_line_of_the_probe_is_accepted() -> None:
    (line,) = re.findall(r"```json\n(.*?)\n```", TEXT, re.DOTALL)
    told = answer(line.encode(), "github", Options(), NOW_MS, lambda url: "")
    assert (1, True) == (json.loads(line)["id"], told["accepted"])
