"""One mutant in a copy of the code: break it, run the tests that should see it, mend it again.

The copy is a directory of its own, and the tests run there as they stand: what they import is the
broken code, never the original. A red run counts as a kill only when a test has failed; a run
that could not collect its tests, found none or took too long is an error, since it says nothing.

The tests run on Python alone, so that it is found out by itself. A mutant of the compiled half, or
of what leads to it, is compiled first, as an installation does it, and only for its own tests.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from types import MappingProxyType

ROOT = Path(__file__).parents[2]
#: What the tests need besides themselves.
_COPIED = ("edo_stream", "load", "tests", "topics", "docs", "pyproject.toml", "README.md")
_TRIAL_S = 150.0
#: Where the compiled half lies, and how it is compiled: only to be seen through, so in a hurry.
_HALF = Path("edo_stream/core")
_HASTE = {"CFLAGS": "-O0"}
_FAILED = re.compile(r"^FAILED (.+?)(?: - .*)?$", re.MULTILINE)
_CONTRACT = re.compile(r"^(.+) BROKEN$", re.MULTILINE)

#: In place of a test: the contracts about what may import what.
IMPORTS = "lint-imports"


class DoesNotApplyError(Exception):
    """The text that a mutant replaces is not there exactly once: the code has moved on."""


class TrialError(Exception):
    """The tests could not be run, so that nothing is known of the mutant."""


@dataclass(frozen=True)
class Mutant:
    """An invariant broken: exact texts of one file, each there once, and what replaces them."""

    invariant: int
    name: str
    """What is wrong with the code now, as a sentence."""
    path: str
    edits: tuple[tuple[str, str], ...]
    tests: tuple[str, ...]
    """Files or ids of tests, the likeliest to fail first."""
    is_of_half: bool = False
    """Whether it shows only beside the compiled half, though it is written in Python."""

    @property
    def is_compiled(self) -> bool:
        """Whether its tests need the compiled half."""
        return self.is_of_half or not self._is_python

    @property
    def _is_python(self) -> bool:
        return self.path.endswith(".py")

    def applied_to(self, text: str) -> str:
        """The file's text, broken.

        Raises:
            DoesNotApplyError: a text to replace is not there, or more than once.
        """
        for old, new in self.edits:
            if (count := text.count(old)) != 1:
                raise DoesNotApplyError(
                    f"{self.path}: mutant {self.name!r}: expected its text once, found it "
                    f"{count} times: {old!r}"
                )
            text = text.replace(old, new)
        if self._is_python:
            ast.parse(text, self.path)
        return text


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant: the test that has failed, or ``None`` when all stayed green."""

    killed_by: str | None
    seconds: float


class Copy:
    """A copy of the code, for one trial at a time."""

    def __init__(self, root: Path) -> None:
        self._root = root
        for name in _COPIED:
            source = ROOT / name
            if source.is_dir():
                # Most mutants are of what is written in Python: it alone is to be found out.
                ignored = shutil.ignore_patterns("__pycache__", "*.so", "*.pyd", "_native.c")
                shutil.copytree(source, root / name, ignore=ignored)
            elif source.exists():
                shutil.copy2(source, root / name)

    def check(self, tests: tuple[str, ...], is_compiled: bool = False) -> None:
        """Run tests on the code as it is: they must be green, and see the copy.

        Raises:
            TrialError: they are not, and would prove nothing.
        """
        seen = self._run(sys.executable, "-c", "import edo_stream; print(edo_stream.__file__)")
        if not Path(seen.stdout.strip()).is_relative_to(self._root):
            raise TrialError(f"the tests would see {seen.stdout.strip()}, not the copy")
        with self._half(is_compiled):
            if (failed := self._first_failure(tests)) is not None:
                raise TrialError(f"fails without any mutant: {failed}")

    def try_out(self, mutant: Mutant) -> Verdict:
        """Break the copy, run the mutant's tests, and mend it.

        Raises:
            DoesNotApplyError: the mutant's text is not in the code.
            TrialError: its tests could not be run.
        """
        path = self._root / mutant.path
        original = path.read_text()
        began = perf_counter()
        try:
            _write(path, mutant.applied_to(original))
            with self._half(mutant.is_compiled):
                failed = self._first_failure(mutant.tests)
        except TrialError as error:
            raise TrialError(f"mutant {mutant.name!r}: {error}") from error
        finally:
            _write(path, original)
        return Verdict(failed, perf_counter() - began)

    @contextmanager
    def _half(self, is_compiled: bool) -> Iterator[None]:
        """With the compiled half of the code as it is now, or without it."""
        if not is_compiled:
            yield
            return
        with tempfile.TemporaryDirectory(prefix="compiled-") as target:
            options = ["-q", "--disable-pip-version-check", "--no-deps", "--target", target]
            done = self._run(sys.executable, "-m", "pip", "install", *options, ".", more=_HASTE)
            found = (Path(target) / _HALF).glob("_native*")
            built = [one for one in found if one.suffix in (".so", ".pyd")]
            if done.returncode != 0 or not built:
                raise TrialError(f"the compiled half was not compiled:\n{done.stdout[-2_000:]}")
            halves = [Path(shutil.copy2(one, self._root / _HALF)) for one in built]
        try:
            yield
        finally:
            for one in halves:
                one.unlink()

    def _first_failure(self, tests: tuple[str, ...]) -> str | None:
        failed = None
        if IMPORTS in tests:
            failed = self._broken_contract()
        files = [test for test in tests if test != IMPORTS]
        if failed is not None or not files:
            return failed
        arguments = ["-x", "-q", "--tb=no", "-rf", "-p", "no:cacheprovider", "--hypothesis-seed=1"]
        done = self._run(sys.executable, "-m", "pytest", *arguments, *files)
        if done.returncode == 0:
            return None
        found = _FAILED.search(done.stdout)
        if done.returncode != 1 or found is None:
            raise TrialError(f"pytest ended with {done.returncode}:\n{done.stdout[-2_000:]}")
        return found.group(1)

    def _broken_contract(self) -> str | None:
        done = self._run(str(Path(sys.executable).with_name(IMPORTS)), "--no-logo", "--no-cache")
        if done.returncode == 0:
            return None
        found = _CONTRACT.search(done.stdout)
        if found is None:
            raise TrialError(f"{IMPORTS} ended with {done.returncode}:\n{done.stdout[-2_000:]}")
        return f"{IMPORTS}: {found.group(1)}"

    def _run(
        self, *command: str, more: Mapping[str, str] = MappingProxyType({})
    ) -> "subprocess.CompletedProcess[str]":
        try:
            return subprocess.run(
                command,
                cwd=self._root,
                env={**os.environ, "PYTHONPATH": str(self._root), **more},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=_TRIAL_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise TrialError(f"its tests took more than {_TRIAL_S:.0f} s") from error


def _write(path: Path, text: str) -> None:
    path.write_text(text)
    # A compiled file is taken by its source's second and size, which may both be the same.
    for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
        compiled.unlink()
