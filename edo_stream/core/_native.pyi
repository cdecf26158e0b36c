"""Types of the compiled half; what each does is said in ``_native.pyx``."""

from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from typing import Any, Final, overload

from edo_stream.core import effects
from edo_stream.core.accounts import Fate, Run
from edo_stream.core.correlation.feed import Feed
from edo_stream.core.correlation.rows import EventRows, WaitRow
from edo_stream.core.correlation.waits import Waits
from edo_stream.core.effects import Publish
from edo_stream.core.event import Decoded, Event, Violation
from edo_stream.core.facts import Facts
from edo_stream.core.held import HeldNow
from edo_stream.core.lookup.path import Path
from edo_stream.core.record import Headers, Record
from edo_stream.core.routing import Router
from edo_stream.core.sequence import SequenceRow
from edo_stream.core.task import SourceRow
from edo_stream.core.trigger import Trigger

BUILD: Final[int]
KEY_IS_RECORD: Final[int]
KEY_IS_SUBJECT: Final[int]
POSITION_IS_NONE: Final[int]
POSITION_IS_TIME: Final[int]
POSITION_IS_HEADER: Final[int]

class Corrupt(Exception): ...  # noqa: N818 - named as the format's error is

class FetchedRecord:
    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Headers: ...
    @property
    def size_bytes(self) -> int: ...
    def mentions(self, text: bytes) -> bool: ...

def read_records(
    topic: str,
    partition: int,
    data: bytes | memoryview,
    count: int,
    base_offset: int,
    first_ms: int,
    appended_ms: int,
    from_offset: int,
) -> list[FetchedRecord]: ...
def as_is_size(data: bytes) -> int: ...
def is_plain_object(data: bytes) -> bool: ...
def size_of(records: Iterable[Record], each: int) -> int: ...
def by_place(publish: Iterable[Publish]) -> dict[tuple[str, int], list[Publish]]: ...

HAS_CRC32C: Final[bool]

def crc32c(data: bytes | bytearray | memoryview) -> int: ...

class PlainDecoder:
    def __init__(
        self,
        key: int,
        position: int,
        is_needed: bool,
        position_name: bytes,
        media_of: Callable[[bytes | None], tuple[str | None, bool] | None],
        time_of: Callable[[bytes], tuple[int, bytes | None] | None],
    ) -> None: ...

class PlainJudge:
    def __init__(
        self,
        noted: Iterable[str],
        expiry: str,
        verdict_of: Callable[[str, bytes], int],
        must_say: bool,
        sources: Set[str] | None,
        is_valid: Callable[[Any], bool] | None,
        loads: Callable[[bytes], Any],
        now_ms: Callable[[], int],
        until_ms: int,
    ) -> None: ...

class PlainFirst:
    def __init__(self, decoder: PlainDecoder, slow: Callable[[Record], Decoded]) -> None: ...
    def under(
        self,
        judge: PlainJudge,
        slow: Callable[[Record], Decoded],
        judged: Callable[[Event], Decoded],
        unsampled: int,
    ) -> PlainFirst: ...
    def __call__(self, record: Record) -> Decoded: ...
    def extend(self, outcomes: list[Decoded], records: Sequence[Record]) -> None: ...

def ids_rows(key: bytes, value: bytes | None) -> list[tuple[bytes, bytes | None]]: ...
def ids_names(digests: list[bytes]) -> list[bytes]: ...

class SourceIdDigest:
    def __init__(self, start: bytes, slow: Callable[[Event], bytes | Violation]) -> None: ...
    def of_all(self, judged: list[Decoded]) -> list[bytes]: ...

class WireHeaders(Sequence[tuple[str, bytes | None]]):
    @property
    def size_bytes(self) -> int: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[tuple[str, bytes | None]]: ...
    @overload
    def __getitem__(self, index: int) -> tuple[str, bytes | None]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[tuple[str, bytes | None]]: ...

class ResultHeaders:
    def __init__(
        self, id_start: bytes, source: bytes, place: bytes, reserved: Iterable[str]
    ) -> None: ...
    def of(self, offset: int, event: Event, is_late: bool) -> WireHeaders | None: ...

KEY_IS_EVENT: Final[int]
KEY_IS_POINTER: Final[int]

class PlainKey:
    def __init__(self, place: int, tokens: Iterable[str]) -> None: ...

class PlainCommand:
    def __init__(
        self,
        ids: ResultHeaders,
        key: PlainKey,
        topic: str,
        partitions: int,
        bytes_max: int,
        flow: bytes,
        reserved: Iterable[str],
        time_text: Callable[[int], bytes | None],
    ) -> None: ...

class PlainFeed:
    def __init__(
        self,
        key: PlainKey,
        member: PlainKey | None,
        topic: str,
        partitions: int,
        bytes_max: int,
        place: bytes,
        start: bytes,
        end: bytes,
    ) -> None: ...

class PlainRouter:
    def __init__(
        self,
        triggers: Sequence[Trigger | Feed | Path],
        writers: Sequence[PlainCommand | PlainFeed | None],
        always: Iterable[int],
        choose: Callable[[Facts], list[int]] | None,
        facts_of: Callable[[Event], Facts],
    ) -> None: ...
    def commands(self, record: Record, event: Event, now_ms: int) -> list[Publish]: ...

class PlainOrder:
    def __init__(
        self,
        prefix: bytes,
        rows: tuple[dict[bytes, SequenceRow | None], dict[bytes, None]],
        held: tuple[bytes, dict[bytes, dict[int, int]], dict[bytes, HeldNow]],
        timers: tuple[bytes, set[bytes], set[bytes]],
        bounds: tuple[int, int, int, int],
        gap_timeout_ms: int | None,
    ) -> None: ...

class PlainWay:
    def __init__(
        self,
        headers: ResultHeaders,
        topic: str,
        partition: int,
        fates: tuple[Fate, Fate, Fate],
        redrive: bytes,
        bytes_max: int,
        order: PlainOrder | None,
        router: Router | PlainRouter | None,
    ) -> None: ...
    @property
    def stream_ms(self) -> int: ...
    @property
    def written_bytes(self) -> int: ...
    def take(
        self,
        records: Sequence[Record],
        judged: list[Decoded],
        digests: list[bytes],
        known: list[bytes | None],
        start: int,
        now_ms: int,
        stream_ms: int,
        ahead_ms: int,
        until_ms: int,
        expiry_s: int,
        fresh: dict[bytes, int] | None,
        of_expiry: list[bytes] | None,
        offsets: list[int],
        fates: list[Fate],
        times_ms: list[int],
        last_offset: int,
        publish: list[Publish],
        output: WireOutput | None,
        written_max: int,
        written_bytes_max: int,
        source: SourceRow,
    ) -> int: ...

def time_text_of(time_ms: int) -> bytes: ...

WAITS_FOR_ALL: int
WAITS_IN_ORDER: int
WAITS_FOR_COUNT: int

class PlainWait:
    def __init__(
        self,
        waits: Waits,
        timers: tuple[bytes, bytes, set[bytes], set[bytes]],
        kind: int,
        names: Sequence[str],
        needed: int,
        members: Sequence[str] | None,
        times_ms: tuple[int, int, int],
        bounds: tuple[int, int, int],
        ways: tuple[bool, bool],
        says: tuple[bytes, bytes | None, bytes, bytes, bytes, bytes, str, int, int],
    ) -> None: ...

class PlainWaits:
    def __init__(
        self,
        flows: dict[bytes, PlainWait],
        rows: tuple[dict[bytes, WaitRow | None], dict[bytes, None]],
        row_of: Callable[[bytes], WaitRow | None],
        events: EventRows,
        held: Fate,
        emitted: Fate,
        last: bytes,
    ) -> None: ...
    @property
    def stream_ms(self) -> int: ...
    @property
    def written_bytes(self) -> int: ...
    def take(
        self,
        records: Sequence[Record],
        start: int,
        now_ms: int,
        stream_ms: int,
        ahead_ms: int,
        offsets: list[int],
        fates: list[Fate],
        last_offset: int,
        settled: list[tuple[int, Fate]],
        read_from: int,
        publish: list[Publish],
        output: WireOutput | None,
        written_max: int,
        written_bytes_max: int,
    ) -> int: ...

def sha1(data: bytes, is_by_processor: bool) -> bytes: ...
def runs_of(
    offsets: list[int], fates: list[Fate], make: Callable[[int, int, str], Run]
) -> tuple[Run, ...]: ...

class RecordsWriter:
    @property
    def count(self) -> int: ...
    @property
    def first_ms(self) -> int: ...
    @property
    def max_ms(self) -> int: ...
    @property
    def size(self) -> int: ...
    def fill(self, items: Sequence[Publish], start: int, bytes_max: int) -> int: ...
    def fill_rows(
        self,
        items: Sequence[tuple[bytes, bytes | None]],
        start: int,
        timestamp_ms: int,
        bytes_max: int,
    ) -> int: ...
    def adopt(self, records: effects.WireRecords) -> None: ...
    def view(self) -> memoryview: ...

class WireRecords:
    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def size_bytes(self) -> int: ...
    def __len__(self) -> int: ...
    def records(self) -> list[Publish]: ...

class WireOutput:
    @property
    def count(self) -> int: ...
    @property
    def size_bytes(self) -> int: ...
    def begin(self) -> None: ...
    def take(self) -> list[WireRecords]: ...

class Frame:
    def __init__(self, size: int) -> None: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
    def take(self) -> bytes: ...

class IdSet:
    def __len__(self) -> int: ...
    def add(self, record: bytes) -> None: ...
    def remove(self, record: bytes) -> None: ...
    def recall(self, digests: list[bytes]) -> list[bytes | None]: ...
