"""How large a record may be: what its topic takes, and what becomes of one that is larger.

A broker refuses a record beyond its topic's ``max.message.bytes``, again and again: the transaction
that has it can never be committed. So whatever is made of somebody's data is measured before it is
written, and by its kind

- an event on its way, such as a command, becomes a dead letter instead,
- a dead letter goes by reference: without its data, and without headers that are long,
- an end, such as an outcome, goes without its data: what has happened is told all the same.

Sizes are of records as they are, before compression, which a topic's limit is on after it.
"""

from collections.abc import Iterable
from typing import Final

import msgspec
from msgspec.structs import replace

from edo_stream.core.effects import Publish
from edo_stream.core.headers import JSON_CONTENT, Header, size_of

FRAME_BYTES: Final = 1_024
"""Of what a topic takes: a record's frame, and its place in a batch."""
HEADROOM_BYTES: Final = 64 * 1_024
"""By which a topic's limit is above that of the topic before it, for what is added to a record."""
KEY_BYTES_MAX: Final = 1_024
"""Of what goes by reference; a longer key is left out."""
_HEADER_BYTES_MAX: Final = 4 * 1_024
_HEADERS_BYTES_MAX: Final = 32 * 1_024


def bytes_of(record: Publish) -> int:
    """Size of a record without its frame."""
    return len(record.key or b"") + len(record.value or b"") + size_of(record.headers)


def fits(record: Publish, bytes_max: int) -> bool:
    """Whether a topic that takes so many bytes takes a record."""
    return bytes_of(record) <= bytes_max - FRAME_BYTES


def short(headers: Iterable[Header]) -> list[Header]:
    """Those of the headers, in their order, that are short, as far as all of them are."""
    found: list[Header] = []
    left = _HEADERS_BYTES_MAX
    for header in headers:
        size_bytes = size_of([header])
        if size_bytes <= min(left, _HEADER_BYTES_MAX):
            found.append(header)
            left -= size_bytes
    return found


def left_out(size_bytes: int) -> bytes:
    """The data of an event whose own was too large to be written."""
    return msgspec.json.encode({"left_out": {"bytes": size_bytes}})


def fitting_end(end: Publish, bytes_max: int) -> Publish:
    """An end as a topic that takes so many bytes takes it: too large, without its data."""
    if fits(end, bytes_max):
        return end
    headers = [header for header in end.headers if header[0] != JSON_CONTENT[0]]
    headers.append(JSON_CONTENT)
    cut = replace(end, value=left_out(len(end.value or b"")), headers=headers)
    return cut if fits(cut, bytes_max) else replace(cut, headers=short(headers))


def fitting_letter(letter: Publish, why: Iterable[Header], bytes_max: int) -> Publish:
    """A dead letter with the reasons ``why``, too large for its topic by reference."""
    whole = replace(letter, headers=[*letter.headers, *why])
    if fits(whole, bytes_max):
        return whole
    key = letter.key if len(letter.key or b"") <= KEY_BYTES_MAX else b""
    headers = [*short(letter.headers), *short(why), ("edo-reference", b"true")]
    return replace(letter, key=key, value=None, headers=headers)
