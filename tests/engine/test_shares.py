"""Shares are even and complete, stay where the state is, and go where it is warm."""

from hypothesis import given, settings
from hypothesis import strategies as st

from edo_stream.engine.shares import Claim, Share, deal


def claim(works_on: str = "", stands_by: str = "", has_disk: str = "") -> Claim:
    numbers = (frozenset(map(int, text.split())) for text in (works_on, stands_by, has_disk))
    return Claim(*numbers)


def as_claims(shares: dict[str, Share]) -> dict[str, Claim]:
    return {
        name: Claim(frozenset(share.works_on), frozenset(share.stands_by))
        for name, share in shares.items()
    }


def work(shares: dict[str, Share]) -> dict[str, set[int]]:
    return {name: share.works_on for name, share in shares.items()}


def stand_by(shares: dict[str, Share]) -> dict[str, set[int]]:
    return {name: share.stands_by for name, share in shares.items()}


#: However slow the machine is.
_calmly = settings(max_examples=100, deadline=None)
_numbers = st.frozensets(st.integers(0, 12), max_size=8)
_claims = st.dictionaries(
    st.sampled_from("abcdefg"), st.builds(Claim, _numbers, _numbers, _numbers), min_size=1
)


@_calmly
@given(_claims, st.integers(0, 12), st.integers(0, 3))
def test_every_partition_has_one_worker_and_its_standbys_elsewhere(
    claims: dict[str, Claim], partitions: int, standbys: int
) -> None:
    shares = deal(claims, partitions, standbys)
    assert set(shares) == set(claims)
    for partition in range(partitions):
        workers = [name for name, share in shares.items() if partition in share.works_on]
        others = [name for name, share in shares.items() if partition in share.stands_by]
        assert len(workers) == 1
        assert len(others) == min(standbys, len(claims) - 1)
        assert not set(workers) & set(others)
    sizes = [len(share.works_on) for share in shares.values()]
    assert sum(sizes) == partitions
    assert max(sizes) - min(sizes) <= 1


@_calmly
@given(_claims, st.integers(0, 12), st.integers(0, 3))
def test_a_rebalance_for_nothing_moves_nothing(
    claims: dict[str, Claim], partitions: int, standbys: int
) -> None:
    first = deal(claims, partitions, standbys)
    assert deal(as_claims(first), partitions, standbys) == first


@_calmly
@given(_claims, st.integers(0, 12), st.integers(0, 3))
def test_a_worker_that_leaves_moves_nothing_of_the_others(
    claims: dict[str, Claim], partitions: int, standbys: int
) -> None:
    before = as_claims(deal(claims, partitions, standbys))
    gone = min(before)
    left = {name: one for name, one in before.items() if name != gone}
    if left:
        after = deal(left, partitions, standbys)
        assert all(one.works_on <= after[name].works_on for name, one in left.items())


@_calmly
@given(st.integers(2, 6), st.integers(1, 12), st.integers(1, 3))
def test_what_a_worker_leaves_behind_is_taken_over_by_its_standbys_where_there_is_room(
    workers: int, partitions: int, standbys: int
) -> None:
    names = [f"w{number}" for number in range(workers)]
    before = as_claims(deal({name: Claim() for name in names}, partitions, standbys))
    left = {name: one for name, one in before.items() if name != "w0"}
    after = deal(left, partitions, standbys)
    even = partitions // len(left)
    for partition in before["w0"].works_on:
        warm = [name for name, one in left.items() if partition in one.stands_by]
        taker = next(name for name, share in after.items() if partition in share.works_on)
        assert taker in warm or all(len(after[name].works_on) >= even for name in warm)


def test_a_new_worker_gets_its_share_with_standbys_too() -> None:
    shares = deal({"a": claim("0 1"), "b": claim("2 3"), "c": claim()}, 4, 1)
    assert sorted(len(share.works_on) for share in shares.values()) == [1, 1, 2]


def test_a_worker_that_comes_back_gets_what_it_has_disks_of() -> None:
    shares = deal({"a": claim("0 1 2 3"), "b": claim(has_disk="0 2")}, 4, 0)
    assert work(shares) == {"a": {1, 3}, "b": {0, 2}}


def test_a_standby_is_nearer_than_a_disk() -> None:
    claims = {"a": claim("1 2"), "b": claim("3", stands_by="0"), "c": claim("4", has_disk="0")}
    assert work(deal(claims, 5, 1))["b"] == {0, 3}


def test_who_has_worked_on_a_partition_stands_by_for_it() -> None:
    shares = deal({"a": claim("0 1"), "b": claim(stands_by="0 1"), "c": claim()}, 2, 1)
    moved = (work(shares)["b"] or work(shares)["c"]).copy()
    assert len(moved) == 1
    assert moved <= stand_by(shares)["a"]


def test_standbys_of_one_worker_are_spread_over_the_others() -> None:
    shares = deal({"a": claim("0 1"), "b": claim("2 3"), "c": claim("4 5")}, 6, 1)
    assert [len(share.stands_by & {0, 1}) for share in shares.values()] == [0, 1, 1]


def test_of_two_who_claim_a_partition_one_has_it() -> None:
    shares = deal({"a": claim("0 1 2"), "b": claim("0")}, 3, 0)
    assert work(shares) == {"a": {1, 2}, "b": {0}}


def test_who_has_least_of_other_topics_gets_what_is_over() -> None:
    claims = {name: Claim() for name in "abc"}
    assert work(deal(claims, 1, 0, {"a": 2, "b": 1, "c": 2}))["b"] == {0}
    assert len(work(deal(claims, 4, 0, {"a": 2, "b": 2}))["c"]) == 2
    # But nothing moves for it.
    kept = {"a": claim("0"), "b": claim(), "c": claim()}
    assert work(deal(kept, 1, 0, {"a": 9}))["a"] == {0}
