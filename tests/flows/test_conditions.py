"""What a flow wants and what it makes of it, as its file says it."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edo_stream.core.event import Event
from edo_stream.core.facts import Facts, UndecidedError, UnmadeError
from edo_stream.core.routing import Choice
from edo_stream.flows import load_flows
from edo_stream.flows.declaration import Input
from edo_stream.flows.expression import Expression, ExpressionError, WhereExpression
from edo_stream.flows.inputs import maker_of
from edo_stream.registry import Registry, RegistryError, load
from edo_stream.registry.document import read

ROOT = Path(__file__).parents[2]
ORDER = {
    "order": {"id": "o-9", "big": 9007199254740993},
    "total": 120.5,
    "items": [{"sku": "s-1", "n": 1}, {"sku": "s-2", "n": 5}],
}
FLOW = """\
name: ship
owner: team-shipping
description: Ships.
{on}
action: {{kind: noop, idempotency_key: command, replay: safe}}
"""


def facts(data: Any = ORDER, **rest: Any) -> Facts:
    text = data if isinstance(data, bytes) else msgspec.json.encode(data)
    parts = {"content_type": "application/json", "subject": "o-9", **rest}
    return Facts(Event("e-1", "/shop", "shop.order.placed", b"key", text, **parts))


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load(ROOT / "topics")


def mistakes(folder: Path, registry: Registry, on: str) -> list[str]:
    (folder / "ship.yaml").write_text(FLOW.format(on=on))
    with pytest.raises(RegistryError) as refused:
        load_flows(folder, registry)
    return [f"{one.line}: {one.message}" for one in refused.value.findings]


# -- what a file may say


@pytest.mark.parametrize(
    ("on", "expected"),
    [
        ("on: shop.order.placed", {"shop.order.placed": 0}),
        ("on: {topic: shop.order.placed}", {"shop.order.placed": 0}),
        ("on:\n- shop.order.placed\n- shop.payment.received", dict.fromkeys(
            ["shop.order.placed", "shop.payment.received"], 0)),
        ("on: {topic: shop.order.placed, match: {id: [e-1]}}", {"shop.order.placed": 1}),
        ("on: {topic: shop.order.placed, where: 'data.total > 100.0'}", {"shop.order.placed": 1}),
        (("on:\n- {topic: shop.order.placed, match: {id: [e-1]}}\n"
         "- {topic: shop.order.placed, where: 'true'}"), {"shop.order.placed": 2}),
        # A topic without more wants all that it has, whatever else is said of it.
        ("on:\n- {topic: shop.order.placed, match: {id: [e-1]}}\n- shop.order.placed",
         {"shop.order.placed": 0}),
    ],
)  # fmt: skip
def test_a_flow_says_what_it_wants(
    tmp_path: Path, registry: Registry, on: str, expected: dict[str, int]
) -> None:
    (tmp_path / "ship.yaml").write_text(FLOW.format(on=on))
    flows = load_flows(tmp_path, registry)
    wants = flows.flows["ship"].wants
    assert expected == {topic: len(conditions) for topic, conditions in wants.items()}
    for topic in expected:
        assert ["ship"] == [trigger.flow for trigger in flows.triggers(topic)]
    assert flows.routes("shop.invoice.requested") is None


@pytest.mark.parametrize(
    "text", ["0", "-7", "999999999999999999", "1234567890123456789", "9223372036854775807"]
)
def test_a_whole_number_of_a_file_is_one_as_far_as_ids_go(text: str) -> None:
    assert [int(text)] == read(Path("ship.yaml"), f"[{text}]").value


@pytest.mark.parametrize(
    ("on", "expected"),
    [
        ("on: shop.order.placd", "4: on: no contract of shop.order.placd"),
        ("on:\n- shop.order.placed\n- shop.order.placd", "6: on: no contract of shop.order.placd"),
        ("on:\n  topic: shop.order.placed\n  wher: x", "6: wher is not a key: did you mean where?"),
        ("on: []", "4: on is []"),
        ("on:\n  match: {id: [x]}", "topic is missing in on.0"),
        ("on:\n  topic: shop.order.placed\n  match:\n    data:\n      total: 5",
         "8: match: data.total: expected a list of values, such as [5]"),
        (("on:\n  topic: shop.order.placed\n  match:\n    $or:\n    - id: [x]\n    - data:\n"
         "        x: [{prefiks: a}]"), "10: match: data.x: unknown operator 'prefiks'"),
        ("on:\n  topic: shop.order.placed\n  where: data.total >",
         "6: where: not an expression in CEL: 1:13: Syntax error"),
        ("on:\n  topic: shop.order.placed\n  where: lower(type) == 'x'",
         "6: where: lower is not a function"),
        ("on: shop.order.placed\ninput: {jq: '{'}", "5: input.jq: not a program of jq: syntax"),
        ("on: shop.order.placed\ninput: {jq: '[range(9)]'}", "5: input.jq: range may not be used"),
        ("on: shop.order.placed\ninput: {cel: '{'}", "5: input.cel: not an expression in CEL"),
        ("on: shop.order.placed\ninput: {template: '{{'}", "5: input.template: not a template"),
        ("on: shop.order.placed\ninput: {jq: '.', cel: data}", "write one of jq, cel and template"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_at_its_line(
    tmp_path: Path, registry: Registry, on: str, expected: str
) -> None:
    found = mistakes(tmp_path, registry, on)
    assert [line for line in found if expected in line], found


def test_flows_of_a_topic_are_chosen_together(tmp_path: Path, registry: Registry) -> None:
    wants = {
        "all": "on: shop.order.placed",
        "dear": "on: {topic: shop.order.placed, match: {data: {total: [{numeric: ['>', 100]}]}}}",
        "many": "on: {topic: shop.order.placed, where: 'data.items.exists(i, i.n > 4)'}",
        "none": "on: {topic: shop.order.placed, match: {id: [e-1]}, where: size(data.items) > 9}",
    }
    for name, on in wants.items():
        (tmp_path / f"{name}.yaml").write_text(FLOW.format(on=on).replace("ship", name, 1))
    routes = load_flows(tmp_path, registry).routes("shop.order.placed")
    assert routes is not None
    assert ["all"] == [routes.routes[number].trigger.flow for number in routes.always]
    assert [Choice(1), Choice(2)] == routes.choose(facts())


# -- expressions


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("type == 'shop.order.placed' && data.total > 100.0", True),
        ("data.order.id in ['o-1', 'o-9']", True),
        ("data.order.big == 9007199254740993", True),
        ("data.order.big == 9007199254740992", False),
        ("has(data.limit) && data.total > data.limit", False),
        ("!has(data.order.number)", True),
        ("time == null && tenant == null && subject == 'o-9'", True),
        ("data.items.all(i, i.n > 0) && data.items.exists_one(i, i.sku == 's-2')", True),
        ("data.items.filter(i, i.n > 4).size() == 1", True),
        ("subject.matches('^o-[0-9]+$')", True),
        ("data.total >= 120", True),
    ],
)
def test_an_expression_says_whether_an_event_is_wanted(text: str, expected: bool) -> None:
    assert expected is WhereExpression(text)(facts())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("data.limit > 1", "where: the event has no limit"),
        ("data.total > 'x'", "where: No such overload"),
        ("data.total", "where: expected true or false, found a float"),
        ("1 / (size(data.items) - 2) == 1", "where: division by zero"),
        ("data.items[7].n == 1", "where: index out of bounds: 7"),
        ("data.x.y == 1", "where: the event has no x"),
    ],
)
def test_an_expression_that_an_event_does_not_fit_decides_nothing(text: str, expected: str) -> None:
    with pytest.raises(UndecidedError) as undecided:
        WhereExpression(text)(facts())
    assert str(undecided.value).startswith(expected)


@pytest.mark.parametrize("data", [b"", b"\xff", b'"\\ud800"', b"[" * 900 + b"]" * 900, b"null"])
def test_an_expression_survives_any_data(data: bytes) -> None:
    with pytest.raises(UndecidedError):
        WhereExpression("data.x == 1")(facts(data))


@pytest.mark.parametrize("text", ["", "a b", "(" * 5_000, "nope(1)", "data.foo()"])
def test_what_is_no_expression_is_refused(text: str) -> None:
    with pytest.raises(ExpressionError):
        Expression(text)


def test_what_an_expression_speaks_of_is_converted_once_an_event() -> None:
    first, second = WhereExpression("data.total > 1.0"), WhereExpression("data.total < 1.0")
    look = facts()
    assert (first(look), second(look)) == (True, False)
    context, bound = look.kept
    assert bound == {"data"}
    assert not WhereExpression("id == 'e-2'")(look)
    assert look.kept[0] is context


@given(st.recursive(
    st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.text(max_size=5)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner,
                                                                max_size=3),
    max_leaves=10,
))  # fmt: skip
def test_cel_makes_of_data_what_it_is(data: Any) -> None:
    made = maker_of(Input(cel="data"))(facts(data))
    assert data == msgspec.json.decode(made)


# -- what a command is made of


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ({"jq": "{id: .data.id, skus: [.data.items[].sku], from: .source}"},
         {"id": 9, "skus": ["s-1"], "from": "/shop"}),
        ({"jq": ".data.items | length"}, 1),
        ({"jq": ".data.nothing"}, None),
        ({"cel": "{'id': data.id, 'n': data.items.map(i, i.n + 1), 'type': type}"},
         {"id": 9, "n": [2], "type": "shop.order.placed"}),
        ({"template": '{"id": {{ data.id }}, "items": {{ data["items"] | json }}}'},
         {"id": 9, "items": [{"sku": "s-1", "n": 1}]}),
    ],
)  # fmt: skip
def test_data_is_made_of_the_whole_event(declared: dict[str, str], expected: Any) -> None:
    look = facts({"id": 9, "items": [{"sku": "s-1", "n": 1}]})
    assert expected == msgspec.json.decode(maker_of(Input(**declared))(look))


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ({"jq": "error(\"no\")"}, "input: no"),
        ({"jq": ".type.x"}, "input: Cannot index"),
        ({"jq": "empty"}, "expected one document, found none"),
        ({"jq": ".id, .id"}, "expected one document, found more than one"),
        ({"jq": ".id"}, "jq would change the number 9007199254740993"),
        ({"cel": "data.limit"}, "input: the event has no limit"),
        ({"cel": "{1: data.total}['x']"}, "input: "),
        ({"template": "{{ data.limit }}"}, "has no attribute 'limit'"),
        ({"template": "not json"}, "input: JSON is malformed"),
        ({"template": '"{{ "x" * 2000000 }}"'}, "expected at most 1048576 bytes, found 2000002"),
        ({"cel": "[data].map(d, d.total / 0.0)[0] > 1.0 ? data.nope : data.nope"}, "has no nope"),
    ],
)  # fmt: skip
def test_what_cannot_be_made_says_why(declared: dict[str, str], expected: str) -> None:
    exact = declared.get("jq") != ".id"
    data = {**ORDER, "order": {"id": "o-9"}} if exact else ORDER
    with pytest.raises(UnmadeError) as unmade:
        maker_of(Input(**declared))(facts(data))
    assert expected in str(unmade.value)


@pytest.mark.parametrize("cel", ["{'n': [1.0, data.total * 1e308]}", "0.0 / 0.0", "-1.0 / 0.0"])
def test_what_is_no_number_any_more_is_not_made(cel: str) -> None:
    with pytest.raises(UnmadeError, match="out of range"):
        maker_of(Input(cel=cel))(facts())


@pytest.mark.parametrize("data", [b"", b"\xff\xfe", b"{", b'"\\ud800"', b"[" * 9_999])
@pytest.mark.parametrize(
    "declared", [{"jq": ".data.x"}, {"cel": "data.x"}, {"template": "{{data.x}}"}]
)
def test_no_data_is_too_bad_for_a_reason(declared: dict[str, str], data: bytes) -> None:
    with pytest.raises(UnmadeError) as unmade:
        maker_of(Input(**declared))(facts(data))
    assert str(unmade.value).startswith("input: ")


@pytest.mark.parametrize(
    "program",
    ["range(3)", "$ENV.HOME", "env", "now", "def f: f; f", '"\\(range(3))"', "{a: input}",
     '"#" | range(1)', '"\\(1)#\\(env.HOME)"', '"a\\("b" + "\\(2)#")c" + now', ".data.s[now:5]",
     "1 # \\\\\n | env", '{"a": "\\\\\\(env)"}'],
)  # fmt: skip
def test_jq_may_neither_loop_for_ever_nor_look_outside(program: str) -> None:
    with pytest.raises(ValueError, match="may not be used"):
        maker_of(Input(jq=program))


@pytest.mark.parametrize("program", [".data.range", "{range: 1}", '"out of range"', ".. | numbers",
                                     "# range\n.id", '.["range"]', "{env: .env}"])  # fmt: skip
def test_words_that_are_names_or_texts_are_none_of_jq_s(program: str) -> None:
    assert callable(maker_of(Input(jq=program)))
