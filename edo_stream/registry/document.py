"""A YAML file as plain values, with the line of each: YAML 1.2's core types, nothing executed."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from edo_stream.registry.finding import Finding

Place = tuple[str | int, ...]
"""Keys and indexes that lead to a value."""

_SCALARS: Final = (
    ("tag:yaml.org,2002:null", re.compile(r"~|null|")),
    ("tag:yaml.org,2002:bool", re.compile(r"true|false")),
    ("tag:yaml.org,2002:int", re.compile(r"[-+]?[0-9]{1,18}|[0-9]{19}")),
    ("tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+\.[0-9]+")),
)
#: What one of these begins with; all else is a text.
_FIRST: Final = frozenset(["", *"~ntf-+0123456789"])
_LIST: Final = "tag:yaml.org,2002:seq"
_MAPPING: Final = "tag:yaml.org,2002:map"
_TEXT: Final = "tag:yaml.org,2002:str"


class _CoreTypes:
    """Without YAML 1.1's surprises: ``off`` and times are texts, ``1:30`` is not a number.

    It takes the place of PyYAML's resolver, whose rules by path are not needed here.
    """

    def resolve(self, kind: Any, value: Any, implicit: Any) -> str:
        """Tag of a node that has none of its own."""
        if kind is yaml.ScalarNode:
            if implicit[0] and value[:1] in _FIRST:
                for tag, pattern in _SCALARS:
                    if pattern.fullmatch(value):
                        return tag
            return _TEXT
        return _LIST if kind is yaml.SequenceNode else _MAPPING

    def descend_resolver(self, current_node: Any, current_index: Any) -> None:
        """No rules by path."""

    def ascend_resolver(self) -> None:
        """No rules by path."""


class _PythonLoader(_CoreTypes, yaml.SafeLoader):
    pass


class _FastLoader(_CoreTypes, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """The same by libyaml, ten times as fast."""


#: Every level of nesting needs one of these. libyaml's composer is recursive and ends the process
#: when the stack does, some ten thousand levels down; the loader in Python raises.
_NESTING: Final = re.compile(r"[\[{:?-]")
_NESTING_MAX: Final = 3_000


@dataclass(slots=True)
class Document:
    """Values of one file, the line of each, and what is wrong with the file as YAML."""

    file: Path
    value: Any = None
    lines: dict[Place, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What the file's name says; a module cannot have ``-`` in it."""
        stem = self.file.stem
        return stem.replace("_", "-") if self.file.suffix == ".py" else stem

    def line(self, path: Place) -> int:
        """Line of a value's key; where the value is missing, the line of what should have it."""
        while path not in self.lines and path:
            path = path[:-1]
        return self.lines.get(path, 1)

    def find(self, path: Place, message: str) -> None:
        """Add a finding at a value."""
        self.findings.append(Finding(self.file, self.line(path), message))


def read(file: Path, text: str | None = None) -> Document:
    """Read one file, or its text where somebody else has it; mistakes are among the findings."""
    document = Document(file)
    try:
        text = file.read_text(encoding="utf-8") if text is None else text
        is_deep = len(text) > _NESTING_MAX and len(_NESTING.findall(text)) > _NESTING_MAX
        loader = (_PythonLoader if is_deep else _FastLoader)(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        document.find((), f"cannot be read: {error}")
        return document
    try:
        node = loader.get_single_node()
        if node is not None:
            document.lines[()] = node.start_mark.line + 1
            document.value = _Reader(document, loader).value((), node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = 1 if mark is None else mark.line + 1
        document.findings.append(Finding(file, line, f"not YAML: {error.problem or error.context}"))
    except (yaml.YAMLError, RecursionError) as error:
        document.find((), f"not YAML: {error}")
    except _AliasError as error:
        line = document.line(error.place)
        document.findings.append(
            Finding(file, line, "aliases (*…) are not read: write the value again")
        )
    finally:
        loader.dispose()
    return document


class _AliasError(Exception):
    """A node is met twice; ``place`` is where the alias stands."""

    def __init__(self, place: Place) -> None:
        super().__init__(str(place))
        self.place = place


class _Reader:
    """Turns the nodes of one file into values, and keeps their lines."""

    def __init__(self, document: Document, loader: Any) -> None:
        self._document = document
        self._loader = loader
        self._seen: set[int] = set()

    def value(self, path: Place, node: Any) -> Any:
        """Value of a node."""
        # A contract is read by people, and a few aliases can hide gigabytes.
        if id(node) in self._seen:
            raise _AliasError(path)
        self._seen.add(id(node))
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(path, node)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(path, node)
        items = []
        for index, item in enumerate(node.value):
            self._document.lines[(*path, index)] = item.start_mark.line + 1
            items.append(self.value((*path, index), item))
        return items

    def _scalar(self, path: Place, node: Any) -> Any:
        if node.tag == _TEXT:
            return node.value
        try:
            return self._loader.construct_object(node)
        except (yaml.YAMLError, ValueError):
            self._document.find(path, f"tag {node.tag} is not read: write a plain value")
            return None

    def _mapping(self, path: Place, node: Any) -> Any:
        values: dict[str, Any] = {}
        document = self._document
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                document.findings.append(Finding(document.file, line, "a key must be a plain text"))
                continue
            name = key_node.value
            if name in values:
                first = document.lines[(*path, name)]
                message = f"{name} is given twice, first in line {first}: keep one of them"
                document.findings.append(Finding(document.file, line, message))
                continue
            document.lines[(*path, name)] = line
            values[name] = self.value((*path, name), value_node)
        return values
