"""Plan a burst: which record is sent when, decided by the profile's seed alone.

Theory of operation. Keys are drawn one after the other, and each draw hands the key's next
number to a record. A disturbed number steps aside: its successor is sent in its place, and the
number itself later (reordered, filled late) or never. Records that are due later wait in a
heap by the count of records sent; duplicates are put there the moment their original is sent,
so a duplicate never comes first.
"""

import heapq
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import Enum
from itertools import accumulate, count, repeat
from typing import Final

import msgspec

from load.profile import Profile

Headers = tuple[tuple[str, bytes], ...]

_DRAWN: Final = 4_096
_PADDING: Final = 8_192


class Kind(Enum):
    """Why a record is in the burst."""

    EVENT = "event"
    REORDERED = "reordered"
    FILLED_LATE = "filled late"
    DUPLICATE = "duplicate"
    UNDECODABLE = "undecodable"


class Flaw(Enum):
    """What is wrong with an undecodable record.

    All but ``SEQUENCE`` leave key and number readable and so take a number of their key:
    the dead letter fills its slot. A record with an unreadable number takes none.
    """

    BYTES = "data that is no text"
    JSON = "data that is cut off"
    NO_ID = "no ce_id"
    SEQUENCE = "a sequence that is no number"


_FLAWS: Final = tuple(Flaw)
_NOT_REPEATED: Final = frozenset({Kind.DUPLICATE, Kind.UNDECODABLE})
_ALPHABET: Final = b"abcdefghijklmnopqrstuvwxyz0123456789"


class Planned(msgspec.Struct, frozen=True, gc=False):
    """A record to send ``due_s`` seconds after the start.

    ``headers`` lack ``ce_time`` unless the profile has a ``base_ms``: the sender adds it.
    """

    due_s: float
    key: bytes
    value: bytes
    headers: Headers
    kind: Kind
    number: int | None
    """The number that the record takes of its key; ``None`` where it cannot be read."""


class _Draft(msgspec.Struct, frozen=True, gc=False):
    """A record without its time."""

    key: int
    number: int
    kind: Kind
    flaw: Flaw | None = None


def plan(profile: Profile) -> Iterator[Planned]:
    """Records of the burst in the order of sending."""
    writer = _Writer(profile)
    for draft, due_s in zip(_drafts(profile), _schedule(profile), strict=False):
        yield writer.planned(due_s, draft)


def key_of(profile: Profile, index: int) -> bytes:
    """Key, and subject, of the key with that index, from 0."""
    return b"load-%d-%06d" % (profile.seed, index)


def event_id(key: bytes, number: int) -> str:
    """Id of a key's event: of the seed, which the key names, the key and the number alone."""
    return f"{key.decode()}-{number}"


def _schedule(profile: Profile) -> Iterator[float]:
    """Due time of each record, in seconds from the start, without end."""
    if profile.rate is None:
        yield from repeat(0.0)
        return
    spikes = [(spike.at_s, spike.at_s + spike.duration_s, spike.factor) for spike in profile.spikes]
    due_s = 0.0
    while True:
        yield due_s
        rate = profile.rate
        for start_s, end_s, factor in spikes:
            if start_s <= due_s < end_s:
                rate *= factor
        due_s += 1 / rate


def _drafts(profile: Profile) -> Iterator[_Draft]:
    """Records in the order of sending, each duplicate after its original."""
    draw = random.Random(profile.seed + 1)
    ratio, distance_max = profile.duplicates, profile.duplicate_distance_max
    ties = count()
    waiting: list[tuple[int, int, _Draft]] = []  # due by the count of records sent
    sent = 0
    for aside_for, draft in _disturbed(profile):
        heapq.heappush(waiting, (sent + aside_for, next(ties), draft))
        while waiting and waiting[0][0] <= sent:
            one = heapq.heappop(waiting)[2]
            yield one
            sent += 1
            if one.kind not in _NOT_REPEATED and draw.random() < ratio:
                repeated = _Draft(one.key, one.number, Kind.DUPLICATE)
                due = sent + draw.randint(1, distance_max)
                heapq.heappush(waiting, (due, next(ties), repeated))
    while waiting:
        yield heapq.heappop(waiting)[2]


def _disturbed(profile: Profile) -> Iterator[tuple[int, _Draft]]:
    """Numbers as they are handed out, each with how many records it steps aside for."""
    draw = random.Random(profile.seed)
    never = profile.gaps_never
    late = never + profile.gaps_fill
    reorder = late + profile.reorder
    undecodable = reorder + profile.undecodable
    following = [1] * profile.keys
    left = profile.events
    for key in _keys(profile):
        if not left:
            return
        number = following[key]
        chance = draw.random()
        if number == 1 or chance >= undecodable or (left == 1 and chance < reorder):
            yield 0, _Draft(key, number, Kind.EVENT)
            following[key], left = number + 1, left - 1
            continue
        if chance >= reorder:
            yield 0, _Draft(key, number, Kind.UNDECODABLE, flaw := draw.choice(_FLAWS))
            if flaw is Flaw.SEQUENCE:
                yield 0, _Draft(key, number, Kind.EVENT)
            following[key], left = number + 1, left - 1
            continue
        if chance >= late:
            aside_for = draw.randint(1, profile.reorder_distance_max)
            yield aside_for, _Draft(key, number, Kind.REORDERED)
        elif chance >= never:
            yield profile.gap_fill_distance, _Draft(key, number, Kind.FILLED_LATE)
        yield 0, _Draft(key, number + 1, Kind.EVENT)
        following[key], left = number + 2, left - 2


def _keys(profile: Profile) -> Iterator[int]:
    """Indices of keys by the profile's distribution, without end."""
    draw = random.Random(profile.seed + 2)
    indices = range(profile.keys)
    weights = list(accumulate((index + 1) ** -profile.skew for index in indices))
    while True:
        yield from draw.choices(indices, cum_weights=weights, k=_DRAWN)


class _Writer:
    """Turns drafts into bytes: CloudEvents in Kafka's binary mode."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        draw = random.Random(profile.seed + 3)
        self._padding = bytes(draw.choices(_ALPHABET, k=_PADDING + profile.payload_bytes))
        self._specversion = ("ce_specversion", b"1.0")
        self._source = ("ce_source", b"/load/%d" % profile.seed)
        self._type = ("ce_type", profile.type.encode())
        self._content_type = ("content-type", b"application/json")

    def planned(self, due_s: float, draft: _Draft) -> Planned:
        key = key_of(self._profile, draft.key)
        headers = self._headers(due_s, key, draft)
        value = self._data(key, draft.number)
        if draft.flaw is not None:
            headers, value = _spoiled(draft.flaw, headers, value)
        number = None if draft.flaw is Flaw.SEQUENCE else draft.number
        return Planned(due_s, key, value, headers, draft.kind, number)

    def _headers(self, due_s: float, key: bytes, draft: _Draft) -> Headers:
        written: Headers = (
            self._specversion,
            ("ce_id", b"%b-%d" % (key, draft.number)),
            self._source,
            self._type,
            ("ce_subject", key),
            ("ce_sequence", b"%d" % draft.number),
            self._content_type,
        )
        if self._profile.base_ms is None:
            return written
        return (*written, ("ce_time", time_of(self._profile.base_ms + int(due_s * 1_000))))

    def _data(self, key: bytes, number: int) -> bytes:
        amount_cents = number * 7_919 % 100_000
        bare = b'{"account":"%b","number":%d,"amount_cents":%d,"note":"' % (
            key,
            number,
            amount_cents,
        )
        room = max(0, self._profile.payload_bytes - len(bare) - 2)
        start = number * 1_009 % _PADDING
        return b'%b%b"}' % (bare, self._padding[start : start + room])


def time_of(at_ms: int) -> bytes:
    """Write a time of CloudEvents: RFC 3339, in milliseconds, UTC."""
    at = datetime.fromtimestamp(at_ms / 1_000, UTC)
    return at.strftime(f"%Y-%m-%dT%H:%M:%S.{at_ms % 1_000:03d}Z").encode()


def _spoiled(flaw: Flaw, headers: Headers, value: bytes) -> tuple[Headers, bytes]:
    match flaw:
        case Flaw.BYTES:
            return headers, b"\xff\xfe\x00" + value[::-1]
        case Flaw.JSON:
            return headers, value[: len(value) // 2]
        case Flaw.NO_ID:
            return tuple(header for header in headers if header[0] != "ce_id"), value
        case Flaw.SEQUENCE:
            spoilt = {"ce_sequence": b"seven", "ce_id": dict(headers)["ce_id"] + b"-spoilt"}
            return tuple((name, spoilt.get(name, text)) for name, text in headers), value
