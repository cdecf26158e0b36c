"""The measurement of routing holds what it says: so many patterns, of which so many match."""

from load.routing import measure


def test_of_each_kind_one_pattern_matches() -> None:
    rows = {(row["what"], row["patterns"]): row["matching"] for row in measure(100, repeats=1)}
    assert {1} == {
        matching
        for (what, _), matching in rows.items()
        if what in ("a value", "prefix", "suffix", "wildcard", "range of numbers", "cidr")
    }
    assert rows["anything-but, which all match", 100] == 100
    assert rows["an attribute only: no JSON is parsed", 100] == 0
