"""Flows and sagas in Python: a file that assigns ``flow``, or ``saga``, what a YAML file would say.

Its values are those of :mod:`.typed`; beside texts, numbers, lists and mappings they may be a
``timedelta``, a path, a handler's function and an exception's class, which are read as the texts
that name them. So what follows, the checks and the lint, is the same for both.
"""

import ast
import importlib.util
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from datetime import timedelta
from pathlib import Path, PurePath
from types import ModuleType
from typing import Any, Final, Literal

from edo_stream.registry import Finding
from edo_stream.registry.document import Document, Place, read
from edo_stream.registry.quantity import duration_text

Declares = Literal["flow", "saga"]
_PYTHON: Final = ".py"
_MS: Final = timedelta(milliseconds=1)


def import_from(folder: Path) -> None:
    """Let modules be imported from a folder: the one that the flows' own is in."""
    place = str(folder.resolve())
    if place not in sys.path:
        sys.path.insert(0, place)


def files_of(root: Path, declares: Declares) -> list[Path]:
    """Files of a folder that declare a flow, or a saga; other modules may lie beside them."""
    if not root.is_dir():
        return []
    in_python = [file for file in root.glob(f"*{_PYTHON}") if _is_declaring(file, declares)]
    return sorted([*root.glob("*.yaml"), *in_python])


def read_file(file: Path, declares: Declares, project: Path) -> Document:
    """Read one of them; what is wrong with it is among the findings.

    ``project`` is the folder that it may import modules from.
    """
    if file.suffix != _PYTHON:
        return read(file)
    document = Document(file)
    twin = _twin(document, declares)
    if twin is not None:
        document.find((), f"{twin.name} declares {document.name} as well: keep one of them")
        return document
    try:
        tree = ast.parse(file.read_bytes())
        code = compile(tree, str(file), "exec")
    except (OSError, ValueError, SyntaxError) as error:
        line = getattr(error, "lineno", None) or 1
        why = getattr(error, "msg", None) or error
        document.findings.append(Finding(file, line, f"not Python: {why}"))
        return document
    _note_lines(document, _assigned(tree, declares))
    import_from(project)
    module = _run(document, code)
    if module is not None and hasattr(module, declares):
        value = getattr(module, declares)
        document.value = _Plain(document, module.__name__).value((), value)
    elif module is not None:
        document.find((), f"it assigns {declares}, and has none when it has been run")
    return document


def _twin(document: Document, declares: Declares) -> Path | None:
    """Another file that declares the same, in YAML, or in Python with other signs in its name."""
    file = document.file
    in_yaml = file.with_name(f"{document.name}.yaml")
    if in_yaml.exists():
        return in_yaml
    same = (one for one in file.parent.glob(f"*{_PYTHON}") if Document(one).name == document.name)
    return next((one for one in sorted(same) if one != file and _is_declaring(one, declares)), None)


def _is_declaring(file: Path, declares: Declares) -> bool:
    try:
        return _assigned(ast.parse(file.read_bytes()), declares) is not None
    except (OSError, ValueError, SyntaxError):
        return True  # It is told when it is read.


def _assigned(tree: ast.Module, name: str) -> ast.Assign | ast.AnnAssign | None:
    """The last statement that gives a name of the module its value, wherever it stands in it."""
    found = [one for one in _statements(tree.body) if name in _names(one)]
    return max(found, key=lambda one: one.lineno, default=None)


def _statements(body: Iterable[ast.AST]) -> Iterator[ast.Assign | ast.AnnAssign]:
    """Assignments of a module, those within ``if`` and the like too; not of what it defines."""
    for node in body:
        match node:
            case ast.Assign() | ast.AnnAssign():
                yield node
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                continue
            case ast.stmt() | ast.ExceptHandler() | ast.match_case():
                yield from _statements(ast.iter_child_nodes(node))
            case _:
                continue


def _names(statement: ast.Assign | ast.AnnAssign) -> set[str]:
    if isinstance(statement, ast.Assign):
        places = [one for target in statement.targets for one in ast.walk(target)]
    else:
        places = [] if statement.value is None else [statement.target]
    stored = (one for one in places if isinstance(one, ast.Name))
    return {one.id for one in stored if isinstance(one.ctx, ast.Store)}


def _note_lines(document: Document, assigned: ast.Assign | ast.AnnAssign | None) -> None:
    """Where the values stand, as far as they are written where they are assigned."""
    if assigned is None or assigned.value is None:
        return
    document.lines[()] = assigned.lineno
    left: list[tuple[Place, ast.expr]] = [((), assigned.value)]
    while left:
        place, node = left.pop()
        parts: list[tuple[str | int, int, ast.expr]] = []
        match node:
            case ast.Dict(keys=keys, values=values):
                parts = [
                    (key.value, key.lineno, value)
                    for key, value in zip(keys, values, strict=True)
                    if isinstance(key, ast.Constant) and isinstance(key.value, str)
                ]
            case ast.Call(keywords=keywords):
                parts = [(one.arg, one.lineno, one.value) for one in keywords if one.arg]
            case ast.List(elts=elements) | ast.Tuple(elts=elements):
                parts = [(number, one.lineno, one) for number, one in enumerate(elements)]
            case _:
                continue
        for name, line, value in parts:
            first = document.lines.get((*place, name))
            if first is not None:
                told = f"{name} is given twice, first in line {first}: keep one of them"
                document.findings.append(Finding(document.file, line, told))
                continue
            document.lines[*place, name] = line
            left.append(((*place, name), value))


def _run(document: Document, code: Any) -> ModuleType | None:
    """Run a file as a module of a name of its own; what it raises is found where it does."""
    name = f"edo_flow_files.{document.file.stem}"
    spec = importlib.util.spec_from_loader(name, loader=None, origin=str(document.file))
    assert spec is not None, "a spec without a loader is made as it is"
    module = importlib.util.module_from_spec(spec)
    module.__file__ = str(document.file)
    sys.modules[name] = module  # Where what it defines looks for its own names.
    try:
        with redirect_stdout(sys.stderr):  # What it prints is no part of a command's answer.
            exec(code, module.__dict__)  # noqa: S102 - it is the project's own, as handlers are
    except (Exception, SystemExit) as error:  # noqa: BLE001 - told with its place
        frames = traceback.extract_tb(error.__traceback__)
        lines = [one.lineno for one in frames if one.filename == str(document.file)]
        told = f"it cannot be run: {type(error).__name__}: {error}"
        document.findings.append(Finding(document.file, (lines and lines[-1]) or 1, told))
        return None
    finally:
        sys.modules.pop(name, None)
    return module


class _Plain:
    """Turns the values of one file into what YAML would have given."""

    def __init__(self, document: Document, module: str) -> None:
        self._document = document
        self._module = module
        self._above: list[int] = []

    def value(self, place: Place, value: Any) -> Any:
        """A value as plain texts, numbers, lists and mappings."""
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, timedelta):
            if value % _MS:
                self._find(place, f"{value} is no whole number of milliseconds")
            return duration_text(value // _MS)
        if isinstance(value, PurePath):
            return str(value)
        if isinstance(value, type) or callable(value):
            return self._name(place, value)
        if id(value) in self._above:
            self._find(place, "it is within itself")
            return None
        self._above.append(id(value))
        try:
            return self._parts(place, value)
        finally:
            self._above.pop()

    def _parts(self, place: Place, value: Any) -> Any:
        kind = type(value).__name__
        odd = f"expected a text, a number, a list or a mapping, found {kind}"
        if isinstance(value, Mapping):
            names = [key for key in value if not isinstance(key, str)]
            if not names:
                return {key: self.value((*place, key), one) for key, one in value.items()}
            odd = f"the key {names[0]!r} is no text"
        elif isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
            return [self.value((*place, number), one) for number, one in enumerate(value)]
        self._find(place, odd)
        return None

    def _name(self, place: Place, value: Any) -> str:
        """What a function or a class can be imported by."""
        name = getattr(value, "__qualname__", "") or type(value).__name__
        module = getattr(value, "__module__", None)
        is_own = not module or module in (self._module, "__main__")
        if is_own or getattr(sys.modules.get(str(module)), name, None) is not value:
            self._find(
                place,
                f"{name} cannot be imported by its name: put it at the top of a module of the "
                "project, such as handlers/shipping.py",
            )
        if not isinstance(value, type):
            return f"{module}:{name}"
        return name if module == "builtins" else f"{module}.{name}"

    def _find(self, place: Place, message: str) -> None:
        label = ".".join(map(str, place))
        self._document.find(place, f"{label}: {message}" if label else message)
