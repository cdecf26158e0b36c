"""docs/requests.md says what there is."""

import re
from pathlib import Path

import pytest

from edo_stream.engine.act_plans import act_topics
from edo_stream.flows import load_flows
from edo_stream.registry import RegistryError, load

GUIDE = (Path(__file__).parents[2] / "docs/requests.md").read_text()
CONTRACT = """\
name: shop.label.wanted
owner: team-tests
description: A label is wanted.
codec: cloudevents
partitions: 1
emit: {topic: shop.label.wanted.out}
"""


def block(kind: str) -> str:
    return re.findall(rf"```{kind}\n(.*?)```", GUIDE, re.DOTALL)[0]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    folder = tmp_path / "topics" / "shop.label.wanted"
    folder.mkdir(parents=True)
    (folder / "contract.yaml").write_text(CONTRACT)
    (tmp_path / "flows").mkdir()
    return tmp_path


def test_its_flow_has_the_topic_of_replies_created_once(place: Path) -> None:
    text = block("yaml")
    for name in ("make-label", "make-another"):
        more = "" if name == "make-label" else "group: others\npartitions: 2\n"
        (place / "flows" / f"{name}.yaml").write_text(text.replace("make-label", name) + more)
    flows = load_flows(place / "flows", load(place / "topics"))
    wanted = [one for one in act_topics(flows, "app", 1) if one.name == "edo.replies.shop"]
    assert [8] == [one.partitions for one in wanted]
    assert "86400000" == wanted[0].config["retention.ms"]


def test_a_flow_that_waits_cannot_reply(place: Path) -> None:
    waiting = "when: {any: {a: {topic: shop.label.wanted, key: /id}}, within: 1d}"
    text = block("yaml").replace("on: shop.label.wanted", waiting).replace("key: /id\n", "", 1)
    (place / "flows" / "make-label.yaml").write_text(text)
    with pytest.raises(RegistryError, match="replies is not of a flow with when"):
        load_flows(place / "flows", load(place / "topics"))


def test_a_flow_that_splits_cannot_reply(place: Path) -> None:
    text = block("yaml") + "split: /parcels\n"
    (place / "flows" / "make-label.yaml").write_text(text)
    with pytest.raises(RegistryError, match="replies is not of a flow with split"):
        load_flows(place / "flows", load(place / "topics"))


def test_its_program_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    names: dict[str, object] = {}
    exec(compile(block("python"), "docs/requests.md", "exec"), names)  # the guide's own code
    assert callable(names["label"])
