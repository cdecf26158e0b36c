"""A task that is crashed and told again what it knows, beside one that is not: nothing shows."""

from collections.abc import Iterable
from random import Random
from typing import Any

from edo_stream.core.correlation.spec import Correlation
from edo_stream.core.record import Record
from tests.correlation.bench import Bench


def assert_nothing_shows(
    wanted: Correlation, rounds: Iterable[tuple[int, list[Record], bool]], random: Random
) -> None:
    """Feed both in rounds: the time, the records, and whether all was read by then."""
    smooth, rough = Bench([wanted]), Bench([wanted])
    read: list[Record] = []
    for now_ms, records, is_caught_up in rounds:
        smooth.feed(*records, now_ms=now_ms)
        while records:
            if random.random() < 0.2:
                rough.step(*records, now_ms=now_ms)
                rough.pipeline.discard() if random.random() < 0.5 else rough.open()
            part = [records.pop(0) for _ in range(random.randint(1, len(records)))]
            again = read[-random.randrange(4) :] if read and random.random() < 0.5 else []
            rough.feed(*again, *part, now_ms=now_ms)
            read += part
        if is_caught_up:
            smooth.tick(now_ms)
            if random.random() < 0.3:
                rough.step(now_ms=now_ms, caught_up_ms=now_ms)
                rough.open()
            rough.tick(now_ms)
    assert _published(smooth) == _published(rough)
    assert smooth.fates() == rough.fates()
    assert _rows(smooth) == _rows(rough)


def _published(bench: Bench) -> list[Any]:
    return [each for each in bench.published if each.topic != "edo.accounts"]


def _rows(bench: Bench) -> dict[bytes, bytes]:
    """All that is remembered, but how far the sweep has come."""
    return {row: value for row, value in bench.rows.rows.items() if row != b"o"}
