"""Which half is in use, and what is said where it is Python alone."""

import sys
from pathlib import Path

import pytest

from edo_stream.core import native

_SOURCE = Path(native.__file__).read_text()


def loaded(monkeypatch: pytest.MonkeyPatch, compiled: object) -> dict[str, object]:
    """The module's names, if this were what the import finds."""
    import edo_stream.core  # noqa: PLC0415 - only here it is a module to be changed

    monkeypatch.setitem(sys.modules, "edo_stream.core._native", compiled)
    monkeypatch.setattr(edo_stream.core, "_native", compiled, raising=False)
    if compiled is None:
        monkeypatch.delattr(edo_stream.core, "_native")
    found: dict[str, object] = {}
    exec(compile(_SOURCE, native.__file__, "exec"), found)
    return found


class Broken:
    """A compiled half whose build cannot be asked for."""

    @property
    def BUILD(self) -> int:  # noqa: N802 - as the compiled half has it
        raise SystemError("it was built for another Python")


class Other:
    BUILD = -1


def test_without_a_compiled_half_python_goes_on_and_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = loaded(monkeypatch, None)
    assert found["IS_COMPILED"] is False
    assert "Error" in str(found["WHY_PYTHON"])


def test_one_that_cannot_be_loaded_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    found = loaded(monkeypatch, Broken())
    assert found["IS_COMPILED"] is False
    assert found["WHY_PYTHON"] == "SystemError: it was built for another Python"


def test_one_of_another_build_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    found = loaded(monkeypatch, Other())
    assert found["IS_COMPILED"] is False
    assert "it is of build -1" in str(found["WHY_PYTHON"])
