"""When a rule of the proxy fires: it counts the calls that it sees, and says so."""

import random
from collections.abc import Callable

import pytest

from load.proxy.rules import Api, Code, Kind, Rule


def rule(api: Api = Api.PRODUCE, client_id: str | None = None) -> Rule:
    return Rule(api, client_id, random.Random(1))


def fired(rule: Rule, calls: int, api: Api = Api.PRODUCE, client_id: str = "c") -> list[int]:
    """The numbers of the calls, from 1, that the rule harmed."""
    return [n for n in range(1, calls + 1) if rule.decide(api, client_id) is not None]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (lambda one: one.once(), [1]),
        (lambda one: one.times(3), [1, 2, 3]),
        (lambda one: one.on_call(4), [4]),
        (lambda one: one, [1, 2, 3, 4, 5]),
    ],
    ids=["once", "times", "on_call", "always"],
)
def test_a_mode_says_which_calls_are_harmed(
    mode: Callable[[Rule], Rule], expected: list[int]
) -> None:
    one = mode(rule().disconnect_before())
    assert fired(one, 5) == expected
    assert one.times_triggered == len(expected)
    assert one.calls == 5


def test_chance_harms_about_its_share_of_the_calls() -> None:
    one = rule().disconnect_before().with_probability(0.25)
    assert 200 < len(fired(one, 1_000)) < 300


def test_chance_and_a_number_of_calls_go_together() -> None:
    one = rule().disconnect_before().with_probability(0.5).times(10)
    assert max(fired(one, 1_000)) <= 10


def test_other_apis_are_left_alone_and_not_counted() -> None:
    one = rule().disconnect_before()
    assert fired(one, 5, api=Api.FETCH) == []
    assert one.calls == 0


def test_other_clients_are_left_alone_and_not_counted() -> None:
    one = rule(client_id="orders").disconnect_before()
    assert fired(one, 3, client_id="other") == []
    assert fired(one, 3, client_id="edo.orders.1") == [1, 2, 3]


def test_a_rule_that_is_off_harms_nothing() -> None:
    one = rule().disconnect_before()
    one.off()
    assert fired(one, 3) == []


def test_a_rule_without_a_harm_lets_everything_pass() -> None:
    assert fired(rule(), 3) == []


def test_a_harm_is_named_with_its_error() -> None:
    one = rule().error(Code.NOT_COORDINATOR)
    assert one.name == "PRODUCE error instead of the call: NOT_COORDINATOR"
    assert one.harm is not None
    assert one.harm.kind is Kind.ERROR


def test_a_rule_has_one_harm() -> None:
    with pytest.raises(AssertionError, match="one harm"):
        rule().disconnect_before().black_hole()
