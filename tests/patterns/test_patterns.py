"""Patterns: the language, its mistakes, and many at once."""

import json
import os
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edo_stream.core.patterns import PatternError, PatternIndex, leaves_of, parse_pattern
from edo_stream.core.patterns.parse import Field

BESIDE = Path(__file__).parents[3] / "shared" / "conformance"
CASES = Path(os.environ.get("EDO_CONFORMANCE", BESIDE)) / "event_patterns" / "moto.json"


def matches(pattern: Any, event: Any) -> bool:
    return bool(PatternIndex([(1, parse_pattern(pattern))]).matches(event))


@pytest.mark.skipif(not CASES.is_file(), reason=f"no third-party cases in {CASES}")
def test_others_cases_are_answered_as_they_expect() -> None:
    wrong = [
        case["id"]
        for case in json.loads(CASES.read_text())
        if matches(case["pattern"], case["event"]) != (case["expect"] == "match")
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("pattern", "event", "expected"),
    [
        # The same element of an array must meet all fields that lead through it.
        ({"i": {"x": [1], "y": [2]}}, {"i": [{"x": 1, "y": 2}]}, True),
        ({"i": {"x": [1], "y": [4]}}, {"i": [{"x": 1, "y": 2}, {"x": 3, "y": 4}]}, False),
        ({"i": {"x": [1]}, "j": {"y": [4]}}, {"i": [{"x": 1}], "j": [{"y": 3}, {"y": 4}]}, True),
        ({"a": {"b": {"c": [1], "d": [2]}}}, {"a": [{"b": [{"c": 1}, {"d": 2}]}]}, False),
        ({"a": [1]}, {"a": [[2, 3], [1]]}, True),
        # Numbers are numbers, and nothing else is.
        ({"n": [300]}, {"n": 3.0e2}, True),
        ({"n": [1]}, {"n": True}, False),
        ({"n": [True]}, {"n": 1}, False),
        ({"n": ["1"]}, {"n": 1}, False),
        ({"n": [{"numeric": ["=", 0.1]}]}, {"n": 0.1}, True),
        ({"n": [{"numeric": ["<", 0]}]}, {"n": -5}, True),
        ({"n": [{"numeric": [">=", -5]}]}, {"n": 5e9}, True),
        ({"n": [{"numeric": [">", 0]}]}, {"n": "5"}, False),
        ({"n": [{"numeric": [">", 0]}]}, {"n": True}, False),
        # What is not there, what is nothing, and what is empty.
        ({"a": [{"exists": False}]}, {"a": []}, True),
        ({"a": [{"exists": True}]}, {"a": {}}, False),
        ({"a": [{"exists": False}, "x"]}, {"a": "x"}, True),
        ({"a": [{"exists": False}, "x"]}, {"a": "y"}, False),
        ({"a": [{"anything-but": "x"}]}, {}, False),
        ({"a": [{"anything-but": "x"}]}, {"a": None}, True),
        ({"a": [{"anything-but": "x"}]}, {"a": 5}, True),
        ({"a": [{"anything-but": {"prefix": ["x", "y"]}}]}, {"a": "yes"}, False),
        ({"a": [{"anything-but": {"equals-ignore-case": ["x", "y"]}}]}, {"a": "Y"}, False),
        ({"a": [{"cidr": "2001:db8::/32"}]}, {"a": "2001:db8::1"}, True),
        ({"a": [{"cidr": "10.0.0.0/8"}]}, {"a": "2001:db8::1"}, False),
        ({"a": [{"wildcard": "*"}]}, {"a": "x\ny"}, True),
        ({"a": [{"wildcard": "a\\\\b"}]}, {"a": "a\\b"}, True),
        ({"a": [{"wildcard": "a.c"}]}, {"a": "abc"}, False),
        # ``$or`` is one only as a list of two patterns or more.
        ({"$or": [{"a": [1]}, {"b": [2]}], "c": [3]}, {"b": 2, "c": 3}, True),
        ({"$or": [{"a": [1]}, {"b": [2]}], "c": [3]}, {"b": 2}, False),
        ({"$or": ["x"]}, {"$or": "x"}, True),
        ({"$or": [{"prefix": "x"}, {"suffix": "y"}]}, {"$or": "why"}, True),
        # A field's name may have dots of its own, or nothing else.
        ({"": {"x": [1]}, "a.": {"": [2]}}, {"": {"x": 1}, "a.": {"": 2}}, True),
        ({"a.b": [1]}, {"a": {"b": 1}}, True),
    ],
)
def test_what_matches(pattern: Any, event: Any, expected: bool) -> None:
    assert expected == matches(pattern, event)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ([], "a JSON object"),
        ({}, "empty object"),
        ({"a": {}}, "a: an empty object"),
        ({"a": []}, "a: an empty list"),
        ({"a": "x"}, "a: expected a list of values, such as ['x']"),
        ({"a": [["x"]]}, "a: a list within a list"),
        ({"a": [{"prefiks": "x"}]}, "unknown operator 'prefiks'"),
        ({"a": [{"prefix": "x", "suffix": "y"}]}, "an operator is one key"),
        ({"a": [{"prefix": 1}]}, "a: prefix: expected a text"),
        ({"a": [{"prefix": {"x": "y"}}]}, "equals-ignore-case"),
        ({"a": [{"exists": "yes"}]}, "true or false"),
        ({"a": [{"numeric": ["~", 1]}]}, "found '~'"),
        ({"a": [{"numeric": [">", "1"]}]}, "expected a number"),
        ({"a": [{"numeric": [">", 5, "<", 1]}]}, "the range is empty"),
        ({"a": [{"numeric": ["<", 5, ">", 1]}]}, "begins with >"),
        ({"a": [{"numeric": []}]}, "one or two comparisons"),
        ({"a": [{"anything-but": []}]}, "an empty list"),
        ({"a": [{"anything-but": [None]}]}, "texts or numbers"),
        ({"a": [{"anything-but": [True]}]}, "texts or numbers"),
        ({"a": [{"anything-but": False}]}, "texts or numbers"),
        ({"a": [{"anything-but": {"cidr": "10.0.0.0/8"}}]}, "is not one of"),
        ({"a": [{"anything-but": ["x", 1]}]}, "texts and numbers in one list"),
        ({"a": [{"anything-but": {"prefix": ["x", ""]}}]}, "which every text has"),
        ({"a": [{"cidr": "10.0.0.0/99"}]}, "cidr"),
        ({"a": [{"cidr": "10.0.0.7"}]}, "10.0.0.7/32"),
        ({"a": [{"wildcard": "a**b"}]}, "two * in a row"),
        ({"a": [{"wildcard": "a\\b"}]}, "stands only before"),
    ],
)
def test_what_says_nothing_is_refused_with_its_place(pattern: Any, message: str) -> None:
    with pytest.raises(PatternError) as refused:
        parse_pattern(pattern)
    assert message in str(refused.value)


def test_too_many_combinations_and_too_deep_a_pattern_are_refused() -> None:
    many = {f"k{n}": {"$or": [{f"a{i}": [1]} for i in range(9)]} for n in range(9)}
    deep: Any = [1]
    for _ in range(500):
        deep = {"a": deep}
    for pattern in (many, deep):
        with pytest.raises(PatternError):
            parse_pattern(pattern)


def test_arrays_do_not_multiply_one_another() -> None:
    names = "abcdef"
    wanted = {name: {"x": [1], "w": [1]} for name in names}
    event: Any = {name: [{"x": 1, "w": 1}] * 300 for name in names}
    crossed = [{"x": 1, "w": 2}, {"x": 2, "w": 1}]
    assert matches(wanted, event)
    assert not matches(wanted, {**event, "f": crossed})
    assert not matches({"in": wanted}, {"in": [{**event, "f": crossed}] * 3})
    assert matches({"in": wanted}, {"in": [{**event, "f": crossed}, event]})


def test_arrays_may_be_nested_as_deep_as_they_like() -> None:
    crossed = [{"x": 1, "y": 2}, {"x": 2, "y": 1}]
    event: Any = crossed
    for _ in range(500):
        event = [event, crossed]
    assert not matches({"a": {"x": [1], "y": [1]}}, {"a": event})
    assert matches({"a": {"x": [1], "y": [2]}}, {"a": event})


def test_a_rule_that_many_leaves_lead_to_is_looked_at_once() -> None:
    event = {"a": ["x"] * 20_000, "b": "y"}
    for wanted in ({"a": ["x"], "b": ["z", {"anything-but": "y"}]}, {"a": ["x", "w"], "b": [1, 2]}):
        assert not matches(wanted, event)
    index = PatternIndex(
        [(n, parse_pattern({"a": ["x"], "b": [wanted]})) for n, wanted in ((1, "z"), (2, "y"))]
    )
    assert [2] == index.matches({"a": ["x"] * 3, "b": "y"})


def test_the_stars_of_a_wildcard_do_not_multiply_one_another() -> None:
    wanted = {"a": [{"wildcard": "*a*a*a*a*a*a*a*b*c"}]}
    assert not matches(wanted, {"a": "a" * 5_000 + "c"})
    assert matches(wanted, {"a": "a" * 5_000 + "bc"})
    assert matches({"a": [{"wildcard": "x*xy*y"}]}, {"a": "xxyxyy"})
    assert not matches({"a": [{"wildcard": "xy*y"}]}, {"a": "xy"})


def test_an_event_may_be_as_deep_as_it_likes() -> None:
    event: Any = 1
    for _ in range(50_000):
        event = {"a": event}
    assert len(leaves_of(event)) == 1


# -- against a model that looks at everything

_NAMES = st.sampled_from("abc")
_TEXTS = st.sampled_from(["", "x", "xy", "Xy", "10.0.0.7", "a*b"])
_VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 2), st.sampled_from([0.5, 1.0]), _TEXTS
)
_EVENTS = st.recursive(
    _VALUES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=3),
    max_leaves=12,
).map(lambda value: value if isinstance(value, dict) else {"a": value})
_OPERATORS = st.one_of(
    _VALUES,
    st.fixed_dictionaries({"exists": st.booleans()}),
    st.fixed_dictionaries({"prefix": _TEXTS}),
    st.fixed_dictionaries({"suffix": _TEXTS}),
    st.fixed_dictionaries({"equals-ignore-case": _TEXTS}),
    st.fixed_dictionaries({"anything-but": st.lists(_TEXTS, min_size=1, max_size=2)}),
    st.fixed_dictionaries({"anything-but": st.fixed_dictionaries({"prefix": _TEXTS.filter(bool)})}),
    st.fixed_dictionaries(
        {"numeric": st.tuples(st.sampled_from("<>="), st.integers(-1, 1)).map(list)}
    ),
    st.fixed_dictionaries(
        {"numeric": st.sampled_from([[">", -2, "<", 1], [">=", 0, "<=", 2], [">", 0, "<=", 0.5]])}
    ),
    st.fixed_dictionaries({"wildcard": st.sampled_from(["x*", "*y", "*x*", "x*y", "a\\*b", "*"])}),
    st.fixed_dictionaries({"cidr": st.sampled_from(["10.0.0.0/8", "10.0.0.7/32", "0.0.0.0/0"])}),
)
_FIELDS = st.lists(_OPERATORS, min_size=1, max_size=2)


def _objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    plain = st.dictionaries(_NAMES, inner, min_size=1, max_size=2)
    either = st.lists(plain, min_size=2, max_size=2)
    return plain | st.builds(lambda one, both: {**one, "$or": both}, plain, either)


_PATTERNS = _objects(st.recursive(_FIELDS, _objects, max_leaves=4))


def _variants(path: str, value: Any) -> Iterator[dict[str, Any]]:
    """Every way to take one element of each array, as values by path."""
    if isinstance(value, dict):
        inner = [
            list(_variants(f"{path}.{name}" if path else name, one)) for name, one in value.items()
        ]
        for parts in product(*inner):
            yield {place: one for part in parts for place, one in part.items()}
    elif isinstance(value, list):
        if not value:
            yield {}
        for one in value:
            yield from _variants(path, one)
    else:
        yield {path: value}


def _holds(field: Field, value: Any) -> bool:
    exact = any(
        type(value) is type(wanted) and value == wanted
        if not isinstance(wanted, tuple)
        else isinstance(value, bool) == (wanted[0] == "bool")
        and isinstance(value, int | float)
        and value == wanted[1]
        for wanted in field.values
    )
    return exact or field.may_be_there or any(test.test(value) for test in field.tests)


def _model(pattern: Any, event: Any) -> bool:
    variants = list(_variants("", event))
    there = {path for variant in variants for path in variant}
    return any(
        all(
            (field.path in variant and _holds(field, variant[field.path]))
            if field.path in there
            else field.may_be_missing
            for field in rule
        )
        for rule in parse_pattern(pattern).rules
        for variant in variants
    )


@given(_PATTERNS, _EVENTS)
def test_it_matches_what_a_look_at_every_combination_finds(pattern: Any, event: Any) -> None:
    assert _model(pattern, event) == matches(pattern, event)


@given(st.lists(_PATTERNS, max_size=20), _EVENTS)
def test_many_at_once_match_as_each_alone(patterns: list[Any], event: Any) -> None:
    index = PatternIndex([(n, parse_pattern(one)) for n, one in enumerate(patterns)])
    alone = [n for n, one in enumerate(patterns) if matches(one, event)]
    assert alone == sorted(index.matches(event))


@pytest.mark.parametrize(
    ("wanted", "value", "expected"),
    [
        (lambda n: f"v-{n}", "v-77", [77]),
        (lambda n: {"prefix": f"in/{n}/"}, "in/1321/x", [1321]),
        (lambda n: {"suffix": f"/{n}.csv"}, "x/1321.csv", [1321]),
        (lambda n: {"equals-ignore-case": f"Name-{n}"}, "nAME-7", [7]),
        (lambda n: {"wildcard": f"in/{n}/*.csv"}, "in/9/x.csv", [9]),
        (lambda n: {"wildcard": f"*/{n}.csv"}, "x/9.csv", [9]),
        (lambda n: {"numeric": ["=", n]}, 9.0, [9]),
        (lambda n: {"numeric": [">=", n, "<", n + 1]}, 77.5, [77]),
        (lambda n: {"numeric": [">", n]}, 2, [0, 1]),
        (lambda n: {"numeric": ["<=", n]}, 1_998, [1_998, 1_999]),
        (lambda n: {"cidr": f"10.{n // 250}.{n % 250}.0/24"}, "10.3.7.9", [757]),
    ],
)
def test_what_does_not_match_costs_nothing(wanted: Any, value: Any, expected: list[int]) -> None:
    index = PatternIndex(
        [
            (n, parse_pattern({"data": {"x": [wanted(n)], "y": [{"exists": True}]}}))
            for n in range(2_000)
        ]
    )
    event = {"type": "t", "data": {"x": value, "y": 1, "z": list(range(100))}}
    assert expected == sorted(index.matches(event))
    # A range's ends are left to the test.
    assert len(list(index._candidates(leaves_of(event)))) <= len(expected) + 1


def test_of_several_fields_one_is_enough_to_find_a_pattern() -> None:
    patterns = [
        {"type": [f"t{n}"], "data": {"total": [{"numeric": [">", n]}]}} for n in range(5_000)
    ]
    patterns += [{"data": {"path": [{"prefix": f"in/{n}/"}]}} for n in range(5_000)]
    index = PatternIndex([(n, parse_pattern(one)) for n, one in enumerate(patterns)])
    event = {"type": "t77", "data": {"total": 100, "path": "in/4321/x"}}
    assert [77, 9_321] == sorted(index.matches(event))
    assert len(list(index._candidates(leaves_of(event)))) == 2
