"""What the act plane writes: outcomes, retries on a tier, and dead letters."""

from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec
from msgspec.structs import replace

from edo_stream.core.act.command import (
    ATTEMPT,
    BLOCKS,
    DUE_MS,
    ERROR,
    FIRST_MS,
    FLOW,
    HOP,
    NOT_BEFORE_MS,
    ORIGIN,
    REPLAY,
    Command,
)
from edo_stream.core.act.outcome import Done, Failed, FailureClass, Unrun
from edo_stream.core.act.policy import ActSpec, FlowPolicy
from edo_stream.core.act.reply import askers_of, replies_of
from edo_stream.core.asked import DEAD_LETTER, DROPPED, REFUSED, Cause
from edo_stream.core.correlation.ends import RESULTS
from edo_stream.core.correlation.joined import Joined
from edo_stream.core.effects import Publish
from edo_stream.core.event import derive_id
from edo_stream.core.headers import JSON_CONTENT, SPECVERSION, Header, time_text, utf8
from edo_stream.core.pieces import COUNT, INDEX, NAMES, OF
from edo_stream.core.record import Record
from edo_stream.core.sizes import HEADROOM_BYTES, fits, fitting_end, fitting_letter, left_out
from edo_stream.core.task import Step, TaskIdentity

_DETAIL_CHARS_MAX: Final = 1_000

#: Types of the outcome events, appended to ``edo.<flow>``.
DONE: Final = "done"
FAILED: Final = "failed"
UNKNOWN: Final = "unknown"
SKIPPED: Final = "skipped"
LIMITED: Final = "limited"
CANCELLED: Final = "cancelled"


class NextRun(NamedTuple):
    """When a command is to be run again, as which attempt, and whether its key waits for it."""

    at_ms: int
    attempt: int
    blocks: bool


class ActOutlet:
    """Builds the records of one task; each is derived from its command alone."""

    def __init__(self, identity: TaskIdentity, spec: ActSpec, step: Step) -> None:
        self._identity = identity
        self._spec = spec
        self._step = step
        self._source = ("ce_source", utf8(f"/edo/{identity.app}"))
        # The group's own topic of them takes as much as that of any flow.
        least = min((policy.record_bytes_max for policy in spec.flows.values()), default=1 << 20)
        self._letters_bytes_max = least + 2 * HEADROOM_BYTES

    def outcome(
        self, command: Command, policy: FlowPolicy, kind: str, end: Done | Failed | Unrun
    ) -> None:
        """Publish how a command ended: an event keyed like the command."""
        outcome_id = self._id("outcome", command, kind)
        headers: list[Header] = [
            SPECVERSION,
            # Of what has happened, not of the run: a replay that ends alike is the same event.
            ("ce_id", outcome_id.encode()),
            self._source,
            ("ce_type", utf8(f"edo.{policy.flow}.{kind}")),
            ("ce_time", time_text(self._step.now_ms)),
            ("ce_correlationid", utf8(command.correlation_id or command.id)),
            ("ce_causationid", utf8(command.id)),
            (FLOW, utf8(policy.flow)),
            (ATTEMPT, b"%d" % command.attempt),
            (ORIGIN, utf8(command.origin)),
            *((name, value or b"") for name, value in command.headers if name in NAMES),
        ]
        if command.replay:
            headers.append((REPLAY, utf8(command.replay)))
        if isinstance(end, Done):
            data = end.data
            now_ms = self._step.now_ms
            self._step.publish += [
                Publish(r.topic, r.partition, r.key, r.value, r.headers, now_ms)
                for r in end.records
            ]
            if end.content_type is not None:
                headers.append(("content-type", utf8(end.content_type)))
        else:
            headers.append(JSON_CONTENT)
            data = _told(end)
        content = end.content_type if isinstance(end, Done) else JSON_CONTENT[1].decode()
        headers += self._reply(command, policy, kind, data, content)
        outcome = self._record(policy.outcomes, command.key, data, headers)
        self._step.publish.append(fitting_end(outcome, policy.record_bytes_max + HEADROOM_BYTES))
        if policy.flow in self._spec.ends:
            self._tell_gatherers(command, kind, outcome_id, end)

    def retry(self, command: Command, tier_ms: int, next_run: NextRun, error: str) -> None:
        """Put a command on a tier, in the partition that it came from."""
        now_ms = self._step.now_ms
        due_ms = min(next_run.at_ms, now_ms + max(self._spec.tiers))
        headers = _without_hop(command.headers)
        headers += [
            (FLOW, utf8(command.flow)),
            (ATTEMPT, b"%d" % next_run.attempt),
            (FIRST_MS, b"%d" % (command.first_ms or now_ms)),
            (DUE_MS, b"%d" % due_ms),
            (ORIGIN, utf8(command.origin)),
            (ERROR, utf8(error)),
        ]
        if next_run.at_ms > due_ms:
            headers.append((NOT_BEFORE_MS, b"%d" % next_run.at_ms))
        if next_run.blocks:
            headers.append((BLOCKS, b"true"))
        tier = self._spec.tiers[tier_ms]
        self._step.publish.append(self._record(tier, command.key, command.data, headers))

    def dead_letter(self, command: Command, policy: FlowPolicy, why: Failed) -> None:
        """Give a command up: the original record, and why."""
        again = (command.replay,) if command.replay else ()
        letter_id = self._id("dead-letter", command, str(command.redrive), *again)
        reason: list[Header] = [
            ("edo-id", letter_id.encode()),
            ("edo-reason", utf8(why.reason)),
            ("edo-class", utf8(why.failure.value)),
            ("edo-detail", utf8(why.detail[:_DETAIL_CHARS_MAX])),
            ("edo-attempts", b"%d" % command.attempt),
            (FIRST_MS, b"%d" % (command.first_ms or self._step.now_ms)),
            (FLOW, utf8(policy.flow)),
            (ORIGIN, utf8(command.origin)),
            ("edo-owner", utf8(policy.owner)),
            ("edo-app", utf8(self._identity.app)),
            ("edo-at", b"%d" % self._step.now_ms),
        ]
        reason += self._reply(command, policy, DEAD_LETTER, _told(why))
        headers = _without_hop(command.headers)
        letter = self._record(policy.dead_letters, command.key, command.data, headers)
        bytes_max = policy.record_bytes_max + 2 * HEADROOM_BYTES
        self._step.publish.append(fitting_letter(letter, reason, bytes_max))
        if policy.flow in self._spec.ends:
            self._tell_gatherers(command, "dead-lettered", letter_id, why)

    def _tell_gatherers(
        self, command: Command, kind: str, end_id: str, end: Done | Failed | Unrun
    ) -> None:
        """Tell the flows that gather the ends of a split event's commands of this one."""
        place = {name: value or b"" for name, value in command.headers if name in NAMES}
        if OF not in place:
            return
        content = end.content_type if isinstance(end, Done) else JSON_CONTENT[1].decode()
        count = place.get(COUNT, b"").decode("utf-8", "replace")
        joined = Joined(
            flow="",
            input=RESULTS,
            id=end_id,
            source=self._source[1].decode(),
            type=f"edo.{command.flow}.{kind}",
            position=command.origin,
            data=end.data if isinstance(end, Done) else _told(end),
            is_json=content is not None and "json" in content,
            time_ms=self._step.now_ms,
            correlation_id=command.correlation_id or command.id,
            content_type=content,
            member=place.get(INDEX, b"").decode("utf-8", "replace"),
            expect=int(count) if count.isdigit() else None,
            is_failed=not isinstance(end, Done),
        )
        of, now_ms = place[OF].decode("utf-8", "replace"), self._step.now_ms
        for feed in self._spec.ends[command.flow]:
            told = feed.record(of, joined, now_ms)
            if not fits(told, feed.bytes_max):
                data, kind = left_out(len(joined.data or b"")), JSON_CONTENT[1].decode()
                cut = replace(joined, data=data, is_json=True, content_type=kind)
                told = feed.record(of, cut, now_ms)
            self._step.publish.append(told)

    def dropped(self, command: Command, policy: FlowPolicy) -> None:
        """Tell who asked for a reply that an operator wants the command forgotten."""
        why = Failed(FailureClass.BUSINESS, DROPPED, "dropped by an operator")
        self._reply(command, policy, DROPPED, _told(why))

    def undecodable(self, record: Record, topic: str, reason: str, detail: str) -> None:
        """Give up what is no command, or belongs to no flow."""
        place = f"{record.topic}/{record.partition}/{record.offset}"
        letter_id = derive_id("dead-letter", self._identity.app, *place.split("/"))
        why: list[Header] = [
            ("edo-id", letter_id.encode()),
            ("edo-reason", utf8(reason)),
            ("edo-class", b"poison"),
            ("edo-detail", utf8(detail[:_DETAIL_CHARS_MAX])),
            ("edo-attempts", b"0"),
            (ORIGIN, utf8(place)),
            ("edo-app", utf8(self._identity.app)),
            ("edo-at", b"%d" % self._step.now_ms),
        ]
        letter = self._record(topic, record.key, record.value, list(record.headers))
        self._step.publish.append(fitting_letter(letter, why, self._letters_bytes_max))

    def _reply(
        self,
        command: Command,
        policy: FlowPolicy,
        kind: str,
        data: bytes | None,
        content_type: str | None = "application/json",
    ) -> list[Header]:
        """Tell who has asked; what the end itself says of it, where somebody is not told."""
        replies, askers = replies_of(policy), askers_of(command, policy)
        if replies is None or not askers:
            return []
        cause = Cause(
            flow=policy.flow,
            kind=kind,
            source=self._source[1],
            id=command.id,
            now_ms=self._step.now_ms,
            # A dead letter that is sent again may end in another way, or in the same once more.
            repeat=str(command.redrive) if command.redrive else "",
            more=((ATTEMPT, b"%d" % command.attempt),),
        )
        content = None if content_type is None else ("content-type", utf8(content_type))
        told = [replies.reply(asker, cause, command.key, data, content) for asker in askers]
        bytes_max = policy.record_bytes_max + HEADROOM_BYTES
        self._step.publish += [fitting_end(one, bytes_max) for one in told if one is not None]
        refused = next((one.place for one in askers if isinstance(one.place, str)), None)
        return [] if refused is None else [(REFUSED, utf8(refused))]

    def _id(self, kind: str, command: Command, *more: str) -> str:
        return derive_id(kind, self._identity.app, command.flow, command.id, *more)

    def _record(
        self, topic: str, key: bytes | None, value: bytes | None, headers: list[Header]
    ) -> Publish:
        return Publish(topic, self._identity.partition, key, value, headers, self._step.now_ms)


def _without_hop(headers: Iterable[Header]) -> list[Header]:
    return [header for header in headers if header[0] not in HOP]


def _told(why: Failed | Unrun) -> bytes:
    """A failure, or why nothing was run, as events tell it."""
    if isinstance(why, Unrun):
        return msgspec.json.encode(why.told)
    return msgspec.json.encode(
        {
            "class": why.failure.value,
            "reason": why.reason,
            "detail": why.detail[:_DETAIL_CHARS_MAX],
        }
    )
