"""How a stall is measured: from the last move, while something is pending."""

from load.stall import Stall, StallWatch, _Clock


def longest(*looks: tuple[float, bool, int]) -> float:
    clock = _Clock()
    for now_s, is_pending, mark in looks:
        clock.look(is_pending, mark, now_s, 0.0)
    return clock.stall.longest_s


def test_nothing_pending_is_no_stall() -> None:
    assert longest((0, False, 5), (100, False, 5)) == 0


def test_a_stall_lasts_until_the_next_move() -> None:
    assert longest((0, True, 5), (3, True, 5), (7, True, 6), (8, True, 7)) == 7


def test_a_stall_that_has_not_ended_counts() -> None:
    assert longest((0, True, 5), (9, True, 5)) == 9


def test_waiting_counts_from_when_there_was_something_to_do() -> None:
    assert longest((0, False, 5), (50, True, 5), (52, True, 5)) == 2


def test_what_is_done_at_the_next_look_ends_the_stall() -> None:
    assert longest((0, True, 5), (4, False, 9), (60, False, 9)) == 4


def test_moves_keep_a_clock_short() -> None:
    assert longest(*((float(n), True, n) for n in range(60))) == 1


def test_the_longest_is_kept_with_its_time() -> None:
    stall = Stall()
    stall.note(3.0, 10.0)
    stall.note(2.0, 20.0)
    assert (stall.longest_s, stall.ended_s) == (3.0, 10.0)


def test_what_is_left_out_counts_for_nothing_and_the_rest_goes_on() -> None:
    clock = _Clock()
    clock.look(True, 5, 10.0, 0.0)
    clock.leave_out(12.0, 50.0)
    clock.look(True, 6, 53.0, 0.0)
    assert clock.stall.longest_s == 2 + 3


def test_a_stall_that_begins_while_it_is_left_out_begins_behind_it() -> None:
    clock = _Clock()
    clock.look(True, 5, 20.0, 0.0)
    clock.leave_out(12.0, 50.0)
    clock.look(True, 6, 53.0, 0.0)
    assert clock.stall.longest_s == 3


def test_a_watch_tells_the_longest_time_that_it_has_left_out() -> None:
    watch = StallWatch("nowhere:1", "g", "s", "r", 1)
    with watch.without_brokers():
        pass
    assert 0 < watch.without_brokers_s < 60
    assert watch.longest_s == 0
