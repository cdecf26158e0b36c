"""What must be true, whatever happened: looked at with the eyes of a ``read_committed`` reader.

Some of it at every moment (:class:`Watch`): no row on disk but of committed transactions, and no
offset that goes back. The rest when the world is quiet (:func:`judge`): each record has come to one
end, its outputs are there once and in order, and disk, changelog, group and input agree.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from math import inf

import msgspec
from aiokafka import TopicPartition

from edo_stream.core.accounts import Account
from edo_stream.core.contract import (
    Contract,
    KeyOrder,
    MonotonicOrder,
    NoOrder,
    OnTimeout,
    SequenceOrder,
)
from edo_stream.core.dedupe import as_restored
from edo_stream.core.event import Event, Ignored, Violation
from edo_stream.core.idle import SEQUENCE
from edo_stream.core.sequence import decode_sequence
from edo_stream.core.state import Expand
from edo_stream.core.task import TASK_KEY, TaskRow
from edo_stream.testing.broker import Broker, Entry, Log
from edo_stream.testing.disk import Platter
from tests.simulation.load import START_MS, Group, decode

ACCOUNTS = "edo.accounts"
GAPS = "edo.gaps"

Fail = Callable[[str], None]
_decode_task = msgspec.msgpack.Decoder(TaskRow).decode
_decode_account = msgspec.json.Decoder(Account).decode


class Watch:
    """Looks at every write to a disk and at every committed offset."""

    def __init__(
        self, broker: Broker, tables: Mapping[str, tuple[str, Expand]], fail: Fail
    ) -> None:
        self._broker = broker
        self._tables = tables
        self._fail = fail
        self.writes = 0

    def on_offset(self, place: TopicPartition, before: int | None, after: int) -> None:
        if before is not None and after < before:
            self._fail(f"{place}: the group's offset went back from {before} to {after}")

    def on_write(self, platter: Platter, rows: Mapping[bytes, bytes | None]) -> None:
        """The disk must say what the committed records up to its offset say, and no more."""
        self.writes += 1
        topic, expand = self._tables[platter.table]
        log = self._broker.logs[TopicPartition(topic, platter.partition)]
        changed = dict.fromkeys(
            as_restored(expand, {key: value or b"" for key, value in rows.items()})
        )
        changed.update(platter.behind)
        for entry in _between(log, platter):
            if entry.is_marker or (entry.txn is not None and entry.txn.outcome is False):
                continue
            if not entry.is_committed():
                self._fail(
                    f"{platter.name}: on disk is offset {platter.offset} of the changelog, "
                    f"whose transaction is not decided"
                )
                return
            assert entry.key is not None
            for row, value in expand(entry.key, entry.value):
                changed[row] = None
                _put(platter.expected, row, value)
        platter.behind = {}
        rows = as_restored(expand, platter.rows)
        for row in changed:
            found, expected = rows.get(row), platter.expected.get(row)
            if found == expected:
                continue
            if _is_rewritten(log, expand, row, -1 if platter.offset is None else platter.offset):
                # The compaction has left the later record only; the restore is on its way there.
                platter.behind[row] = None
                continue
            self._fail(
                f"{platter.name}: row {row!r} is {found!r}, but the changelog up to "
                f"{platter.offset} says {expected!r}"
            )


def _between(log: Log, platter: Platter) -> list[Entry]:
    """Records that the disk's offset has passed since the last look."""
    first = platter.seen_offset + 1
    if platter.offset is None:
        return []
    platter.seen_offset = max(platter.seen_offset, platter.offset)
    return log.history[first : platter.offset + 1]


def _put(rows: dict[bytes, bytes], row: bytes, value: bytes | None) -> None:
    if value is None:
        rows.pop(row, None)
    else:
        rows[row] = value


def _is_rewritten(log: Log, expand: Expand, row: bytes, offset: int) -> bool:
    return offset < log.compacted_before and any(
        entry.is_committed()
        and entry.offset > offset
        and any(name == row for name, _ in expand(entry.key or b"", entry.value))
        for entry in log.history
    )


def judge(
    broker: Broker,
    groups: list[Group],
    tables: Mapping[str, tuple[str, Expand]],
    platters: Mapping[tuple[str, int], Platter],
    fail: Fail,
) -> None:
    """Judge a quiet world; ``platters`` are those of the owners, by table and partition."""
    accounts = _accounts(broker)
    for group in groups:
        for number in range(group.partitions):
            state = platters[f"{group.name}-state", number].rows
            _judge_disks(broker, tables, platters, group, number, fail)
            row = _decode_task(state[TASK_KEY]) if TASK_KEY in state else TaskRow()
            for topic in group.topics:
                place = TopicPartition(topic, number)
                source = row.sources.get(topic)
                if source is None or source.next_offset != broker.offsets.get(place):
                    fail(f"{place}: state {source}, group at {broker.offsets.get(place)}")
                    continue
                fates = _fates(broker, place, accounts.get(place, []), fail)
                held = sum(fate == "h" for fate in fates.values())
                if topic != group.control and source.held != held:
                    fail(f"{place}: {held} records are held, the state says {source.held}")
            for contract in group.contracts:
                place = TopicPartition(contract.topic, number)
                of_place = accounts.get(place, [])
                _PartitionJudge(broker, contract, place, of_place, state, fail).judge()


def _judge_disks(
    broker: Broker,
    tables: Mapping[str, tuple[str, Expand]],
    platters: Mapping[tuple[str, int], Platter],
    group: Group,
    number: int,
    fail: Fail,
) -> None:
    for table in (f"{group.name}-state", f"{group.name}-ids"):
        topic, expand = tables[table]
        platter = platters[table, number]
        log = broker.logs[TopicPartition(topic, number)]
        entries = log.committed()
        rows: dict[bytes, bytes] = {}
        for entry in entries:
            for row, value in expand(entry.key or b"", entry.value):
                _put(rows, row, value)
        last = entries[-1].offset if entries else None
        if platter.offset != last:
            fail(f"{platter.name}: stands at {platter.offset}, the changelog at {last}")
        found = as_restored(expand, platter.rows)
        if found != rows:
            keys = sorted(key for key in {*rows, *found} if rows.get(key) != found.get(key))
            fail(f"{platter.name}: disk and changelog differ in {keys}")
        left: dict[bytes, bytes] = {}
        for entry in log.read(0, 1 << 30)[0]:
            for row, value in expand(entry.key or b"", entry.value):
                _put(left, row, value)
        if left != rows:
            fail(f"{platter.name}: the compacted changelog leads to another state")


def _accounts(broker: Broker) -> dict[TopicPartition, list[Account]]:
    found: dict[TopicPartition, list[Account]] = {}
    for place, log in broker.logs.items():
        if place.topic == ACCOUNTS:
            for entry in log.committed():
                account = _decode_account(entry.value or b"")
                found.setdefault(TopicPartition(account.topic, account.partition), []).append(
                    account
                )
    return found


def _fates(
    broker: Broker, place: TopicPartition, accounts: list[Account], fail: Fail
) -> dict[int, str]:
    """Fate of each record by the accounts; each record once, settled at most once."""
    fates: dict[int, str] = {}
    lost: set[int] = set()
    begun, next_offset = 0, 0
    for account in accounts:
        if account.start is not None:
            begun = next_offset = account.start
            if fates:
                fail(f"{place}: begun anew at {account.start} after {max(fates)}")
        if account.lost is not None:
            if account.lost[0] < next_offset:
                fail(f"{place}: lost {account.lost} but read up to {next_offset}")
            next_offset = account.lost[1]
            lost.update(range(*account.lost))
        for run in account.runs:
            if run.offset < next_offset:
                fail(f"{place}: {run} after {next_offset - 1}: read twice")
            next_offset = run.offset + run.length
            fates.update(dict.fromkeys(range(run.offset, next_offset), run.fate))
        _settle(place, account, fates, fail)
    committed = {entry.offset for entry in broker.logs[place].committed()}
    expected = {offset for offset in committed if offset >= begun} - lost
    if expected != set(fates):
        missing, invented = sorted(expected - set(fates)), sorted(set(fates) - expected)
        fail(f"{place}: without a fate are {missing}, without a record {invented}")
    return fates


def _settle(place: TopicPartition, account: Account, fates: dict[int, str], fail: Fail) -> None:
    for run in account.settled:
        for offset in range(run.offset, run.offset + run.length):
            if fates.get(offset) != "h":
                fail(f"{place}: {offset} settled as {run.fate}, was {fates.get(offset)}")
            fates[offset] = run.fate


def _waits(accounts: list[Account]) -> dict[int, tuple[int, float]]:
    """When each record that was ever held began to wait, and when that ended."""
    waits: dict[int, tuple[int, float]] = {}
    for account in accounts:
        for run in account.runs:
            if run.fate == "h":
                for offset in range(run.offset, run.offset + run.length):
                    waits[offset] = (account.at_ms, inf)
        for run in account.settled:
            for offset in range(run.offset, run.offset + run.length):
                if offset in waits:
                    waits[offset] = (waits[offset][0], account.at_ms)
    return waits


class _PartitionJudge:
    """Compares fates, outputs and input of one source partition."""

    def __init__(
        self,
        broker: Broker,
        contract: Contract,
        place: TopicPartition,
        accounts: list[Account],
        state: Mapping[bytes, bytes],
        fail: Fail,
    ) -> None:
        fates = _fates(broker, place, accounts, fail)
        self._waits = _waits(accounts)
        self._broker = broker
        self._contract = contract
        self._place = place
        self._fates = fates
        self._state = state
        self._fail_with = fail
        self._input = [entry for entry in broker.logs[place].committed() if entry.offset in fates]
        self._events = {entry.offset: decode(entry) for entry in self._input}
        self._keys = {entry.offset: entry.key for entry in self._input}
        self._emitted = self._outputs(contract.emit, "ce_edoposition")
        self._dead = self._outputs(contract.dead_letters, "edo-offset")

    def judge(self) -> None:
        self._judge_outputs()
        self._judge_fates()
        ordering = self._contract.ordering
        if isinstance(ordering, KeyOrder):
            self._judge_order(lambda entry: entry.offset)
        elif isinstance(ordering, MonotonicOrder):
            self._judge_order(self._number)
        elif isinstance(ordering, SequenceOrder):
            self._judge_order(self._number)
            self._judge_sequences(ordering)

    def _fail(self, message: str) -> None:
        self._fail_with(f"{self._place.topic}-{self._place.partition}: {message}")

    def _outputs(self, topic: str, header: str) -> list[tuple[Entry, Entry]]:
        """Committed outputs with the input that each is of, in the order of the log."""
        inputs = {entry.offset: entry for entry in self._input}
        found = []
        for place, log in self._broker.logs.items():
            if place.topic != topic:
                continue
            for entry in log.committed():
                headers = dict(entry.headers)
                offset = int((headers[header] or b"").rpartition(b"/")[2])
                is_ours = headers.get(
                    "edo-partition", b"%d" % self._place.partition
                ) == b"%d" % self._place.partition and headers.get(
                    "ce_edoposition", self._where(offset)
                ) == self._where(offset)
                if is_ours and offset in inputs:
                    found.append((entry, inputs[offset]))
                elif is_ours:
                    self._fail(f"output {header} {offset} of a record that was never visible")
        return found

    def _where(self, offset: int) -> bytes:
        return f"{self._place.topic}/{self._place.partition}/{offset}".encode()

    def _judge_outputs(self) -> None:
        for outputs, fate in ((self._emitted, "e"), (self._dead, "x")):
            counts = Counter(of.offset for _, of in outputs)
            expected = {offset for offset, each in self._fates.items() if each == fate}
            if lost := sorted(expected - counts.keys()):
                self._fail(f"LOST: no output of fate {fate} for {lost}")
            if doubled := sorted(offset for offset, count in counts.items() if count > 1):
                self._fail(f"DOUBLED: more than one output of fate {fate} for {doubled}")
            if extra := sorted(counts.keys() - expected):
                self._fail(f"INVENTED: outputs of fate {fate} for {extra}")
            for output, of in outputs:
                if output.key != of.key or output.value != of.value:
                    self._fail(f"output of {of.offset} has another key or value")

    def _judge_fates(self) -> None:
        """Recount from the input what does not depend on time."""
        seen: set[str] = set()
        reached: dict[bytes, int] = {}
        ordering = self._contract.ordering
        for entry in self._input:
            fate, event = self._fates[entry.offset], self._events[entry.offset]
            if isinstance(event, Violation):
                expected = "x"
            elif isinstance(event, Ignored):
                expected = "i"
            elif self._contract.dedupe is not None and event.id in seen:
                expected = "d"
            elif isinstance(ordering, NoOrder | KeyOrder):
                expected = "e"
            elif isinstance(ordering, MonotonicOrder):
                position = event.position or 0
                expected = "e" if position > reached.get(event.key, -1) else "s"
                reached[event.key] = max(position, reached.get(event.key, -1))
            else:
                expected = "exhl"
            if isinstance(event, Event):
                seen.add(event.id)
            if fate not in expected:
                self._fail(f"offset {entry.offset} has fate {fate}, expected {expected}")

    def _number(self, entry: Entry) -> int:
        event = self._events[entry.offset]
        assert isinstance(event, Event)
        return event.position or 0

    def _judge_order(self, rank: Callable[[Entry], int]) -> None:
        last: dict[bytes | None, int] = {}
        for output, of in self._emitted:
            if _is_late(output):
                continue
            if rank(of) <= last.get(of.key, -1):
                self._fail(f"OUT OF ORDER: key {of.key!r}: {rank(of)} after {last[of.key]}")
            last[of.key] = rank(of)

    def _judge_sequences(self, policy: SequenceOrder) -> None:
        skipped: dict[bytes | None, list[tuple[int, int]]] = {}
        for key, first, last, reason, at_ms in self._gaps():
            skipped.setdefault(key, []).append((first, last))
            if reason in ("gap-timeout", "dead-letter"):
                self._judge_timeout(policy, key, range(first, last + 1), at_ms)
        for key in {entry.key: None for entry in self._input}:
            self._judge_key(policy, key, skipped.get(key, []))

    def _gaps(self) -> list[tuple[bytes, int, int, str, int]]:
        found = []
        for place, log in self._broker.logs.items():
            if place.topic != GAPS:
                continue
            for entry in log.committed():
                data = msgspec.json.decode(entry.value or b"")
                if dict(entry.headers)["ce_type"] == b"edo.gap.skipped" and (
                    (data["topic"], data["partition"]) == self._place
                ):
                    found.append(
                        (
                            data["key"].encode(),
                            data["first"],
                            data["last"],
                            data["reason"],
                            data["at"],
                        )
                    )
        return found

    def _judge_timeout(self, policy: SequenceOrder, key: bytes, missing: range, at_ms: int) -> None:
        """A gap must not time out over a record that was there, unread, when it was due."""
        due_ms = policy.gap_timeout_ms + min(
            (
                held_ms
                for offset, (held_ms, settled_ms) in self._waits.items()
                if held_ms <= at_ms <= settled_ms and self._keys.get(offset) == key
            ),
            default=0,
        )
        log = self._broker.logs[self._place]
        for entry in self._input:
            event = self._events[entry.offset]
            if (
                not isinstance(event, Event | Violation)
                or event.key != key
                or event.position not in missing
                or self._fates[entry.offset] == "d"
            ):
                continue
            since_s = log.visible_since(entry.offset)
            if since_s is not None and START_MS + since_s * 1000 < due_ms:
                self._fail(
                    f"FALSE TIMEOUT: number {event.position} of {key!r} was given up at {at_ms}, "
                    f"due {due_ms}, but offset {entry.offset} was there since {since_s:.3f} s"
                )

    def _judge_key(
        self, policy: SequenceOrder, key: bytes | None, skipped: list[tuple[int, int]]
    ) -> None:
        numbers = Counter(self._number(of) for _, of in self._emitted if of.key == key)
        if doubled := sorted(number for number, count in numbers.items() if count > 1):
            self._fail(f"key {key!r}: numbers emitted more than once: {doubled}")
        raw = self._state.get(SEQUENCE + self._contract.topic.encode() + b"\0" + (key or b""))
        if raw is None:
            return
        row = decode_sequence(raw)
        held = sum(self._fates[entry.offset] == "h" for entry in self._input if entry.key == key)
        if row.held != held:
            self._fail(f"key {key!r}: {held} are held, its row says {row.held}")
        if held and policy.on_timeout is not OnTimeout.HOLD:
            self._fail(f"key {key!r}: {held} are still held")
        in_turn = [
            self._number(of) for out, of in self._emitted if of.key == key and not _is_late(out)
        ]
        if in_turn:
            used = numbers.keys() | {
                event.position
                for offset, event in self._events.items()
                if self._fates[offset] == "x"
                and isinstance(event, Event | Violation)
                and event.key == key
            }
            for number in range(min(in_turn), row.next):
                if number not in used and not any(low <= number <= high for low, high in skipped):
                    self._fail(f"key {key!r}: number {number} was passed without a word")


def _is_late(output: Entry) -> bool:
    return any(name == "ce_edolate" for name, _ in output.headers)
