"""docs/requests.md says what there is."""

import re
import shutil
from pathlib import Path

import pytest

from edo_stream.engine.act_plans import act_topics
from edo_stream.flows import load_flows
from edo_stream.flows.lint import lint
from edo_stream.registry import RegistryError, load

GUIDE = (Path(__file__).parents[2] / "docs/requests.md").read_text()
EXAMPLE = Path(__file__).parents[2] / "docs/examples/order-quote"
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


WAITING = "when: {any: {a: {topic: shop.label.wanted, key: /id}}, within: 1d}"
SLIDING = (
    "when: {window: {a: {topic: shop.label.wanted, key: /id}}, sliding: {size: 2m, every: 1m}}"
)


def waiting(when: str, name: str = "make-label") -> str:
    text = block("yaml").replace("on: shop.label.wanted", when).replace("key: /id\n", "", 1)
    return text.replace("make-label", name)


def test_what_is_in_several_results_cannot_reply(place: Path) -> None:
    (place / "flows" / "make-label.yaml").write_text(waiting(SLIDING))
    with pytest.raises(RegistryError, match="an event of a sliding window is in several results"):
        load_flows(place / "flows", load(place / "topics"))


def test_a_flow_that_splits_leaves_it_to_who_gathers(place: Path) -> None:
    text = block("yaml") + "split: /parcels\n"
    (place / "flows" / "make-label.yaml").write_text(text)
    with pytest.raises(RegistryError, match=r"with when: \{gather: make-label\}"):
        load_flows(place / "flows", load(place / "topics"))


def test_two_flows_that_reply_to_the_same_requests_are_found(place: Path) -> None:
    registry = load(place / "topics")
    text = block("yaml")
    (place / "flows" / "make-label.yaml").write_text(text)
    assert [] == lint(place / "flows", registry).findings
    (place / "flows" / "wait-label.yaml").write_text(waiting(WAITING, "wait-label"))
    (found,) = lint(place / "flows", registry).findings
    assert "make-label replies to requests of shop.label.wanted by shop as well" in found.message
    assert ("wait-label.yaml", 6) == (found.file.name, found.line)
    for name in ("make-label", "wait-label"):
        (place / "flows" / f"{name}.yaml").write_text(
            text.replace("make-label", name).replace(
                "on: shop.label.wanted",
                f"on: {{topic: shop.label.wanted, where: data.a == '{name}'}}",
            )
        )
    assert [] == lint(place / "flows", registry).findings, "who asks may mean one of them"
    saga = """name: label-saga
version: 1
owner: team
description: A saga.
on: shop.label.wanted
replies: shop
steps: [{name: a, action: {kind: noop, idempotency_key: command, replay: safe}}]
"""
    (place / "flows" / "sagas").mkdir()
    (place / "flows" / "sagas" / "label-saga.yaml").write_text(saga)
    found_now = {one.file.name for one in lint(place / "flows", registry).findings}
    assert {"make-label.yaml", "wait-label.yaml"} == found_now


def test_all_its_flows_are_read(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLE, tmp_path, dirs_exist_ok=True)
    shop = (tmp_path / "topics/shop.order.placed/contract.yaml").read_text()
    for topic in ("shop.payment.received", "shop.label.wanted"):
        folder = tmp_path / "topics" / topic
        folder.mkdir()
        (folder / "contract.yaml").write_text(shop.replace("shop.order.placed", topic))
    for text in re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL):
        path = re.findall(r"# (flows/\S+)\n|$", text)[0]
        (tmp_path / path).write_text(text)
    registry = load(tmp_path / "topics")
    flows = load_flows(tmp_path / "flows", registry)
    assert ["make-label"] == [*flows.repliers("shop.label.wanted")]
    assert ["ship-paid-order"] == [*flows.repliers("shop.payment.received")]
    assert {"order-quoted", "ship-paid-order"} == {*flows.repliers("shop.order.placed")}


def test_its_program_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    names: dict[str, object] = {}
    exec(compile(block("python"), "docs/requests.md", "exec"), names)  # the guide's own code
    assert callable(names["label"])
