"""Which half decides: the compiled one where there is one, else Python alone.

An installation without a C compiler works, and is slower (docs/benchmarks.md). The compiled half
is used only if it is of this build: a checkout that has moved on without having been installed
again goes on in Python.
"""

from typing import TYPE_CHECKING, Final

_BUILD: Final = 6
"""Raised with every change that ``_native.pyx`` and the Python beside it make together."""

if TYPE_CHECKING:
    from types import ModuleType

_compiled: "ModuleType | None"
try:
    from edo_stream.core import _native as _compiled
except ImportError:
    _compiled = None

IS_COMPILED: Final = _compiled is not None and _compiled.BUILD == _BUILD
"""Whether the compiled half is in use."""
