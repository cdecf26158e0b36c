"""The owner of a target: what it grants, when it opens, and what its successor knows."""

from edo_stream.core.act.breaker import BreakerState
from edo_stream.core.act.grants import START_WITHIN_MS
from edo_stream.core.act.limits import RateLimit
from tests.act.fleet import IDENTITY, owner_of, request


def test_tokens_are_reserved_one_after_the_other_over_all_workers() -> None:
    owner = owner_of(RateLimit(10))
    (answer,) = owner.ask(1_000, request("a", 1, tokens=2), request("b", 1, tokens=1))
    first, second = answer.grants
    assert (first.worker, first.tokens, first.after_ms) == ("a", 2, 0)
    assert (second.worker, second.tokens, second.after_ms) == ("b", 1, 200)
    assert answer.heard == {"a": 1, "b": 1}


def test_a_lease_is_shared_by_the_workers_that_ask() -> None:
    owner = owner_of(RateLimit(10))
    (alone,) = owner.ask(0, request("a", 1, tokens=100))
    (both,) = owner.ask(10, request("b", 1, tokens=100))
    (later,) = owner.ask(10_000, request("b", 2, tokens=100))
    tokens = [grant.tokens for answer in (alone, both, later) for grant in answer.grants]
    assert tokens == [4, 2, 4]


def test_of_questions_of_a_worker_only_the_last_is_answered() -> None:
    owner = owner_of(RateLimit(10))
    (answer,) = owner.ask(0, *(request("a", number, tokens=1) for number in (1, 2, 3, 2)))
    assert [(grant.number, grant.tokens) for grant in answer.grants] == [(3, 1)]
    assert owner.ask(0, request("a", 3, tokens=1)) == [], "it was answered"


def test_a_new_owner_begins_where_the_last_one_can_have_been() -> None:
    owner = owner_of(RateLimit(10))
    owner.ask(0, request("a", 1, tokens=4))
    owner.begin("other")
    assert owner.keeper.next_due_ms() == 0
    # Its clock is an hour behind.
    (told,) = owner.read(-3_600_000)
    assert told.owner == "other"
    (answer,) = owner.ask(-3_600_000, request("a", 2, tokens=1))
    assert answer.grants[0].after_ms == 400


def test_reports_of_several_workers_open_it_and_all_are_told() -> None:
    owner = owner_of()
    assert owner.ask(0, request("a", 1, runs="xx", error="http-503"))[0].epoch == 1
    (answer,) = owner.ask(10, request("b", 1, runs="x", error="http-503"))
    assert (answer.state, answer.open_for_ms, answer.epoch) == (BreakerState.OPEN, 100, 2)
    assert owner.keeper.next_due_ms() == 110
    owner.ask(20, request("b", 2, runs="..."))
    (half_open,) = owner.read(110)
    assert (half_open.state, half_open.is_probing) == (BreakerState.HALF_OPEN, False)


def test_runs_of_an_earlier_epoch_say_nothing() -> None:
    owner = owner_of()
    owner.ask(0, request("a", 1, reset=True))
    (answer,) = owner.ask(10, request("b", 1, runs="xxxx", trip="its own view"))
    assert (answer.epoch, answer.state) == (2, BreakerState.CLOSED), "it is told what it missed"


def test_one_probe_at_a_time_and_the_next_one_after_its_end() -> None:
    owner = owner_of()
    owner.ask(0, request("a", 1, trip="broken"))
    owner.read(100)
    (answer,) = owner.ask(
        101, request("a", 2, epoch=3, probe_ms=50), request("b", 1, epoch=3, probe_ms=50)
    )
    (grant,) = answer.grants
    assert (grant.worker, grant.is_probe, answer.is_probing) == ("a", True, True)
    (refused,) = owner.ask(102, request("b", 2, epoch=3, probe_ms=50))
    assert refused.grants == ()
    owner.ask(103, request("a", 3, epoch=3, probe=2, probe_end="."))
    (granted,) = owner.ask(104, request("b", 3, epoch=3, probe_ms=50))
    assert granted.grants[0].worker == "b"
    (closed,) = owner.ask(105, request("b", 4, epoch=3, probe=3, probe_end="."))
    assert closed.state is BreakerState.CLOSED


def test_who_asks_for_a_probe_again_has_not_taken_the_last_one() -> None:
    owner = owner_of()
    owner.ask(0, request("a", 1, trip="broken"))
    owner.read(100)
    owner.ask(101, request("a", 2, epoch=3, probe_ms=50))
    (answer,) = owner.ask(1_200, request("a", 3, epoch=3, probe_ms=50))
    assert [(grant.number, grant.is_probe) for grant in answer.grants] == [(3, True)]


def test_a_probe_of_a_worker_that_is_gone_is_over_when_it_must_be_for_a_new_owner_too() -> None:
    owner = owner_of()
    owner.ask(0, request("a", 1, trip="broken"))
    owner.read(100)
    owner.ask(100, request("a", 2, epoch=3, probe_ms=50))
    assert owner.keeper.next_due_ms() == 100 + START_WITHIN_MS + 50 + 1_000
    owner.begin("other")
    owner.read(5_000)
    assert owner.ask(5_001, request("b", 1, epoch=3, probe_ms=50))[0].grants == ()
    over_ms = 5_000 + START_WITHIN_MS + 50 + 1_000
    assert owner.keeper.next_due_ms() == over_ms
    assert owner.read(over_ms)[0].is_probing is False
    assert owner.ask(over_ms, request("b", 2, epoch=3, probe_ms=50))[0].grants[0].worker == "b"


def test_an_open_breaker_stays_open_under_a_new_owner_and_not_for_longer_than_it_should() -> None:
    owner = owner_of()
    owner.ask(50_000, request("a", 1, trip="broken"))
    owner.begin("other")
    (told,) = owner.read(-1_000)
    assert (told.state, told.open_for_ms, told.epoch) == (BreakerState.OPEN, 100, 2)


def test_an_operator_closes_it_whatever_it_is() -> None:
    owner = owner_of()
    owner.ask(0, request("a", 1, trip="broken"))
    (answer,) = owner.ask(1, request("b", 1, reset=True))
    assert (answer.state, answer.epoch) == (BreakerState.CLOSED, 3)


def test_what_is_no_request_or_of_another_application_is_passed_over() -> None:
    owner = owner_of()
    stranger = request("a", 1, trip="broken")
    answers = owner.read(0, b"{", b"", b"[1]")
    assert answers == []
    foreign = type(stranger)("other-app", "a", "t", 1, trip="broken", epoch=1)
    assert owner.ask(0, foreign) == []
    assert owner.keeper.positions() == {"edo.control.edo.targets": 4}


def test_a_target_of_a_newer_worker_has_the_rate_that_it_tells() -> None:
    owner = owner_of()
    stranger = type(request("a", 1))("app", "a", "new", 1, epoch=1, tokens=2, per_s=2.0, burst=1)
    (first,) = owner.ask(0, stranger)
    again = type(stranger)("app", "b", "new", 1, epoch=1, tokens=1, per_s=2.0, burst=1)
    (second,) = owner.ask(0, again)
    assert (first.target, first.grants[0].tokens) == ("new", 1)
    assert second.grants[0].after_ms == 500


def test_each_step_that_reads_has_an_account() -> None:
    owner = owner_of()
    effects = owner.keeper.start("edo.control.edo.targets", 0, 0)
    assert [account.group for account in effects.accounts] == [IDENTITY.group]
