"""Where a reader's JSON Schema does not take what a writer's allows: a list of breaks.

:class:`.containment.Containment` says whether all of it holds; this module finds the places where
it does not. A reader's schema is a product of keywords, so each is asked alone, and one that fails
is followed into its parts: a property, an item, the branch of a union that was meant. A part that
holds on closer look is no break: what is found nowhere, is nowhere.
"""

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from edo_stream.schemas.breaks import Break
from edo_stream.schemas.containment import TYPES, Containment
from edo_stream.schemas.defaults import forgiving
from edo_stream.schemas.json_document import Document, Schema

_LIMITS: Final = (
    "maximum",
    "exclusiveMaximum",
    "maxLength",
    "maxItems",
    "maxProperties",
    "minimum",
    "exclusiveMinimum",
    "minLength",
    "minItems",
    "minProperties",
    "multipleOf",
    "pattern",
    "uniqueItems",
)
_BREAKS_MAX: Final = 100
_DEPTH_MAX: Final = 80


def json_breaks(writer: Document, reader: Document) -> list[Break]:
    """Every place where the reader refuses what the writer may write; empty if there is none."""
    if Containment(writer, reader).holds({"$ref": "w"}, {"$ref": "r"}):
        return []
    reader = forgiving(reader)
    search = _Search(Containment(writer, reader), reader)
    found = islice(search.find({"$ref": "w"}, {"$ref": "r"}, "", 0), _BREAKS_MAX)
    # A place may be reached twice: through both branches of a union, say.
    return list(dict.fromkeys(found))


class _Search:
    def __init__(self, containment: Containment, reader: Document) -> None:
        self._all = containment
        self._reader = reader
        self._asked: set[str] = set()

    def find(self, writer: Schema, reader: Schema, at: str, depth: int) -> Iterator[Break]:
        """Breaks of one reader's schema, at a pointer."""
        if self._all.holds(writer, reader):
            return
        writer, reader = self._followed(writer), self._followed(reader)
        if isinstance(reader, bool):
            yield Break(at, "value-refused", "the writer allows a value, the reader none")
            return
        if depth > _DEPTH_MAX or self._all.is_over:
            yield Break(at, "not-proven", "too large, or nested too deeply, to be compared")
            return
        if self._all.is_recursive(reader):
            question = repr((writer, reader))
            if question in self._asked:
                # Its breaks, if any, are those that were found then, or are being found.
                return
            self._asked.add(question)
        yield from self._find(writer, reader, at, depth + 1)

    def _find(self, writer: Schema, reader: dict[str, Any], at: str, depth: int) -> Iterator[Break]:
        if "$ref" in reader:
            yield from self.find(writer, self._all.body(reader["$ref"]), at, depth)
        for index, part in enumerate(reader.get("allOf", ())):
            yield from self.find(writer, part, f"{at}/allOf/{index}", depth)
        if "type" in reader and not self._all.holds(writer, {"type": reader["type"]}):
            yield self._type_break(writer, reader, at)
            # What else is said of other types would only repeat it.
            writer = {"allOf": [writer, {"type": reader["type"]}]}
        for search in (
            self._values,
            self._limits,
            self._required,
            self._dependent,
            self._properties,
            self._others,
            self._items,
            self._contains,
            self._unions,
            self._conditions,
        ):
            yield from search(writer, reader, at, depth)

    def _type_break(self, writer: Schema, reader: dict[str, Any], at: str) -> Break:
        declared = reader["type"] if isinstance(reader["type"], list) else [reader["type"]]
        written = [name for name in TYPES if not self._all.is_disjoint(writer, {"type": name})]
        known = {source["type"] for source in self._sources(writer) if _is_text(source, "type")}
        if known == {"integer"} or len(written) == len(TYPES):
            text = "an integer" if known == {"integer"} else "values of any type"
        else:
            text = " or ".join(written)
        rule = "type-narrowed" if set(written) & _json_types(declared) else "type-changed"
        return Break(f"{at}/type", rule, f"the writer allows {text}, the reader {_or(declared)}")

    def _values(
        self, writer: Schema, reader: dict[str, Any], at: str, _depth: int
    ) -> Iterator[Break]:
        for name in ("enum", "const"):
            if name in reader and not self._all.holds(writer, {name: reader[name]}):
                sources = self._sources(writer)
                listed = [
                    s.get("enum", [s.get("const")]) for s in sources if {"enum", "const"} & s.keys()
                ]
                readable = reader[name] if name == "enum" else [reader[name]]
                extra = [value for value in (listed[0] if listed else ()) if value not in readable]
                text = f"{_shown(extra)}" if extra else "other values"
                rule = f"{name}-{'narrowed' if listed else 'added'}"
                yield Break(f"{at}/{name}", rule, f"the writer allows {text}, the reader does not")

    def _limits(
        self, writer: Schema, reader: dict[str, Any], at: str, _depth: int
    ) -> Iterator[Break]:
        for name in _LIMITS:
            if name not in reader or self._all.holds(writer, {name: reader[name]}):
                continue
            before = [source[name] for source in self._sources(writer) if name in source]
            if not before:
                rule, text = "added", f"the writer has no {name}"
            else:
                rule, text = (
                    _direction(name, before[0], reader[name]),
                    f"the writer has {before[0]}",
                )
            yield Break(
                f"{at}/{name}", f"{_dashed(name)}-{rule}", f"{text}, the reader {reader[name]}"
            )

    def _required(
        self, writer: Schema, reader: dict[str, Any], at: str, _depth: int
    ) -> Iterator[Break]:
        for name in reader.get("required", ()):
            if not self._all.holds(writer, {"required": [name]}):
                yield Break(
                    f"{at}/required",
                    "required-added",
                    f"the reader requires {name} and has no default for it; "
                    "the writer may leave it out",
                )

    def _dependent(
        self, writer: Schema, reader: dict[str, Any], at: str, depth: int
    ) -> Iterator[Break]:
        for keyword in ("dependentRequired", "dependentSchemas"):
            for name, needed in reader.get(keyword, {}).items():
                there: Schema = {"allOf": [writer, {"type": "object", "required": [name]}]}
                place = f"{at}/{self._reader.spelled(keyword)}/{_escaped(name)}"
                if keyword == "dependentSchemas":
                    yield from self.find(there, needed, place, depth)
                elif not self._all.holds(there, {"required": needed}):
                    text = f"with {name} the reader requires {_or(needed, 'and')}"
                    yield Break(place, "dependency-added", f"{text}; the writer may leave one out")

    def _properties(
        self, writer: Schema, reader: dict[str, Any], at: str, depth: int
    ) -> Iterator[Break]:
        for name, part in reader.get("properties", {}).items():
            known = self._property(writer, name)
            # What is said of the property alone mostly decides, and is a much smaller question.
            if self._all.holds(known, part) or self._all.holds(
                writer, {"properties": {name: part}}
            ):
                continue
            place = f"{at}/properties/{_escaped(name)}"
            if known is True:
                yield Break(
                    place,
                    "property-added-to-open-content-model",
                    f"the writer says nothing of {name} and allows anything there",
                )
            else:
                yield from self.find(known, part, place, depth)
        for pattern, part in reader.get("patternProperties", {}).items():
            if self._all.holds(writer, {"patternProperties": {pattern: part}}):
                continue
            place = f"{at}/patternProperties/{_escaped(pattern)}"
            yield from self._matching(writer, pattern, part, place, depth)

    def _matching(
        self, writer: Schema, pattern: str, part: Schema, at: str, depth: int
    ) -> Iterator[Break]:
        """Breaks of values whose names match a pattern of the reader."""
        for name in self._names(writer):
            if _matches(pattern, name) or not _is_pattern(pattern):
                yield from self.find(self._property(writer, name), part, at, depth)
        patterns = self._patterns(writer)
        for other, values in patterns:
            if other == pattern or not _are_apart(other, pattern):
                yield from self.find(values, part, at, depth)
        if pattern not in [other for other, _ in patterns]:
            yield from self.find(self._additional(writer), part, at, depth)

    def _others(
        self, writer: Schema, reader: dict[str, Any], at: str, depth: int
    ) -> Iterator[Break]:
        group = ("properties", "patternProperties", "additionalProperties")
        open_group = {name: reader[name] for name in group if name in reader}
        # Of properties and patterns only the names count here; their schemas were asked before.
        names = dict.fromkeys(open_group.get("properties", {}), True)
        patterns = dict.fromkeys(open_group.get("patternProperties", {}), True)
        if "additionalProperties" in reader:
            alone = {"additionalProperties": reader["additionalProperties"]} | {
                "properties": names,
                "patternProperties": patterns,
            }
            if not self._all.holds(writer, alone):
                yield from self._additional_breaks(writer, reader, at, depth)
        if "propertyNames" in reader and not self._all.holds(
            writer, {"propertyNames": reader["propertyNames"]}
        ):
            text = "the writer allows names of properties that the reader does not"
            yield Break(f"{at}/propertyNames", "property-names-narrowed", text)
        if "unevaluatedProperties" in reader:
            product = {n: v for n, v in reader.items() if n != "required"}
            if not self._all.holds(writer, product):
                text = "the writer allows properties that the reader does not"
                yield Break(f"{at}/unevaluatedProperties", "unevaluated-properties-narrowed", text)

    def _additional_breaks(
        self, writer: Schema, reader: dict[str, Any], at: str, depth: int
    ) -> Iterator[Break]:
        part = reader["additionalProperties"]
        names, patterns = reader.get("properties", {}), reader.get("patternProperties", {})
        for name in self._names(writer):
            if name in names or any(_matches(pattern, name) for pattern in patterns):
                continue
            known = self._property(writer, name)
            if part is False and not self._all.is_empty(known):
                text = f"the writer may write {name}; the reader's content model is closed"
                place = f"{at}/properties/{_escaped(name)}"
                yield Break(place, "property-removed-from-closed-content-model", text)
            else:
                yield from self.find(known, part, f"{at}/additionalProperties", depth)
        for pattern, values in self._patterns(writer):
            if pattern not in patterns:
                yield from self.find(values, part, f"{at}/additionalProperties", depth)
        rest = self._additional(writer)
        if part is False and not self._all.is_empty(rest):
            text = "the writer allows other properties, the reader does not"
            yield Break(f"{at}/additionalProperties", "additional-properties-removed", text)
        elif rest is True:
            if not self._all.holds(True, part):
                text = "the writer allows any value in other properties, the reader does not"
                yield Break(f"{at}/additionalProperties", "additional-properties-narrowed", text)
        else:
            yield from self.find(rest, part, f"{at}/additionalProperties", depth)

    def _items(
        self, writer: Schema, reader: dict[str, Any], at: str, depth: int
    ) -> Iterator[Break]:
        leading = reader.get("prefixItems", [])
        spelled = self._reader.spelled
        for index, part in enumerate(leading):
            alone = {"prefixItems": [True] * index + [part]}
            if self._all.holds(writer, alone):
                continue
            place = f"{at}/{spelled('prefixItems')}/{index}"
            known = self._item(writer, index)
            if known is True:
                text = f"the writer allows any value as item {index + 1}"
                yield Break(place, "item-added-to-open-content-model", text)
            else:
                yield from self.find(known, part, place, depth)
        rest = reader.get("items", True)
        before = {"prefixItems": [True] * len(leading)} if leading else {}
        if rest is not True and not self._all.holds(writer, {**before, "items": rest}):
            place = f"{at}/{spelled('items', bool(leading))}"
            yield from self._rest_breaks(writer, rest, len(leading), place, depth)
        if "unevaluatedItems" in reader and not self._all.holds(writer, reader):
            text = "the writer allows items that the reader does not"
            yield Break(f"{at}/unevaluatedItems", "unevaluated-items-narrowed", text)

    def _rest_breaks(
        self, writer: Schema, rest: Schema, start: int, at: str, depth: int
    ) -> Iterator[Break]:
        length = max((len(s.get("prefixItems", ())) for s in self._sources(writer)), default=0)
        for index in range(start, max(length, start) + 1):
            known = self._item(writer, index)
            if rest is False and not self._all.is_empty(known):
                text = f"the writer may write item {index + 1}; the reader reads {start}"
                yield Break(at, "item-removed-from-closed-content-model", text)
                return
            if known is True:
                text = "the writer allows any value as an item, the reader does not"
                yield Break(at, "items-narrowed", text)
                return
            yield from self.find(known, rest, at, depth)

    def _contains(
        self, writer: Schema, reader: dict[str, Any], at: str, _depth: int
    ) -> Iterator[Break]:
        names = ("contains", "minContains", "maxContains")
        alone = {name: reader[name] for name in names if name in reader}
        if "contains" in alone and not self._all.holds(writer, alone):
            text = "the writer allows arrays that do not contain what the reader asks for"
            yield Break(f"{at}/contains", "contains-narrowed", text)

    def _unions(
        self, writer: Schema, reader: dict[str, Any], at: str, depth: int
    ) -> Iterator[Break]:
        for name in ("anyOf", "oneOf"):
            if name not in reader or self._all.holds(writer, {name: reader[name]}):
                continue
            for case, part in self._cases(writer):
                union: dict[str, Any] = {name: reader[name]}
                yield from self._case_breaks((case, part), union, f"{at}/{name}", depth)

    def _case_breaks(
        self, case_and_part: tuple[Schema, Schema], union: dict[str, Any], at: str, depth: int
    ) -> Iterator[Break]:
        case, own = case_and_part
        [(name, branches)] = union.items()
        if self._all.holds(case, union):
            return
        near = [i for i, part in enumerate(branches) if not self._all.is_apart(own, case, part)]
        whole = [i for i in near if self._all.holds(case, branches[i])]
        if len(near) == 1:
            # Any other branch is out of the question, so this one must take all of it.
            yield from self.find(case, branches[near[0]], f"{at}/{near[0]}", depth)
        elif name == "oneOf" and whole:
            text = f"values of the writer may be of more than one branch: {_numbers(near)}"
            yield Break(at, "branches-overlap", text)
        else:
            text = f"the writer allows {_case_text(case)}, which no branch of the reader takes"
            yield Break(at, "union-narrowed", text)

    def _conditions(
        self, writer: Schema, reader: dict[str, Any], at: str, depth: int
    ) -> Iterator[Break]:
        if "not" in reader and not self._all.holds(writer, {"not": reader["not"]}):
            text = "the reader refuses values that the writer allows"
            yield Break(f"{at}/not", "not-extended", text)
        alone: dict[str, Any] = {n: reader[n] for n in ("if", "then", "else") if n in reader}
        if "if" not in alone or self._all.holds(writer, alone):
            return
        meets: Schema = {"allOf": [writer, alone["if"]]}
        misses: Schema = {"allOf": [writer, {"not": alone["if"]}]}
        yield from self.find(meets, alone.get("then", True), f"{at}/then", depth)
        yield from self.find(misses, alone.get("else", True), f"{at}/else", depth)

    def _followed(self, schema: Schema) -> Schema:
        """A schema that is nothing but a reference as the last one of the chain."""
        while isinstance(schema, dict) and schema.keys() == {"$ref"}:
            body = self._all.body(schema["$ref"])
            if not isinstance(body, dict) or body.keys() != {"$ref"}:
                break
            schema = body
        return schema

    def _sources(self, schema: Schema) -> list[dict[str, Any]]:
        """The schemas without references whose product a schema is; unions among them stay."""
        if isinstance(schema, bool):
            return [] if schema else [{"not": {}}]
        found = [schema]
        if "$ref" in schema:
            found += self._sources(self._all.body(schema["$ref"]))
        for part in schema.get("allOf", ()):
            found += self._sources(part)
        return found

    def _cases(self, writer: Schema) -> list[tuple[Schema, Schema]]:
        """A writer's union as its branches: each with all else that the writer says, and alone."""
        sources = self._sources(writer)
        for source in sources:
            for name in ("anyOf", "oneOf"):
                if name in source:
                    rest = [_bare(other, name if other is source else "") for other in sources]
                    said = [other for other in rest if other]
                    pairs = [(_product([*said, part]), part) for part in source[name]]
                    return [pair for pair in pairs if not self._all.is_empty(pair[0])]
            if isinstance(source.get("type"), list):
                parts: list[Schema] = [{"type": name} for name in source["type"]]
                pairs = [({"allOf": [writer, part]}, part) for part in parts]
                return [pair for pair in pairs if not self._all.is_empty(pair[0])]
        return [(writer, writer)]

    def _names(self, writer: Schema) -> list[str]:
        found = [name for source in self._sources(writer) for name in source.get("properties", ())]
        return list(dict.fromkeys(found))

    def _patterns(self, writer: Schema) -> list[tuple[str, Schema]]:
        sources = self._sources(writer)
        return [pair for source in sources for pair in source.get("patternProperties", {}).items()]

    def _property(self, writer: Schema, name: str) -> Schema:
        """What the writer says of the value of a property: at least so much, if it is there."""
        said: list[Schema] = []
        for source in self._sources(writer):
            patterns = source.get("patternProperties", {})
            direct = [source["properties"][name]] if name in source.get("properties", {}) else []
            direct += [part for pattern, part in patterns.items() if _matches(pattern, name)]
            is_sure = all(_is_pattern(pattern) for pattern in patterns)
            said += direct
            if not direct and is_sure and "additionalProperties" in source:
                said.append(source["additionalProperties"])
        return _product(said)

    def _additional(self, writer: Schema) -> Schema:
        """What the writer says of the properties that it neither names nor has a pattern for."""
        sources = self._sources(writer)
        said = [s["additionalProperties"] for s in sources if "additionalProperties" in s]
        return _product(said)

    def _item(self, writer: Schema, index: int) -> Schema:
        said: list[Schema] = []
        for source in self._sources(writer):
            leading = source.get("prefixItems", [])
            said.append(leading[index] if index < len(leading) else source.get("items", True))
        return _product([part for part in said if part is not True and part != {}])


def _bare(schema: dict[str, Any], union: str) -> dict[str, Any]:
    """A schema without what is looked at elsewhere: its references, products and one union."""
    return {n: v for n, v in schema.items() if n not in ("$ref", "allOf", "default", union)}


def _product(parts: list[Schema]) -> Schema:
    if not parts:
        return True
    return parts[0] if len(parts) == 1 else {"allOf": parts}


def _matches(pattern: str, name: str) -> bool:
    try:
        return re.search(pattern, name) is not None
    except re.error:
        return False


def _is_pattern(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True


def _are_apart(one: str, other: str) -> bool:
    """Whether two patterns begin with different letters, so that no name matches both."""
    first, second = (re.match(r"\^([\w-]+)(?![\w*+?{|])", text) for text in (one, other))
    if first is None or second is None or "|" in one + other:
        return False
    length = min(len(first[1]), len(second[1]))
    return first[1][:length] != second[1][:length]


def _direction(name: str, before: Any, after: Any) -> str:
    if name in ("pattern", "uniqueItems") or before == after:
        return "changed"
    return "increased" if after > before else "decreased"


def _dashed(name: str) -> str:
    return re.sub(r"[A-Z]", lambda letter: f"-{letter[0].lower()}", name)


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _or(names: list[str], word: str = "or") -> str:
    return f" {word} ".join(str(name) for name in names)


def _numbers(indexes: list[int]) -> str:
    return ", ".join(str(index + 1) for index in indexes)


def _shown(values: list[Any]) -> str:
    texts = [f"{value!r:.40}" for value in values[:3]]
    return ", ".join(texts) + (" …" if len(values) > len(texts) else "")


def _case_text(case: Schema) -> str:
    if isinstance(case, dict):
        last = case.get("allOf", [case])[-1]
        if isinstance(last, dict) and isinstance(last.get("type"), str):
            return f"values of type {last['type']}"
    return "values"


def _is_text(schema: dict[str, Any], name: str) -> bool:
    return isinstance(schema.get(name), str)


def _json_types(declared: list[str]) -> set[str]:
    return {"number" if name == "integer" else name for name in declared}
