"""The versions of one topic's schema: which one data is of, whether it is, and data of another.

An event says its version in ``dataschema`` (``…/v2``, ``…#2``, ``v2.schema.json``) or in the
attribute or header ``dataschemaversion``. One that says none is taken to be of the newest version.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import msgspec
import orjson

from edo_stream.core.exact import exact
from edo_stream.schemas.casting import Cast, Step, cast_of, undone
from edo_stream.schemas.compatibility import SchemaFormat
from edo_stream.schemas.defaults import filler
from edo_stream.schemas.errors import SchemaError
from edo_stream.schemas.json_document import document
from edo_stream.schemas.validators import AvroCodec, Fault, JsonCheck

_NUMBER: Final = re.compile(r"(?:^|[/:#=])v?([1-9][0-9]{0,5})(?:\.schema\.json|\.avsc)?$")
#: Numbers keep every digit when data is written anew.
_EXACT: Final = msgspec.json.Decoder(float_hook=exact)
_WRITER: Final = msgspec.json.Encoder(decimal_format="number")
NO_DATA: Final = b"null"


def _same(value: Any) -> Any:
    return value


def named_version(text: str) -> int | None:
    """The version that a ``dataschema`` ends with; ``None`` if it names none."""
    found = _NUMBER.search(text)
    return None if found is None else int(found[1])


def with_version(text: str, number: int) -> str:
    """A ``dataschema`` that names another version than it did."""
    before = str(named_version(text))
    head, _, tail = text.rpartition(before)
    return f"{head}{number}{tail}"


@dataclass(frozen=True, slots=True)
class Declared:
    """One version as it is declared."""

    number: int
    schema: Any
    up: Sequence[Step] = ()
    """From the version before."""
    down: Sequence[Step] | None = None
    """To the version before; ``None`` undoes ``up``."""


@dataclass(frozen=True, slots=True)
class _Hop:
    """The way from one version to its neighbour."""

    to: int
    cast: Cast | None
    """``None`` where there is nothing to do."""


class Versions:
    """All versions of one schema, compiled."""

    def __init__(
        self, schema_format: SchemaFormat, declared: Sequence[Declared], is_row: bool = False
    ) -> None:
        """Compile all of them; with ``is_row``, data is a change of a row and the schema the row's.

        Raises:
            SchemaError: names the version, and what is wrong with it.
        """
        assert declared, "a schema has a version"
        ordered = sorted(declared, key=lambda version: version.number)
        self.numbers = tuple(version.number for version in ordered)
        self.newest = self.numbers[-1]
        self.is_avro = schema_format is SchemaFormat.AVRO
        self._up = {v.number: _Hop(w.number, _up(w)) for v, w in pairwise(ordered)}
        self._down: dict[int, Callable[[], _Hop]] = {
            w.number: _lowered(v.number, w) for v, w in pairwise(ordered)
        }

        def compiled(schema: Any) -> _Json | _Avro:
            return _Avro(schema) if self.is_avro else _Json(schema, is_row)

        self._data: Mapping[int, _Json | _Avro] = {
            version.number: _named(version.number, compiled, version.schema) for version in ordered
        }

    @property
    def checks(self) -> dict[int, Callable[[bytes], Fault | None]]:
        """What finds the first fault of data, by version."""
        return {number: data.fault for number, data in self._data.items()}

    def plain_check(self, number: int) -> Callable[[bytes], bool] | None:
        """What tells at least cost that data is valid; ``None`` for data that is not plain JSON."""
        found = self._data[number]
        return found.is_valid if isinstance(found, _Json) and not found.is_row else None

    def plain_validator(self, number: int) -> Callable[[Any], bool] | None:
        """The same of data that was read already."""
        found = self._data[number]
        return found.is_valid_value if isinstance(found, _Json) and not found.is_row else None

    def require_way(self, number: int) -> None:
        """Check at start that data of every version can become data of this one.

        Raises:
            SchemaError: a step down cannot be undone.
        """
        for higher in self.numbers:
            if higher > number:
                self._down[higher]()

    def cast(self, number: int, target: int, data: bytes) -> bytes | Fault:
        """Valid data of one version as data of another; a fault of the result says so."""
        try:
            found = self._cast(number, target, data)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - a step's own function may raise anything
            return Fault("", "cast", f"v{number} cannot become v{target}: {type(error).__name__}")
        fault = self._data[target].fault(found)
        if fault is None:
            return found
        text = f"made of v{number}: {fault.rule}: {fault.message}"
        return Fault(fault.pointer, "cast", text)

    def filled(self, number: int, data: bytes) -> bytes | None:
        """Data with the defaults of a version, where it has any; ``None`` if nothing changes."""
        found = self._data[number].filled(data)
        return None if found is None or self._data[number].fault(found) else found

    def _cast(self, number: int, target: int, data: bytes) -> bytes:
        hops = list(self._hops(number, target))
        if all(hop.cast is None for hop in hops):
            return self._data[target].resolved(self._data[number], data)
        before = self._data[number]
        for hop in hops:
            after = self._data[hop.to]
            if hop.cast is None:
                data = after.resolved(before, data)
            else:
                data = after.written(before.read(data, hop.cast))
            before = after
        return data

    def _hops(self, number: int, target: int) -> Sequence[_Hop]:
        found: list[_Hop] = []
        while number != target:
            hop = self._up[number] if number < target else self._down[number]()
            found.append(hop)
            number = hop.to
        return found


class _Json:
    """JSON data of one version."""

    def __init__(self, schema: Any, is_row: bool) -> None:
        self._check = JsonCheck(schema)
        self._fill = filler(document(schema))
        self.is_row = is_row
        self.is_valid_value = is_valid = self._check.is_valid
        loads = orjson.loads

        def is_valid_json(data: bytes) -> bool:
            try:
                return is_valid(loads(data))
            except orjson.JSONDecodeError:
                return False

        self.is_valid = is_valid_json

    def fault(self, data: bytes) -> Fault | None:
        try:
            value = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            return Fault("", "json", f"not JSON: {error.msg} at byte {error.pos}")
        if self.is_row and isinstance(value, dict) and "op" in value:
            # Of a deleted row there may be its key only.
            row = value.get("after")
            fault = None if row is None else self._check.fault(row)
            return fault and Fault(f"/after{fault.pointer}", fault.rule, fault.message)
        return self._check.fault(value)

    def read(self, data: bytes, cast: Cast = _same) -> Any:
        return self._changed(_EXACT.decode(data), cast)

    def written(self, value: Any) -> bytes:
        if self._fill is not None:
            value = self._changed(value, self._filled)
        return _WRITER.encode(value)

    def resolved(self, _before: Any, data: bytes) -> bytes:
        return data if self._fill is None else self.written(self.read(data))

    def _filled(self, value: Any) -> Any:
        assert self._fill is not None
        self._fill(value)
        return value

    def _changed(self, value: Any, cast: Cast) -> Any:
        if not self.is_row or not isinstance(value, dict) or "op" not in value:
            return cast(value)
        for name in ("before", "after"):
            if isinstance(value.get(name), dict):
                value[name] = cast(value[name])
        return value

    def filled(self, data: bytes) -> bytes | None:
        if self._fill is None:
            return None
        try:
            return self.written(self.read(data))
        except (ValueError, RecursionError):
            return None


class _Avro:
    """Avro data of one version."""

    def __init__(self, schema: Any) -> None:
        self._codec = AvroCodec(schema)

    def fault(self, data: bytes) -> Fault | None:
        try:
            self._codec.decode(data)
        except ValueError as error:
            return Fault("", "avro", str(error))
        return None

    def read(self, data: bytes, cast: Cast = _same) -> Any:
        return cast(self._codec.decode(data))

    def written(self, value: Any) -> bytes:
        return self._codec.encode(value)

    def resolved(self, before: Any, data: bytes) -> bytes:
        return self._codec.encode(before._codec.decode(data, self._codec))  # noqa: SLF001

    def filled(self, _data: bytes) -> bytes | None:
        return None


def _named(number: int, make: Callable[[Any], Any], schema: Any) -> Any:
    try:
        return make(schema)
    except SchemaError as error:
        raise SchemaError(f"v{number}: {error}") from None


def _up(version: Declared) -> Cast | None:
    return cast_of(version.up, f"upcast to v{version.number}") if version.up else None


def _lowered(to: int, version: Declared) -> Callable[[], _Hop]:
    """The way down, compiled when it is asked for: most topics never cast down."""
    found: list[_Hop] = []

    def hop() -> _Hop:
        if not found:
            where = f"downcast from v{version.number}"
            steps = undone(version.up, where) if version.down is None else version.down
            found.append(_Hop(to, cast_of(steps, where) if steps else None))
        return found[0]

    return hop
