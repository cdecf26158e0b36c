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
    ("tag:yaml.org,2002:null", re.compile(r"(?:~|null|)"), "~n"),
    ("tag:yaml.org,2002:bool", re.compile(r"(?:true|false)"), "tf"),
    ("tag:yaml.org,2002:int", re.compile(r"[-+]?[0-9]{1,18}"), "-+0123456789"),
    ("tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+\.[0-9]+"), "-+0123456789"),
)


class _Loader(yaml.SafeLoader):
    """Without YAML 1.1's surprises: ``off`` and times are texts, ``1:30`` is not a number."""

    yaml_implicit_resolvers: Any = {}  # noqa: RUF012 - PyYAML's own way of saying it

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Refuse aliases: a contract is read by people, and a few aliases can hide gigabytes."""
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "aliases (*…) are not read", mark)
        return super().compose_node(parent, index)


for _tag, _pattern, _first in _SCALARS:
    _Loader.add_implicit_resolver(_tag, re.compile(f"^{_pattern.pattern}$"), [*_first])
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^$"), [""])


@dataclass(slots=True)
class Document:
    """Values of one file, the line of each, and what is wrong with the file as YAML."""

    file: Path
    value: Any = None
    lines: dict[Place, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def line(self, path: Place) -> int:
        """Line of a value's key; where the value is missing, the line of what should have it."""
        while path not in self.lines and path:
            path = path[:-1]
        return self.lines.get(path, 1)

    def find(self, path: Place, message: str) -> None:
        """Add a finding at a value."""
        self.findings.append(Finding(self.file, self.line(path), message))


def read(file: Path) -> Document:
    """Read one file; what cannot be read is among the findings."""
    document = Document(file)
    try:
        loader = _Loader(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        document.find((), f"cannot be read: {error}")
        return document
    try:
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = 1 if mark is None else mark.line + 1
        document.findings.append(Finding(file, line, f"not YAML: {error.problem or error.context}"))
    except (yaml.YAMLError, RecursionError) as error:
        document.find((), f"not YAML: {error}")
    else:
        if node is not None:
            document.lines[()] = node.start_mark.line + 1
            document.value = _value(document, (), node, loader)
    finally:
        loader.dispose()
    return document


def _value(document: Document, path: Place, node: Any, loader: yaml.SafeLoader) -> Any:
    if isinstance(node, yaml.MappingNode):
        return _mapping(document, path, node, loader)
    if isinstance(node, yaml.SequenceNode):
        items = []
        for index, item in enumerate(node.value):
            document.lines[(*path, index)] = item.start_mark.line + 1
            items.append(_value(document, (*path, index), item, loader))
        return items
    try:
        return loader.construct_object(node)
    except (yaml.YAMLError, ValueError):
        document.find(path, f"tag {node.tag} is not read: write a plain value")
        return None


def _mapping(document: Document, path: Place, node: Any, loader: yaml.SafeLoader) -> Any:
    values: dict[str, Any] = {}
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
        values[name] = _value(document, (*path, name), value_node, loader)
    return values
