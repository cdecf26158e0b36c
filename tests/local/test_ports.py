"""Ports for the services of one process."""

import random

import pytest

from edo_stream.local import ports
from edo_stream.local.errors import LocalError


def test_no_port_is_found_twice_by_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    # Nobody listens on either, as on the port of a service that is about to start.
    monkeypatch.setattr(ports, "is_free", lambda _: True)
    monkeypatch.setattr(ports, "_given", set())
    monkeypatch.setattr(random, "sample", lambda *_: [20_001, 20_002])

    assert [20_001, 20_002] == [ports.free_port(), ports.free_port()]
    with pytest.raises(LocalError, match="no free port found"):
        ports.free_port()
