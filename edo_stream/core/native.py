"""Which half decides: the compiled one where there is one, else Python alone.

An installation without a C compiler works, and is slower (docs/benchmarks.md). The compiled half
is used only if it is of this build: a checkout that has moved on without having been installed
again goes on in Python. So does one whose compiled half cannot be loaded, for whatever reason.
"""

from typing import Final

_BUILD: Final = 16
"""Raised with every change that ``_native.pyx`` and the Python beside it make together."""

_reason = ""
try:
    from edo_stream.core import _native

    if _native.BUILD != _BUILD:
        _reason = f"it is of build {_native.BUILD}, and the Python beside it of {_BUILD}"
except Exception as error:  # noqa: BLE001 - what is wrong with it may say so in any way
    _reason = f"{type(error).__name__}: {error}"

IS_COMPILED: Final = not _reason
"""Whether the compiled half is in use."""
WHY_PYTHON: Final = _reason
"""Why it is not; empty where it is."""
