"""The audit: a world in which all adds up, and what is found when one thing in it is wrong."""

from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest

from edo_stream.core.accounts import Fate
from edo_stream.observe.audit.evidence import Bounds, Closing
from edo_stream.observe.audit.report import Finding, Place, Problem, Tally
from tests.audit.world import (
    EMPTY,
    RESULTS,
    TOPIC,
    World,
    account,
    audited,
    begun,
    closings,
    dead_letter_headers,
    problems,
    result_headers,
    world_of,
)

E, D, H, X, S = Fate.EMITTED, Fate.DUPLICATE, Fate.HELD, Fate.DEAD_LETTERED, Fate.STALE

#: Offsets 10 to 17: 12 is held and emitted later, 14 a transaction marker, 16 still held.
WORLD = world_of([E, D, H, E, None, X, H, S], {12: (1, E)}, batch_size=4, first=10)


def test_a_consistent_world_has_no_findings() -> None:
    assert problems(WORLD) == {}


def test_every_record_is_counted_under_what_became_of_it() -> None:
    tally = audited(WORLD).tallies[TOPIC]
    assert tally == Tally(emitted=3, duplicate=1, held=1, skipped=1, dead_lettered=1)
    assert tally.records == len(WORLD.records)


def test_records_beyond_the_committed_offset_are_pending() -> None:
    world = replace(WORLD, records=[*WORLD.records, 18, 19], bounds=Bounds(10, 18, 20))
    assert audited(world).tallies[TOPIC].pending == 2
    assert problems(world) == {}


def test_what_lies_beyond_the_committed_offset_is_not_judged() -> None:
    world = replace(
        WORLD,
        accounts=[*WORLD.accounts, account((18, 1, E))],
        results=[*WORLD.results, 18],
        records=[*WORLD.records, 18],
        bounds=Bounds(10, 18, 19),
    )
    assert problems(world) == {}


def test_a_group_that_never_read_has_everything_pending() -> None:
    world = World([10, 11], [], [], [], Bounds(10, None, 12))
    report = audited(world)
    assert (report.is_clean, report.tallies[TOPIC]) == (True, Tally(pending=2))


def without(world: World, index: int) -> World:
    return replace(world, accounts=[*world.accounts[:index], *world.accounts[index + 1 :]])


WRONG: dict[str, tuple[Callable[[World], World], dict[Problem, int]]] = {
    "a lost account leaves its records unaccounted": (
        lambda world: without(world, 2),
        # 15 and 17 to be found, 16 held by it, 12 settled by it.
        {
            Problem.UNACCOUNTED: 3,
            Problem.UNEXPECTED_RESULT: 1,
            Problem.UNEXPECTED_DEAD_LETTER: 1,
        },
    ),
    "an account written twice": (
        lambda world: replace(world, accounts=[*world.accounts, world.accounts[1]]),
        {Problem.ACCOUNTED_TWICE: 4},
    ),
    "overlapping runs": (
        lambda world: replace(world, accounts=[*world.accounts, account((13, 1, E))]),
        {Problem.ACCOUNTED_TWICE: 1},
    ),
    "an account of a marker": (
        lambda world: replace(world, accounts=[*world.accounts, account((14, 1, D))]),
        {Problem.NO_RECORD: 1},
    ),
    "a record settled that was not held": (
        lambda world: replace(world, accounts=[*world.accounts, account(settled=[(11, 1, S)])]),
        {Problem.SETTLED_NOT_HELD: 1},
    ),
    "a record settled before it was held": (
        lambda world: replace(
            world, accounts=[world.accounts[0], world.accounts[2], world.accounts[1]]
        ),
        {Problem.SETTLED_NOT_HELD: 1},
    ),
    "a record settled twice": (
        lambda world: replace(world, accounts=[*world.accounts, account(settled=[(12, 1, E)])]),
        {Problem.SETTLED_TWICE: 1},
    ),
    "a record settled as held": (
        lambda world: replace(world, accounts=[*world.accounts, account(settled=[(16, 1, H)])]),
        {Problem.UNKNOWN_FATE: 1},
    ),
    "a missing result": (
        lambda world: replace(world, results=world.results[1:]),
        {Problem.MISSING_RESULT: 1},
    ),
    "a repeated result": (
        lambda world: replace(world, results=[*world.results, 10]),
        {Problem.REPEATED_RESULT: 1},
    ),
    "a result of a duplicate": (
        lambda world: replace(world, results=[*world.results, 11]),
        {Problem.UNEXPECTED_RESULT: 1},
    ),
    "a result of a held record": (
        lambda world: replace(world, results=[*world.results, 16]),
        {Problem.UNEXPECTED_RESULT: 1},
    ),
    "a result of a marker": (
        lambda world: replace(world, results=[*world.results, 14]),
        {Problem.UNEXPECTED_RESULT: 1},
    ),
    "a result of a record that was never written": (
        lambda world: replace(world, results=[*world.results, 99]),
        {Problem.UNEXPLAINED: 1},
    ),
    "a missing dead letter": (
        lambda world: replace(world, dead_letters=[]),
        {Problem.MISSING_DEAD_LETTER: 1},
    ),
    "a repeated dead letter": (
        lambda world: replace(world, dead_letters=[15, 15]),
        {Problem.REPEATED_DEAD_LETTER: 1},
    ),
    "a dead letter of an emitted record": (
        lambda world: replace(world, dead_letters=[15, 10]),
        {Problem.UNEXPECTED_DEAD_LETTER: 1},
    ),
    "a dead letter of a record that was never written": (
        lambda world: replace(world, dead_letters=[15, 99]),
        {Problem.UNEXPLAINED: 1},
    ),
    "an offset committed beyond the accounts": (
        lambda world: replace(world, records=[*world.records, 18, 19], bounds=Bounds(10, 20, 20)),
        {Problem.UNACCOUNTED: 2},
    ),
    "an offset committed beyond the log": (
        lambda world: replace(world, bounds=Bounds(10, 19, 18)),
        {Problem.BEYOND_THE_LOG: 1},
    ),
    "accounts of a group without an offset": (
        lambda world: replace(world, results=[], dead_letters=[], bounds=Bounds(10, None, 18)),
        {Problem.NO_COMMITTED_OFFSET: 1},
    ),
    "no account of the start": (
        lambda world: without(world, 0),
        {Problem.NO_START: 1},
    ),
    "a start that comes twice": (
        lambda world: replace(world, accounts=[*world.accounts, *world.accounts]),
        {Problem.STARTED_ANEW: 1},
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_found_and_nothing_else(name: str) -> None:
    make_wrong, expected = WRONG[name]
    assert problems(make_wrong(WORLD)) == expected


def test_a_start_that_a_task_wants_again_is_nothing_wrong() -> None:
    again = [msgspec.structs.replace(WORLD.accounts[0], is_anew=True), *WORLD.accounts[1:]]
    world = replace(WORLD, accounts=[*WORLD.accounts, *again])
    assert problems(world) == {}
    # The accounts of the first reading may be gone by now.
    assert problems(replace(WORLD, accounts=again)) == {}


def test_an_unknown_fate_is_found() -> None:
    odd = msgspec.structs.replace(
        EMPTY, runs=(msgspec.structs.replace(account((18, 1, E)).runs[0], fate="?"),)
    )
    world = replace(
        WORLD,
        accounts=[*WORLD.accounts, odd],
        records=[*WORLD.records, 18],
        bounds=Bounds(10, 19, 19),
    )
    assert problems(world) == {Problem.UNKNOWN_FATE: 1, Problem.UNACCOUNTED: 1}


def test_an_account_that_cannot_be_read_is_found() -> None:
    audit = begun(WORLD)
    audit.account(b"{", Place("accounts", 0, 9), is_firm=True)
    finding = Finding(Problem.UNREADABLE_ACCOUNT, "accounts", 0, 9)
    assert audit.conclude(closings(WORLD), True).findings == (finding,)


def test_a_group_that_committed_only_during_the_audit_is_no_finding() -> None:
    world = replace(WORLD, bounds=Bounds(10, None, 18))
    report = begun(world).conclude({(TOPIC, 0): Closing(10, True)}, True)
    assert (report.is_clean, report.tallies[TOPIC].pending) == (True, len(WORLD.records))


def test_a_result_of_ours_without_a_position_is_found() -> None:
    audit = begun(WORLD)
    audit.result([("ce_source", b"/edo/app")], Place(RESULTS, 0, 9))
    assert audit.conclude(closings(WORLD), True).findings == (
        Finding(Problem.UNEXPLAINED, RESULTS, 0, 9),
    )


def test_a_result_of_a_partition_that_the_source_does_not_have_is_found() -> None:
    audit = begun(WORLD)
    headers = [("ce_source", b"/edo/app"), ("ce_edoposition", f"{TOPIC}/7/0".encode())]
    audit.result(headers, Place(RESULTS, 0, 9))
    assert dict(audit.conclude(closings(WORLD), True).counts) == {Problem.UNEXPLAINED: 1}


def test_what_another_application_wrote_is_foreign_and_no_finding() -> None:
    audit = begun(WORLD)
    audit.result(result_headers(10, app="other"), Place(RESULTS, 0, 9))
    audit.dead_letter(dead_letter_headers(10, app="other"), Place(RESULTS, 0, 9))
    audit.result(result_headers(10, topic="not.audited"), Place(RESULTS, 0, 9))
    report = audit.conclude(closings(WORLD), True)
    assert (report.is_clean, report.foreign) == (True, 3)


def test_accounts_of_another_application_are_left_out() -> None:
    other = msgspec.structs.replace(account((10, 5, E)), app="other")
    assert problems(replace(WORLD, accounts=[*WORLD.accounts, other])) == {}


def test_a_dead_letter_that_failed_before_is_read_by_its_last_headers() -> None:
    world = replace(WORLD, more_headers=dead_letter_headers(3))
    assert problems(world) == {}


def test_neighbours_with_the_same_problem_make_one_finding() -> None:
    world = replace(WORLD, records=[*WORLD.records, 18, 19], bounds=Bounds(10, 20, 20))
    assert audited(world).findings == (Finding(Problem.UNACCOUNTED, TOPIC, 0, 18, 2),)


def test_a_finding_says_where_and_what() -> None:
    finding = Finding(Problem.MISSING_RESULT, TOPIC, 3, 18, 2)
    expected = "orders.order.placed-3@18 to 19: emitted by its account, but there is no result"
    assert str(finding) == expected


def test_of_many_findings_the_first_are_kept_and_all_are_counted() -> None:
    world = replace(WORLD, results=[], findings_max=1)
    report = audited(world)
    assert (len(report.findings), sum(report.counts.values())) == (1, 3)


def test_a_settlement_whose_result_may_not_have_been_read_asks_for_none() -> None:
    settled = account(settled=[(16, 1, E)])
    assert problems(replace(WORLD, tentative=[settled])) == {}


def test_a_settlement_whose_result_may_have_been_read_explains_it() -> None:
    settled = account(settled=[(16, 1, E)])
    world = replace(WORLD, tentative=[settled], results=[*WORLD.results, 16])
    assert problems(world) == {}


def test_records_before_the_start_are_not_counted() -> None:
    world = replace(WORLD, records=[7, 8, 9, *WORLD.records], bounds=Bounds(7, 18, 18))
    report = audited(world)
    assert (report.is_clean, report.tallies[TOPIC].records) == (True, len(WORLD.records))


def test_what_was_deleted_before_it_was_read_is_counted_as_lost() -> None:
    lost = account(lost=(18, 30))
    world = replace(
        WORLD,
        accounts=[*WORLD.accounts, lost, account((30, 2, D))],
        records=[*WORLD.records, 30, 31],
        bounds=Bounds(10, 32, 32),
    )
    report = audited(world)
    assert (report.is_clean, report.tallies[TOPIC].lost) == (True, 12)


def test_what_retention_has_deleted_from_the_source_is_not_auditable() -> None:
    world = replace(WORLD, records=[15, 16, 17], bounds=Bounds(15, 18, 18))
    report = audited(world)
    # Of 10 to 14 the accounts tell of four records.
    assert (report.is_clean, report.tallies[TOPIC].not_auditable) == (True, 4)


def test_what_retention_deletes_during_the_audit_is_not_auditable() -> None:
    world = replace(WORLD, records=[15, 16, 17])
    report = begun(world).conclude({(TOPIC, 0): Closing(15, True)}, True)
    assert report.is_clean


def test_records_whose_accounts_were_deleted_are_not_auditable() -> None:
    world = replace(without(without(WORLD, 0), 0), has_all_accounts=False)
    report = audited(world)
    assert (report.is_clean, report.tallies[TOPIC].not_auditable) == (True, 4)


def test_results_that_retention_may_have_deleted_are_not_missed() -> None:
    # Left are those of the second batch: 12, which was settled in it.
    world = replace(WORLD, results=[12], results_begin_with=[12])
    report = audited(world)
    assert (report.is_clean, report.tallies[TOPIC].not_auditable) == (True, 2)


def test_without_any_result_left_none_is_missed() -> None:
    assert problems(replace(WORLD, results=[], results_begin_with=[None])) == {}


def test_a_result_missing_behind_the_deleted_ones_is_found() -> None:
    # The first batch's results are there, so that of the second is not deleted.
    world = replace(WORLD, results=[10, 13], results_begin_with=[10])
    assert problems(world) == {Problem.MISSING_RESULT: 1}
