"""A contract enforced: around a topic's decoder, so that nothing behind it sees what breaks it.

For each event, in this order, the first that fails decides:

1. ``sunset``: the contract is out of use. ``expired``: the event's own ``expirytime`` is over.
2. ``producer``: its source is none of the contract's producers'.
3. ``version``: it names a version that there is none of, or one out of use.
4. its data breaks the schema of its version (the schema's keyword is the rule);
5. ``cast``: it cannot be made into the version that results have.

What passes is an event of the newest version, or of the one that results are pinned to. What fails
is a violation that says contract, version, place and rule, in words and in headers of the dead
letter, and is counted. Under the policy ``warn`` it is counted and goes on as it came.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import orjson

from edo_stream.core.event import Decoded, Event, Violation
from edo_stream.core.native import IS_COMPILED
from edo_stream.core.partitioner import partition_of
from edo_stream.core.record import Record, StoredRecord
from edo_stream.core.remembering import remembered
from edo_stream.schemas.validators import Fault
from edo_stream.schemas.versions import NO_DATA, Versions, named_version, with_version
from edo_stream.schemas.wire import GUID_HEADER, unframed

if IS_COMPILED:
    from edo_stream.core._native import PlainFirst, PlainJudge

Decode = Callable[[Record], Decoded]
DATASCHEMA: Final = "ce_dataschema"
VERSION_HEADERS: Final = ("ce_dataschemaversion", "dataschemaversion")
_SAYING: Final = frozenset({DATASCHEMA, *VERSION_HEADERS})
_NOTED: Final = _SAYING | {"ce_expirytime", "ce_producer"}
_DIGITS_MAX: Final = 9
_UNSAMPLED: Final = 63
"""Bits of an offset that are 0 for one record of so many and one."""
_EXPIRY: Final = "ce_expirytime"
_PRODUCER: Final = "ce_producer"
#: What a violation's ``reason`` is; anything else is a rule of the schema itself.
_REASONS: Final = ("sunset", "expired", "producer", "version")
SCHEMA: Final = "schema"


@dataclass(frozen=True, slots=True)
class ContractRules:
    """What is enforced of one contract."""

    contract: str
    versions: Versions | None = None
    pinned: int | None = None
    """Version of the results; ``None`` is the newest."""
    is_framed: bool = False
    """Data comes in Confluent's wire format."""
    ids: Mapping[int, int] = field(default_factory=dict)
    """Versions by id of the schema registry; without any, an id says nothing."""
    producers: frozenset[str] = frozenset()
    """Names that an event's attribute ``producer`` may have; empty: any."""
    sources: frozenset[str] = frozenset()
    """Sources that an event may have; empty: any."""
    sunset_ms: int | None = None
    sunset_versions: Mapping[int, int] = field(default_factory=dict)
    """When a version is out of use, in epoch ms."""
    warn_until_ms: int | None = None
    """Violations are counted only, before this time; ``None``: never."""
    partitions: int = 0
    """Of the topic; 0 samples no keys."""

    @property
    def target(self) -> int | None:
        """Version of what goes on."""
        return None if self.versions is None else self.pinned or self.versions.newest


class Tally:
    """What was found since the process began."""

    def __init__(self) -> None:
        self.sampled: Counter[tuple[str, ...]] = Counter()
        """Keys that were compared with the partition that they came on, by contract."""
        self.misplaced: Counter[tuple[str, ...]] = Counter()
        """Those that Kafka's own partitioner would have put on another one."""
        self.violations: Counter[tuple[str, ...]] = Counter()
        """By contract, version, rule, and the policy that decided: ``dead-letter``, ``warn``."""
        self.cast: Counter[tuple[str, ...]] = Counter()
        """Events that were made into another version: contract, from, to."""


@dataclass(frozen=True, slots=True)
class _Broken:
    """A fault, and the version that it was found with."""

    fault: Fault
    version: int | None = None


def enforced(
    decode: Decode, rules: ContractRules, now_ms: Callable[[], int], tally: Tally
) -> Decode:
    """Wrap a decoder; the clock is read only for events and contracts that can expire."""
    judge = _Judge(rules, now_ms, tally)
    is_plain = _plain_check(rules)
    unsampled = _UNSAMPLED if rules.partitions else -1

    def decode_enforced(record: Record) -> Decoded:
        version = None
        if not record.offset & unsampled:
            _sample(record, rules, tally)
        if rules.is_framed and record.value is not None:
            try:
                version, record = judge.unframed(record)
            except ValueError as error:
                return judge.refused(_Broken(Fault("", "frame", str(error))), record.key, None)
        outcome = decode(record)
        if type(outcome) is not Event or (is_plain is not None and is_plain(outcome)):
            return outcome
        return judge.judged(outcome, version)

    if IS_COMPILED and type(decode) is PlainFirst and not rules.is_framed:
        plain_judge = _plain_judge(rules, judge, now_ms)
        if plain_judge is not None:
            return decode.under(plain_judge, decode_enforced, judge.judged, unsampled)
    return decode_enforced


def _sample(record: Record, rules: ContractRules, tally: Tally) -> None:
    """Compare a key with its partition: a producer that hashes otherwise scatters its events."""
    if record.key is not None and rules.partitions:
        tally.sampled[(rules.contract,)] += 1
        if partition_of(record.key, rules.partitions) != record.partition:
            tally.misplaced[(rules.contract,)] += 1


def _plain_check(rules: ContractRules) -> Callable[[Event], bool] | None:
    """Tell at least cost the events that nearly all are: valid, of the version that goes on.

    It says yes only where the judge would let the event go on unchanged; ``None`` where it never
    could.
    """
    versions, target, sources = rules.versions, rules.target, rules.sources
    if versions is None or target is None or rules.is_framed or rules.sunset_ms is not None:
        return None
    is_valid = versions.plain_check(target)
    if is_valid is None or target in rules.sunset_versions:
        return None
    is_newest = target == versions.newest

    def is_plain(event: Event) -> bool:
        is_said = is_newest
        for name, value in event.extensions:
            if name in _NOTED:
                if name != DATASCHEMA or not value or _version_in(name, value) != target:
                    return False
                is_said = True
        data = event.data
        if not is_said or data is None or (sources and event.source not in sources):
            return False
        return is_valid(data)

    return is_plain


def _plain_judge(
    rules: ContractRules, judge: "_Judge", now_ms: Callable[[], int]
) -> "PlainJudge | None":
    """The compiled judge, which lets pass what this one would let go on unchanged."""
    versions, target = rules.versions, rules.target
    noted: Set[str] = {_EXPIRY, _PRODUCER}
    is_valid = None
    ends_ms = [] if rules.sunset_ms is None else [rules.sunset_ms]
    if versions is not None and target is not None:
        is_valid = versions.plain_validator(target)
        if is_valid is None:
            return None
        noted |= _SAYING
        if target in rules.sunset_versions:
            ends_ms.append(rules.sunset_versions[target])

    def verdict_of(name: str, value: bytes) -> int:
        if name == _PRODUCER:
            return int(judge.is_producer(value))
        return 2 if value and _version_in(name, value) == target else 0

    return PlainJudge(
        noted,
        _EXPIRY,
        verdict_of,
        versions is not None and target != versions.newest,
        rules.sources or None,
        is_valid,
        orjson.loads,
        now_ms,
        min(ends_ms, default=-1),
    )


class _Judge:
    def __init__(self, rules: ContractRules, now_ms: Callable[[], int], tally: Tally) -> None:
        self._rules = rules
        self._now_ms = now_ms
        self._tally = tally
        self._versions = rules.versions
        self._target = rules.target
        self._checks = {} if rules.versions is None else rules.versions.checks
        self._retired = rules.sunset_versions

    def judged(self, event: Event, version: int | None = None) -> Event | Violation:
        """An event of the contract as it goes on, or why it does not."""
        found = self._broken(event) or self._of_schema(event, version)
        if isinstance(found, _Broken):
            if self._is_warned():
                self._count(found, "warn")
                return event
            return self.refused(found, event.key, event.position)
        return found

    def refused(self, broken: _Broken, key: bytes | None, position: int | None) -> Violation:
        """Count a violation and say it."""
        self._count(broken, "dead-letter")
        fault, contract = broken.fault, self._rules.contract
        version = "" if broken.version is None else str(broken.version)
        reason = fault.rule if fault.rule in _REASONS else SCHEMA
        name = f"{contract} v{version}" if version else contract
        place = fault.pointer or "/"
        return Violation(
            reason,
            f"{name}: {place}: {fault.message} [{fault.rule}]",
            key,
            position,
            (
                ("edo-contract", contract.encode()),
                ("edo-version", version.encode()),
                ("edo-pointer", fault.pointer.encode("utf-8", "replace")),
                ("edo-rule", fault.rule.encode()),
            ),
        )

    def unframed(self, record: Record) -> tuple[int | None, Record]:
        """The version that a frame names, and the record without it."""
        assert record.value is not None
        if any(name == GUID_HEADER for name, _ in record.headers):
            return None, record
        schema_id, data = unframed(record.value)
        version = self._rules.ids.get(schema_id)
        if version is None and self._rules.ids:
            raise ValueError(f"schema id {schema_id} is none of this contract's")
        place = (record.topic, record.partition, record.offset, record.timestamp)
        return version, StoredRecord(*place, record.key, data, tuple(record.headers))

    def _broken(self, event: Event) -> _Broken | None:
        """What is wrong around the data."""
        rules = self._rules
        if rules.sunset_ms is not None and self._now_ms() >= rules.sunset_ms:
            return _Broken(Fault("", "sunset", "the contract is out of use"))
        for name, value in event.extensions:
            if name == _EXPIRY and self._is_over(value):
                return _Broken(Fault("", "expired", "its expirytime is over"))
            if name == _PRODUCER and not self.is_producer(value):
                return _Broken(Fault("", "producer", "its producer is none of the contract's"))
        if rules.sources and event.source not in rules.sources:
            known = ", ".join(sorted(rules.sources))
            said = f"its source is of none of the producers, whose sources are {known}"
            return _Broken(Fault("", "producer", said))
        return None

    def _is_over(self, expiry: bytes | None) -> bool:
        expiry_ms = _time_ms(expiry)
        return expiry_ms is not None and self._now_ms() >= expiry_ms

    def is_producer(self, name: bytes | None) -> bool:
        """Whether the contract's producers have one of that name."""
        known = self._rules.producers
        return not known or (name or b"").decode("utf-8", "replace") in known

    def _of_schema(self, event: Event, framed: int | None) -> Event | _Broken:
        versions = self._versions
        if versions is None or self._target is None:
            return event
        said = _said(event) if framed is None else framed
        number = versions.newest if said is None else said
        data = NO_DATA if event.data is None else event.data
        check = self._checks.get(number)
        fault = self._version_fault(number) if number in self._retired or check is None else None
        if fault is None and check is not None:
            fault = check(data)
        if fault is not None:
            # Data of an older version may lack what the newest has a default for.
            filled = versions.filled(number, data) if said is None else None
            if filled is None:
                return _Broken(fault, number)
            event.data = data = filled
        return event if number == self._target else self._cast(event, data, number, self._target)

    def _version_fault(self, number: int) -> Fault | None:
        if number not in self._checks:
            return Fault("", "version", f"there is no version {number}")
        is_over = self._now_ms() >= self._retired[number]
        return Fault("", "version", f"version {number} is out of use") if is_over else None

    def _cast(self, event: Event, data: bytes, number: int, target: int) -> Event | _Broken:
        assert self._versions is not None
        cast = self._versions.cast(number, target, data)
        if isinstance(cast, Fault):
            return _Broken(cast, number)
        self._tally.cast[self._rules.contract, str(number), str(target)] += 1
        event.data = cast
        event.extensions = _renumbered(event.extensions, target)
        return event

    def _is_warned(self) -> bool:
        until_ms = self._rules.warn_until_ms
        return until_ms is not None and self._now_ms() < until_ms

    def _count(self, broken: _Broken, policy: str) -> None:
        version = "" if broken.version is None else str(broken.version)
        self._tally.violations[self._rules.contract, version, broken.fault.rule, policy] += 1


def _said(event: Event) -> int | None:
    """The version that an event says it is of."""
    found = None
    for name, value in event.extensions:
        if name in _SAYING and value:
            found = _version_in(name, value)
            if name != DATASCHEMA:
                return found
    return found


@remembered(1_024)
def _version_in(name: str, value: bytes) -> int | None:
    text = value.decode("utf-8", "replace")
    if name == DATASCHEMA:
        return named_version(text)
    number = text.removeprefix("v")
    # A version that is no number is none that there is.
    is_number = number.isascii() and number.isdigit() and len(number) <= _DIGITS_MAX
    return int(number) if is_number else 0


def _renumbered(
    extensions: tuple[tuple[str, bytes], ...], number: int
) -> tuple[tuple[str, bytes], ...]:
    return tuple((name, _renamed(name, value, number)) for name, value in extensions)


def _renamed(name: str, value: bytes, number: int) -> bytes:
    if name in VERSION_HEADERS:
        return b"%d" % number
    text = value.decode("utf-8", "replace") if name == DATASCHEMA and value else ""
    return with_version(text, number).encode() if named_version(text) is not None else value


def _time_ms(value: bytes | None) -> int | None:
    """Epoch ms of an RFC 3339 time; ``None`` for what is none: an attribute of nobody's concern."""
    try:
        found = datetime.fromisoformat((value or b"").decode())
    except ValueError:
        return None
    return int(found.timestamp() * 1000) if found.tzinfo is not None else None
