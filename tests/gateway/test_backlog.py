"""Requests that come later, because the workers are too far behind with what came before."""

from pathlib import Path

import pytest

from edo_stream.gateway.backlog import Backlog, Bound, Depth
from edo_stream.gateway.config import read_config
from edo_stream.registry.finding import RegistryError
from tests.gateway.place import ENVIRON, SOURCES, Answer, Place, at_place


class Seen(Backlog):
    """A backlog whose depths are said, not looked at."""

    def __init__(self, bound: Bound, depth: Depth | None) -> None:
        self._bounds = {"limited": bound}
        self._depths = {} if depth is None else {"limited": depth}


def bound(lag_max: int | None = None, age_max_ms: int | None = None) -> Bound:
    return Bound(("shop.limited.sent",), lag_max, age_max_ms, retry_s=7)


def answer(tmp_path: Path, backlog: Seen, path: str = "/limited") -> tuple[Answer, str]:
    async def use(place: Place) -> tuple[Answer, str]:
        place.gateway.heed(backlog)
        found = await place.post(path, b'{"id":"1"}', authorization="", x_api_key="t0ken")
        page = place.gateway.page(b"/metrics")
        assert page is not None
        return found, page[1].decode()

    return at_place(tmp_path, use)


@pytest.mark.parametrize(
    ("limits", "depth", "status"),
    [
        (bound(lag_max=10), Depth(10, 0), 202),
        (bound(lag_max=10), Depth(11, 0), 429),
        (bound(age_max_ms=1_000), Depth(99, 1_000), 202),
        (bound(age_max_ms=1_000), Depth(1, 1_001), 429),
        (bound(lag_max=10, age_max_ms=1_000), Depth(1, 1_001), 429),
        (bound(lag_max=10), None, 202),
    ],
)
def test_a_source_is_told_to_wait_while_its_workers_are_too_far_behind(
    tmp_path: Path, limits: Bound, depth: Depth | None, status: int
) -> None:
    found, metrics = answer(tmp_path, Seen(limits, depth))
    assert status == found.status
    if status == 429:
        assert ("backlog", "7") == (found.cause, found.headers["retry-after"])
    name = 'edo_gateway_backlog_records{source="limited"}'
    shown = name if depth is None else f"{name} {depth.lag}.0"
    assert (depth is not None) is (shown in metrics)


def test_another_source_is_not_held_back(tmp_path: Path) -> None:
    found, _ = answer(tmp_path, Seen(bound(lag_max=10), Depth(11, 0)), "/form")
    assert "backlog" not in found.body.decode()


def mistakes(tmp_path: Path, line: str) -> str:
    file = tmp_path / "gateway.yaml"
    file.write_text(
        SOURCES.replace("    rate: 1/m\n", f"    rate: 1/m\n    backpressure: {line}\n")
    )
    with pytest.raises(RegistryError) as raised:
        read_config(file, ENVIRON)
    return str(raised.value)


def test_a_bound_is_needed_and_is_a_number(tmp_path: Path) -> None:
    assert "backpressure needs lag or age" in mistakes(tmp_path, "{retry_after: 5s}")
    assert "lag" in mistakes(tmp_path, "{lag: 0}")
    assert "age" in mistakes(tmp_path, "{age: 5}")
