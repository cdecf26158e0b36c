"""A worker's share of a target: what it may do, what it tells, and what lost words lead to."""

from itertools import pairwise
from random import Random

import pytest

from edo_stream.core.act.breaker import BreakerState
from edo_stream.core.act.grants import START_WITHIN_MS, Answer, Request
from edo_stream.core.act.limits import LEASE_MS, Leases, RateLimit
from edo_stream.core.act.share import ALONE_MS, NEVER, Share, Ticket
from tests.act.fleet import Owner, owner_of, share_of, talk


def begun(share: Share, now_ms: int) -> Ticket:
    assert share.wait_ms(now_ms) == 0
    return share.begin(now_ms)


def fail(share: Share, now_ms: int, times: int = 3) -> None:
    for _ in range(times):
        share.end(begun(share, now_ms), True, "http-503", now_ms)


def heard(owner: Owner, *shares: Share) -> None:
    """Everybody knows the state."""
    for share in shares:
        share.wait_ms(0)
    talk(owner, 0, *shares)


def test_nothing_begins_before_an_owner_was_heard_but_not_for_ever() -> None:
    owner, share = owner_of(), share_of("a")
    assert share.wait_ms(0) > 0
    talk(owner, 0, share)
    assert share.wait_ms(0) == 0
    alone = share_of("b")
    assert alone.wait_ms(5) > 0
    assert alone.wait_ms(5 + ALONE_MS - 1) > 0
    assert alone.wait_ms(5 + ALONE_MS) == 0
    limited = share_of("c", RateLimit(10))
    limited.wait_ms(0)
    assert limited.wait_ms(ALONE_MS) == NEVER, "no owner, no tokens"


def test_what_one_worker_sees_stops_it_at_once_and_the_others_soon() -> None:
    owner, a, b = owner_of(), share_of("a"), share_of("b")
    heard(owner, a, b)
    fail(a, 10)
    assert (a.wait_ms(10), b.wait_ms(10)) == (NEVER, 0)
    talk(owner, 10, a, b)
    assert (a.state, b.state) == (BreakerState.OPEN, BreakerState.OPEN)
    assert b.wait_ms(11) == NEVER


def test_failures_of_several_workers_add_up() -> None:
    owner, a, b = owner_of(), share_of("a"), share_of("b")
    heard(owner, a, b)
    fail(a, 10, times=2)
    assert a.next_ms(10) == 30, "failures are told soon"
    talk(owner, 30, a, b)
    fail(b, 40, times=1)
    talk(owner, 60, a, b)
    assert (a.state, b.state) == (BreakerState.OPEN, BreakerState.OPEN)


def test_a_target_that_works_is_hardly_talked_about() -> None:
    owner, share = owner_of(), share_of("a")
    heard(owner, share)
    sent = []
    for now_ms in range(0, 20_000, 10):
        share.end(begun(share, now_ms), False, "", now_ms)
        sent += talk(owner, now_ms, share)
    assert 3 <= len(sent) <= 5


def test_half_open_one_worker_probes_and_success_lets_all_go_on() -> None:
    owner, a, b = owner_of(), share_of("a"), share_of("b")
    heard(owner, a, b)
    fail(a, 10)
    talk(owner, 10, a, b)
    for moment in (110, 120):
        for answer in owner.read(moment):
            a.hear(answer, moment)
            b.hear(answer, moment)
        waits = (a.wait_ms(moment), b.wait_ms(moment))
        assert waits == (NEVER, NEVER)
        talk(owner, moment, a, b)
        may = [share for share in (a, b) if share.wait_ms(moment) == 0]
        assert len(may) == 1
        ticket = may[0].begin(moment)
        assert ticket.probe
        assert may[0].wait_ms(moment) == NEVER, "one probe"
        may[0].end(ticket, False, "", moment)
        talk(owner, moment, a, b)
    assert (a.state, b.state) == (BreakerState.CLOSED, BreakerState.CLOSED)


def test_a_right_that_is_not_used_in_time_is_none_and_goes_back() -> None:
    owner, a, b = owner_of(), share_of("a"), share_of("b")
    heard(owner, a, b)
    fail(a, 10)
    talk(owner, 10, a, b)
    for answer in owner.read(110):
        a.hear(answer, 110)
        b.hear(answer, 110)
    a.wait_ms(110)
    talk(owner, 110, a)
    late_ms = 110 + START_WITHIN_MS + 1
    assert a.next_ms(111) == late_ms
    assert a.wait_ms(late_ms) == NEVER
    a._is_wanted = False
    b.wait_ms(late_ms)
    talk(owner, late_ms, a, b)
    assert b.wait_ms(late_ms) == 0


def half_open(owner: Owner, share: Share) -> None:
    """The target is broken, and may be probed from 110 ms on."""
    heard(owner, share)
    fail(share, 10)
    talk(owner, 10, share)
    (answer,) = owner.read(110)
    share.hear(answer, 110)
    assert share.wait_ms(110) == NEVER


def test_the_time_of_a_right_runs_from_the_question() -> None:
    owner, share = owner_of(), share_of("a")
    half_open(owner, share)
    question = share.request(110)
    assert question is not None
    (answer,) = owner.ask(500, question)
    share.hear(answer, 1_000)
    assert share.wait_ms(110 + START_WITHIN_MS) == 0
    assert share.wait_ms(111 + START_WITHIN_MS) == NEVER


def test_who_still_probes_asks_for_no_other_probe() -> None:
    owner, share = owner_of(), share_of("a")
    half_open(owner, share)
    talk(owner, 110, share)
    ticket = begun(share, 110)
    over_ms = owner.keeper.next_due_ms()
    assert over_ms is not None
    (answer,) = owner.read(over_ms)
    share.hear(answer, over_ms)
    assert share.wait_ms(over_ms) == NEVER
    assert share.request(over_ms) is None
    share.end(ticket, False, "", over_ms)
    talk(owner, over_ms, share)
    assert share.wait_ms(over_ms) == NEVER
    talk(owner, over_ms, share)
    assert share.wait_ms(over_ms) == 0


def test_runs_that_began_before_it_closed_do_not_stop_anybody() -> None:
    owner, share = owner_of(), share_of("a")
    heard(owner, share)
    old = [begun(share, 1) for _ in range(3)]
    share.reset()
    talk(owner, 2, share)
    for ticket in old:
        share.end(ticket, True, "http-503", 3)
    assert share.wait_ms(3) == 0
    assert share.next_ms(3) is None, "nor is it told"


def test_an_operator_s_word_is_repeated_until_it_is_heard() -> None:
    owner, share = owner_of(), share_of("a")
    heard(owner, share)
    fail(share, 10)
    talk(owner, 10, share)
    share.reset()
    assert share.request(20) is not None, "and it gets lost"
    assert share.request(21) is None
    talk(owner, 1_020, share)
    assert share.state is BreakerState.CLOSED


def test_an_answer_to_an_earlier_question_is_void() -> None:
    owner, share = owner_of(RateLimit(10)), share_of("a", RateLimit(10))
    share.wait_ms(0)
    lost = share.request(0)
    again = share.request(1_000)
    assert lost is not None
    assert again is not None
    (late,) = owner.ask(1_001, lost)
    share.hear(late, 1_002)
    assert share.wait_ms(1_003) > 1_000, "no token"
    (answer,) = owner.ask(1_004, again)
    share.hear(answer, 1_005)
    assert share.wait_ms(1_200) == 0


@pytest.mark.parametrize("per_s", [0.5, 10, 500])
def test_one_worker_gets_the_whole_rate(per_s: float) -> None:
    limit = RateLimit(per_s)
    owner, share = owner_of(limit), share_of("a", limit)
    count, seconds = 0, max(10, int(10 / per_s))
    for now_ms in range(0, seconds * 1_000, 2):
        while share.wait_ms(now_ms) == 0:
            share.end(share.begin(now_ms), False, "", now_ms)
            count += 1
        talk(owner, now_ms, share)
    assert 0.95 * per_s * seconds <= count <= per_s * seconds + limit.lease_max + 1


# -- any history


class History:
    """Workers that always want to run, an owner that dies, and words that are late or lost."""

    def __init__(self, seed: int, limit: RateLimit, workers: int, is_calm: bool = False) -> None:
        self.calls: list[int] = []
        self.probes: list[tuple[int, int]] = []
        self.owner = owner_of(limit)
        self.shares = [share_of(f"w{n}", limit) for n in range(workers)]
        self._chance = Random(seed)
        self._is_calm = is_calm
        self._to_owner: list[tuple[int, Request]] = []
        self._to_share: list[tuple[int, Share, Answer]] = []
        self._running: list[tuple[int, Share, Ticket, int]] = []
        self._jump_ms = 0
        self._is_broken = False

    def play(self, lasts_ms: int) -> "History":
        for now_ms in range(0, lasts_ms, 5):
            if not self._is_calm:
                self._hurt(now_ms)
            self._carry(now_ms)
            self._end(now_ms)
            for share in self.shares:
                self._work(share, now_ms)
        return self

    def _hurt(self, now_ms: int) -> None:
        self._is_broken ^= self._chance.random() < (0.02 if self._is_broken else 0.001)
        if self._chance.random() < 0.002:
            # Another machine takes over, whose clock shows anything.
            self._jump_ms = self._chance.choice((-3_600_000, 0, 3_600_000))
            self.owner.begin(f"owner at {now_ms}")

    def _late_ms(self) -> int | None:
        """How long a word takes; ``None`` when it gets lost."""
        if self._is_calm:
            return 30
        return self._chance.choice((1, 5, 30, 30, 900, None)) if self._chance.random() < 0.5 else 5

    def _carry(self, now_ms: int) -> None:
        due = [one for at_ms, one in self._to_owner if at_ms <= now_ms]
        self._to_owner = [one for one in self._to_owner if one[0] > now_ms]
        for answer in self.owner.ask(now_ms + self._jump_ms, *due):
            for share in self.shares:
                late_ms = self._late_ms()
                if late_ms is not None:
                    self._to_share.append((now_ms + late_ms, share, answer))
        for _, share, answer in [one for one in self._to_share if one[0] <= now_ms]:
            share.hear(answer, now_ms)
        self._to_share = [one for one in self._to_share if one[0] > now_ms]

    def _end(self, now_ms: int) -> None:
        for end_ms, share, ticket, begin_ms in [one for one in self._running if one[0] <= now_ms]:
            share.end(ticket, self._is_broken, "t", now_ms)
            self.probes += [(begin_ms, end_ms)] if ticket.probe else []
        self._running = [one for one in self._running if one[0] > now_ms]

    def _work(self, share: Share, now_ms: int) -> None:
        while share.wait_ms(now_ms) == 0:
            self.calls.append(now_ms)
            end_ms = now_ms + self._chance.choice((0, 5, 50))
            self._running.append((end_ms, share, share.begin(now_ms), now_ms))
        said = share.request(now_ms)
        late_ms = self._late_ms()
        if said is not None and late_ms is not None:
            self._to_owner.append((now_ms + late_ms, said))


@pytest.mark.parametrize("seed", range(25))
def test_never_more_than_the_rate_and_a_lease_a_worker_and_one_probe_at_a_time(seed: int) -> None:
    chance = Random(seed)
    limit = RateLimit(chance.choice((2, 20, 100)), chance.choice((1, 5)))
    workers = chance.randrange(1, 5)
    history = History(seed, limit, workers).play(lasts_ms=20_000)
    most = limit.burst + workers * limit.lease_max
    calls = history.calls
    for index, begin_ms in enumerate(calls):
        for count, end_ms in enumerate(calls[index:], start=1):
            assert count <= most + (end_ms - begin_ms) / 1000 * limit.per_s + 1e-6
    for (_, end_ms), (begin_ms, _) in pairwise(sorted(history.probes)):
        assert begin_ms >= end_ms, "two probes at a time"


def test_the_histories_are_about_something() -> None:
    histories = [History(seed, RateLimit(50), 3).play(20_000) for seed in range(10)]
    assert sum(len(history.probes) for history in histories) > 10
    calls = sum(len(history.calls) for history in histories)
    assert calls > 0.2 * 50 * 20 * len(histories), "it does call"


@pytest.mark.parametrize("workers", [1, 3, 10])
def test_workers_together_get_the_whole_rate_over_a_way_that_takes_time(workers: int) -> None:
    history = History(1, RateLimit(50), workers, is_calm=True).play(20_000)
    assert 0.95 * 50 * 20 <= len(history.calls) <= 50 * 20 + 1


def test_tokens_that_were_not_used_in_time_are_lost() -> None:
    tokens = Leases(interval_ms=10)
    tokens.add(3, first_ms=1_000)
    last_ms = 1_020
    assert tokens.held(last_ms + LEASE_MS) == 3
    assert tokens.held(last_ms + LEASE_MS + 1) == 0
    assert tokens.wait_ms(last_ms + LEASE_MS + 1) is None
