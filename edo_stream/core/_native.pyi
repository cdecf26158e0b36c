"""Types of the compiled half; what each does is said in ``_native.pyx``."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, overload

from edo_stream.core.effects import Publish
from edo_stream.core.event import Decoded, Event, Violation
from edo_stream.core.record import Headers

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
def is_plain_object(data: bytes) -> bool: ...

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
    def decode(self, record: FetchedRecord) -> Event | None: ...

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
    def view(self) -> bytes: ...
