"""The bench of flows: what is sent, how it is judged, and what the table says."""

from pathlib import Path

from load.bench.flows import (
    BARE,
    BEGIN,
    END,
    Run,
    as_markdown,
    differing,
    in_groups,
    two_types,
    write_page,
)
from load.bench.records import profile_of, records_of


def run(variant: str, cpu_us: float, turn: int = 0, wrong: int = 0) -> Run:
    return Run(variant, turn, 2 * cpu_us, cpu_us, 1.0, 0.0, wrong)


def test_types_take_turns_by_number_and_each_event_names_its_customer() -> None:
    sent = list(two_types(records_of(profile_of(2_000))))

    kinds = {(one.number or 0) % 2: dict(one.headers)["ce_type"] for one in sent}
    assert {1: b"bench.order", 0: b"bench.payment"} == kinds
    assert all(one.value.startswith(b'{"customer":"c-%b","account"' % one.key) for one in sent)
    times = {(one.key, one.number): dict(one.headers)["ce_time"] for one in sent}
    assert sorted(times) == sorted(times, key=lambda place: (place[0], times[place]))


def test_events_are_put_together_as_they_come() -> None:
    assert [["a", "b"], ["c", "d"]] == in_groups(["a", "b", "c", "d", "e"], 2)
    assert [] == in_groups(["a"], 2)


def test_what_is_missing_repeated_or_out_of_order_is_counted() -> None:
    wanted = {b"a": [1, 2, 3], b"b": [4]}

    assert 0 == differing(wanted, {b"a": [1, 2, 3], b"b": [4]})
    assert 2 == differing(wanted, {b"a": [2, 1, 3], b"b": [4]})
    assert 1 == differing(wanted, {b"a": [1, 2, 3, 3], b"b": [4]})
    assert 1 == differing(wanted, {b"a": [1, 2, 3]})
    assert 1 == differing(wanted, {**wanted, b"c": [5]})


def test_ratios_are_of_the_same_round() -> None:
    runs = [run(BARE, 10.0), run("commands", 20.0), run(BARE, 30.0, 1), run("commands", 40.0, 1)]

    (told,) = [
        line for line in as_markdown(runs).splitlines() if "commands" in line or "`on" in line
    ]
    assert "0.62 (0.50 to 0.75)" in told
    assert told.endswith("| 0.7 | yes |")


def test_a_run_that_is_wrong_is_told() -> None:
    assert "| NO |" in as_markdown([run(BARE, 10.0, wrong=1)])


def test_the_table_goes_between_its_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")

    write_page(page, "new\n")

    assert f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n" == page.read_text()
