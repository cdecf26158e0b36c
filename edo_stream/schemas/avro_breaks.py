"""Where an Avro reader's schema does not resolve what a writer's wrote: a list of breaks.

The rules are those of the specification's chapter on schema resolution, as Java's
``SchemaCompatibility`` applies them: named types match by their unqualified name or an alias of
the reader, numbers and text are promoted, each branch of a writer's union must be readable, a
reader's field that was not written needs a default, a symbol that is unknown needs the enum's.

Two rules are stricter on purpose. Decimals must agree in precision and scale (the specification's
own rule, which Java learned late). And a time may not change its unit: ``timestamp-millis`` read
as ``timestamp-micros`` resolves, and is wrong by a factor of a thousand.
"""

from collections.abc import Iterator
from typing import Final

from edo_stream.schemas.avro_schema import AvroField, AvroType
from edo_stream.schemas.breaks import Break

#: What each type can also be read as.
_PROMOTIONS: Final = {
    "int": ("long", "float", "double"),
    "long": ("float", "double"),
    "float": ("double",),
    "string": ("bytes",),
    "bytes": ("string",),
}
_TIMES: Final = ("date", "time-", "timestamp-", "local-timestamp-")


def avro_breaks(writer: AvroType, reader: AvroType) -> list[Break]:
    """Every place where the reader cannot resolve what the writer may write."""
    return list(dict.fromkeys(_find(writer, reader, "", frozenset())))


def _find(
    writer: AvroType, reader: AvroType, at: str, asked: frozenset[tuple[int, int]]
) -> Iterator[Break]:
    pair = (id(writer), id(reader))
    if pair in asked:
        return
    asked |= {pair}
    if writer.kind == "union":
        for branch in writer.branches:
            yield from _find(branch, reader, at, asked)
    elif reader.kind == "union":
        yield from _in_union(writer, reader, at, asked)
    elif reader.kind == writer.kind:
        yield from _same_kind(writer, reader, at, asked)
        yield from _logical(writer, reader, at)
    elif reader.kind in _PROMOTIONS.get(writer.kind, ()):
        yield from _logical(writer, reader, at)
    else:
        yield Break(at, "type-mismatch", f"the writer writes {writer}, the reader reads {reader}")


def _in_union(
    writer: AvroType, reader: AvroType, at: str, asked: frozenset[tuple[int, int]]
) -> Iterator[Break]:
    near: list[Break] | None = None
    for index, branch in enumerate(reader.branches):
        found = list(_find(writer, branch, f"{at}/{index}", asked))
        if not found:
            return
        is_same = branch.kind == writer.kind and _is_named_alike(writer, branch)
        near = found if is_same else near
    if near is not None:
        # The branch that was meant: say what is wrong within it.
        yield from near
        return
    text = f"no branch of the reader's {reader} reads the writer's {writer}"
    yield Break(at, "missing-union-branch", text)


def _same_kind(
    writer: AvroType, reader: AvroType, at: str, asked: frozenset[tuple[int, int]]
) -> Iterator[Break]:
    if reader.name and not _is_named_alike(writer, reader):
        text = (
            f"the writer's {writer.kind} is {writer.name}; the reader's {reader.name} is no alias"
        )
        yield Break(f"{at}/name", "name-mismatch", text)
        return
    match reader.kind:
        case "array" | "map":
            inner = "items" if reader.kind == "array" else "values"
            yield from _find(writer.branches[0], reader.branches[0], f"{at}/{inner}", asked)
        case "fixed" if writer.size != reader.size:
            text = f"the writer writes {writer.size} bytes, the reader reads {reader.size}"
            yield Break(f"{at}/size", "fixed-size-mismatch", text)
        case "enum":
            unknown = [symbol for symbol in writer.symbols if symbol not in reader.symbols]
            if unknown and reader.default_symbol is None:
                text = f"the reader has no {', '.join(unknown)}, and no default symbol"
                yield Break(f"{at}/symbols", "missing-enum-symbols", text)
        case "record":
            for index, wanted in enumerate(reader.fields):
                yield from _field(writer, wanted, f"{at}/fields/{index}", asked)
        case _:
            # Primitives of one kind.
            pass


def _field(
    writer: AvroType, wanted: AvroField, at: str, asked: frozenset[tuple[int, int]]
) -> Iterator[Break]:
    named = {field.name: field for field in writer.fields}
    aliased = [named[alias] for alias in wanted.aliases if alias in named]
    if wanted.name in named:
        yield from _find(named[wanted.name].type, wanted.type, f"{at}/type", asked)
    elif len(aliased) > 1:
        text = f"{wanted.name} has more than one of the writer's fields as its alias"
        yield Break(at, "ambiguous-alias", text)
    elif aliased:
        yield from _find(aliased[0].type, wanted.type, f"{at}/type", asked)
    elif not wanted.has_default:
        text = f"the writer has no {wanted.name}, and the reader no default for it"
        yield Break(at, "reader-field-missing-default", text)


def _is_named_alike(writer: AvroType, reader: AvroType) -> bool:
    own, other = reader.name.rpartition(".")[2], writer.name.rpartition(".")[2]
    return own == other or writer.name in reader.aliases


def _logical(writer: AvroType, reader: AvroType, at: str) -> Iterator[Break]:
    one, other = writer.logical, reader.logical
    if one is None or other is None:
        return
    if one == other == "decimal":
        written = (writer.precision, writer.scale)
        if written != (reader.precision, reader.scale):
            text = f"the writer's precision and scale are {written}, the reader's "
            text += f"{(reader.precision, reader.scale)}"
            yield Break(at, "decimal-mismatch", text)
    elif one != other and one.startswith(_TIMES) and other.startswith(_TIMES):
        text = f"the writer writes {one}, and the reader would take it for {other}"
        yield Break(f"{at}/logicalType", "time-unit-changed", text)
