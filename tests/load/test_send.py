"""The report of a burst; sending itself is tried against a real broker."""

from array import array

from load.plan import plan
from load.profile import Profile
from load.send import _stamped, quantiles


def test_quantiles_of_nothing_are_none() -> None:
    assert quantiles(array("f")) is None


def test_quantiles_are_read_from_the_ranked_values() -> None:
    assert quantiles(array("f", range(100, 0, -1))) == {"p50": 51, "p99": 100, "max": 100}


def test_the_time_of_sending_is_stamped_where_the_plan_has_none() -> None:
    record = next(plan(Profile()))
    assert _stamped(record.headers, b"now") == [*record.headers, ("ce_time", b"now")]


def test_the_time_of_the_plan_is_not_overwritten() -> None:
    record = next(plan(Profile(base_ms=0)))
    assert _stamped(record.headers, b"now") == list(record.headers)
