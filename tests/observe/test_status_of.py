"""Whose workers `edo status` asks."""

from types import SimpleNamespace
from typing import Any

import pytest

from edo_stream.cli import status
from edo_stream.cli.environment import CommandError
from edo_stream.settings import Settings

OURS = SimpleNamespace(settings=Settings(service="shop"))
AT = "http://127.0.0.1:6066"


@pytest.mark.parametrize(("app", "asked"), [("shop-decide", [AT]), ("other-decide", [])])
def test_a_worker_of_another_service_is_none_of_ours(
    app: str, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "_ask", lambda address: {"app": app})
    ours: Any = OURS
    assert asked == list(status._workers(ours, None))


def test_a_worker_of_another_service_that_is_named_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(status, "_ask", lambda address: {"app": "other-decide"})
    ours: Any = OURS
    with pytest.raises(CommandError, match="a worker of other-decide, not of shop-decide"):
        status._workers(ours, [AT])
