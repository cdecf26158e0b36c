"""Mappings in contracts: what a codec cannot use is a finding with its line."""

from pathlib import Path

import pytest

from edo_stream.registry import RegistryError, load

CONTRACT = """\
name: legacy.orders.changed
owner: team-orders
description: An order was changed in the old shop.
codec: mapped
mapping:
  id: /order/id
  {line}
partitions: 4
emit: {{topic: shop.order.changed}}
"""


def write(root: Path, line: str) -> Path:
    folder = root / "legacy.orders.changed"
    folder.mkdir()
    file = folder / "contract.yaml"
    file.write_text(CONTRACT.format(line=line), encoding="utf-8")
    return file


def test_a_mapping_reaches_the_codec(tmp_path: Path) -> None:
    write(tmp_path, "time: /changed_at")
    contract = load(tmp_path).contracts["legacy.orders.changed"]
    assert {"id": "/order/id", "time": "/changed_at"} == contract.mapping


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("tiem: /changed_at", "mapping.tiem is not a key"),
        ("time: changed_at", "mapping.time 'changed_at' is no place"),
        ("format: xml", "mapping.format is xml: write json or avro or bytes"),
    ],
)
def test_a_mapping_that_cannot_be_used_is_a_finding(tmp_path: Path, line: str, said: str) -> None:
    file = write(tmp_path, line)
    with pytest.raises(RegistryError) as raised:
        load(tmp_path)
    (finding,) = raised.value.findings
    assert (file, 7) == (finding.file, finding.line)
    assert said in finding.message
