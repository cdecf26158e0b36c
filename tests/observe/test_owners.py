"""Who is told of a dead letter, by the declarations of contracts and flows."""

from pathlib import Path

from edo_stream.flows import load_flows
from edo_stream.observe.owners import Terms, owners_of
from edo_stream.registry import load

CONTRACT = """\
name: shop.order.{name}
owner: shop
description: Something that happened.
codec: cloudevents
partitions: 2
group: shop
emit: {{topic: shop.order.{name}.out}}
"""

FLOW = """\
name: {name}
owner: shipping
description: Does something.
on: shop.order.placed
action: {{kind: noop, idempotency_key: command, replay: safe}}
"""

JOIN = """\
name: both-came
owner: waiting
description: Tells that both came.
when:
  all:
    placed: {topic: shop.order.placed, key: /id}
    paid: {topic: shop.order.paid, key: /id}
  within: 1h
  group: waits
  partitions: 2
emit: {topic: shop.order.both}
"""

HOUR_MS, DAY_MS = 3_600_000, 86_400_000


def test_every_topic_of_dead_letters_has_somebody_who_looks(tmp_path: Path) -> None:
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "both-came.yaml").write_text(JOIN)
    for name, more in {
        "both": "",
        "placed": "dead_letters: {owner: desk, acknowledge_within: 1h}\n",
        "paid": "",
    }.items():
        folder = tmp_path / "topics" / f"shop.order.{name}"
        folder.mkdir(parents=True)
        (folder / "contract.yaml").write_text(CONTRACT.format(name=name) + more)
    for name, more in {"ship": "dead_letters: {owner: night}\n", "bill": ""}.items():
        (tmp_path / "flows" / f"{name}.yaml").write_text(FLOW.format(name=name) + more)
    registry = load(tmp_path / "topics")

    owners = owners_of(registry, load_flows(tmp_path / "flows", registry))

    assert owners.names == ["desk", "night", "shipping", "shop", "waiting"]
    letters = {topic.removeprefix("edo.dead-letters."): t for topic, t in owners.letters.items()}
    assert letters == {
        "shop.order.placed": Terms("desk", HOUR_MS),
        "shop.order.paid": Terms("shop", None),
        "shop.order.both": Terms("shop", None),
        "ship": Terms("night", DAY_MS),
        "bill": Terms("shipping", DAY_MS),
        # For what belongs to no flow of the group.
        "actions": Terms("shipping", DAY_MS),
        "both-came": Terms("waiting", DAY_MS),
        "waits": Terms("waiting", DAY_MS),
    }
    assert owners.of("edo.dead-letters.gone", "gone", "", "former") == Terms("former", None)
