"""When a worker says that it is alive, and when that it is ready."""

import msgspec
import pytest

from edo_stream.observe.health import (
    health_page,
    ready_page,
    status_page,
    stuck_reasons,
    unready_reasons,
)
from edo_stream.views import Phase, TableView
from tests.observe.look import task, worker


def test_an_idle_worker_is_alive_however_long_it_has_nothing_to_do() -> None:
    assert stuck_reasons(worker(task(still_ms=3_600_000))) == []


def test_a_task_with_work_that_does_not_get_on_is_stuck() -> None:
    (reason,) = stuck_reasons(worker(task(has_work=True, still_ms=31_000)))
    assert reason == "task g-0 has work and has not got on for 31 s"
    assert stuck_reasons(worker(task(has_work=True, still_ms=30_000))) == []


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.RUNNING])
def test_a_task_that_waits_restores_or_has_stopped_is_not_stuck(phase: Phase) -> None:
    assert stuck_reasons(worker(task(phase=phase, has_work=True, still_ms=3_600_000))) == []


def test_a_consumer_that_is_not_asked_any_more_is_stuck() -> None:
    assert stuck_reasons(worker(fetched_ms_ago=31_000)) == ["no records were asked for in 31 s"]
    assert stuck_reasons(worker(fetched_ms_ago=None)) == []


def test_a_worker_is_ready_when_all_its_tasks_run_even_if_it_has_none() -> None:
    assert unready_reasons(worker(task(), task(partition=1))) == []
    assert unready_reasons(worker()) == []


def test_a_worker_is_not_ready_before_it_knows_its_partitions() -> None:
    assert len(unready_reasons(worker(is_assigned=False))) == 1


def test_what_is_not_ready_is_named_with_its_phase_or_its_refusal() -> None:
    refused = task(partition=1, phase=Phase.REFUSED, refusal="offsets 3 to 4 were deleted")
    assert unready_reasons(worker(task(phase=Phase.RESTORING), refused, task(partition=2))) == [
        "task g-0 is restoring",
        "task g-1 has stopped: offsets 3 to 4 were deleted",
    ]


def test_a_worker_is_not_ready_before_its_global_tables_are_read() -> None:
    tables = (
        TableView("t.read", True, 9, 0, 100, 200),
        TableView("t.new", False, 3, 5, 100, 200),
        TableView("t.unknown", False, 0, None, 100, 200),
    )
    assert unready_reasons(worker(task(), tables=tables)) == [
        "global table t.new is being read: 5 offsets to go",
        "global table t.unknown is being read: an unknown number of offsets to go",
    ]


def test_pages_answer_200_or_503_with_reasons() -> None:
    well, ill = worker(task()), worker(task(phase=Phase.WAITING), fetched_ms_ago=99_000)
    for page in (health_page, ready_page):
        assert (page(lambda: well)().status, page(lambda: ill)().status) == (200, 503)
        assert msgspec.json.decode(page(lambda: well)().body) == {"ok": True, "reasons": []}
        assert len(msgspec.json.decode(page(lambda: ill)().body)["reasons"]) == 1


def test_the_page_of_status_tells_all_and_is_always_there() -> None:
    page = status_page(lambda: worker(task(phase=Phase.REFUSED, refusal="why")))()
    told = msgspec.json.decode(page.body)
    assert page.status == 200
    assert (told["app"], told["stuck"]) == ("edo-decide", [])
    assert told["unready"] == ["task g-0 has stopped: why"]
    assert (told["tasks"][0]["phase"], told["tasks"][0]["refusal"]) == ("refused", "why")
