"""Judge a run of the act plane: topics and ledger against what the commands were to do.

Nobody is believed: what must have come of a command is computed from its steps, how often it ran
and in which order is read from the ledger, and what the engine says of it from its topics.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from math import inf
from typing import Final

from edo_stream.core.act.policy import Delivery, Order
from load.act_chaos.evidence import Command, Evidence
from load.act_chaos.plan import RETRIES, FlowPlan, Step
from load.effects import Line, Moment, Tally, out_of_order, tally

#: What the engine calls a step's failure, in each kind of executor.
_PYTHON: Final = {
    Step.FAIL: "transient",
    Step.FAIL_AFTER: "transient",
    Step.BUG: "executor-failed",
    Step.HANG: "timeout",
    Step.HANG_AND_DO: "timeout",
}
_REASONS: Final[Mapping[str, Mapping[Step, str]]] = {
    "async": _PYTHON,
    "thread": _PYTHON,
    "http": {
        Step.FAIL: "http-503",
        Step.FAIL_AFTER: "connection",
        Step.HANG_AND_DO: "timeout",
    },
}
#: Reasons of those that count no attempt.
_UNCOUNTED: Final = ("throttled", "http-429")
#: Failures that harms bring about: a process that stood still, a receiver that was down.
_HARMED: Final = {"async": {"timeout"}, "thread": {"timeout"}, "http": {"timeout", "http-503"}}
_ENDS: Final = {Step.REFUSE: "failed", Step.POISON: "letter"}


@dataclass(slots=True)
class Verdict:
    """What a run has shown."""

    tallies: dict[str, Tally] = field(default_factory=dict)
    ends: dict[str, Counter[str]] = field(default_factory=dict)
    """By flow, what commands ended as."""
    late_ms: list[float] = field(default_factory=list)
    """Of retries, after their time; those of busy and of hurt workers as well."""
    late_repeats: int = 0
    """Effects that were repeated after that of a later command of the key."""
    unplanned: Counter[str] = field(default_factory=Counter)
    """Failures that the commands did not ask for, by flow and reason."""
    findings: list[str] = field(default_factory=list)
    """All that is wrong."""


def judge(flows: Iterable[Evidence], applied: Set[str]) -> Verdict:
    """Judge all flows; ``applied`` are the idempotency keys that the HTTP receiver has served."""
    verdict = Verdict()
    for evidence in flows:
        flow = evidence.flow
        verdict.tallies |= tally(evidence.lines)
        for event, count in evidence.asked.items():
            if count != 1:
                verdict.findings.append(f"event {event} triggered {count} commands")
        _judge_ends(evidence, verdict)
        for command in evidence.commands.values():
            _judge_attempts(flow, command, verdict)
            _judge_runs(flow, command, verdict)
            _judge_effects(flow, command, verdict)
        if flow.order is Order.STRICT:
            _judge_order(evidence, verdict)
        if flow.kind == "http":
            _judge_receiver(evidence.commands.values(), applied, verdict)
    return verdict


def _judge_ends(evidence: Evidence, verdict: Verdict) -> None:
    """Each command ended once, as its steps say."""
    ends: Counter[str] = Counter()
    for command in evidence.commands.values():
        name = _name(evidence.flow, command)
        if len(command.ends) != 1:
            verdict.findings.append(f"{name} has {len(command.ends)} ends")
            continue
        kind, attempts = command.ends[0]
        ends[kind] += 1
        step = command.job.step(attempts)
        wanted = {_ENDS.get(step, "done")}
        if attempts == RETRIES + 1 and step not in _ENDS:
            wanted.add("letter")  # The ladder is used up: each attempt of it is looked at.
        if evidence.flow.delivery is Delivery.AT_MOST_ONCE:
            wanted.add("unknown")
        if kind not in wanted:
            verdict.findings.append(
                f"{name} ended as {kind} by attempt {attempts}, which was to {step.value}"
            )
    verdict.ends[evidence.flow.name] = ends


def _judge_attempts(flow: FlowPlan, command: Command, verdict: Verdict) -> None:
    """Attempts are counted one by one, each for the reason that it failed of."""
    name = _name(flow, command)
    failed: dict[int, str] = {}
    for retry in command.retries:
        if retry.reason in _UNCOUNTED:
            continue
        if retry.attempt - 1 in failed:
            verdict.findings.append(f"{name}: attempt {retry.attempt} was announced twice")
        failed[retry.attempt - 1] = retry.reason
    attempts = command.ends[0][1] if len(command.ends) == 1 else len(failed) + 1
    if list(range(1, attempts)) != sorted(failed):
        verdict.findings.append(
            f"{name} ended by attempt {attempts}, and failed at {sorted(failed)}"
        )
    for attempt, reason in failed.items():
        planned = _REASONS[flow.kind].get(command.job.step(attempt))
        if reason == planned:
            continue
        verdict.unplanned[f"{flow.name}: {reason}"] += 1
        if reason not in _HARMED[flow.kind]:
            verdict.findings.append(f"{name}: attempt {attempt} failed of {reason}, not {planned}")


def _judge_runs(flow: FlowPlan, command: Command, verdict: Verdict) -> None:
    """None is early or unannounced; what may run once runs once."""
    name = _name(flow, command)
    announced: dict[int, list[float]] = defaultdict(list)
    for retry in command.retries:
        announced[retry.attempt].append(retry.at_ms)
    ran: dict[int, list[float]] = defaultdict(list)
    for line in command.runs:
        ran[line.attempt].append(line.at_ms)
    for attempt, times in ran.items():
        # The first attempt needs no announcement.
        allowed = [*([-inf] if attempt == 1 else []), *sorted(announced[attempt])]
        if not allowed:
            verdict.findings.append(f"{name}: attempt {attempt} ran, which nothing announced")
            continue
        if attempt > 1:
            verdict.late_ms.append(times[0] - allowed[0])
        if _is_early(times, allowed):
            verdict.findings.append(f"{name}: attempt {attempt} was early")
        if flow.delivery is Delivery.AT_MOST_ONCE and len(times) > len(allowed):
            verdict.findings.append(f"{name}: attempt {attempt} ran {len(times)} times")
    never = [attempt for attempt in announced if attempt not in ran]
    if never and not command.is_unknown:
        verdict.findings.append(f"{name}: attempts {never} were announced and never ran")


def _is_early(times: Sequence[float], allowed: Sequence[float]) -> bool:
    """Whether a run came before its time.

    The same attempt is allowed again for each plea for patience. Where a crash has repeated one, it
    is only the first that is certain.
    """
    certain = len(times) if len(times) == len(allowed) else 1
    return any(at < due for at, due in zip(times[:certain], allowed[:certain], strict=True))


def _judge_effects(flow: FlowPlan, command: Command, verdict: Verdict) -> None:
    """What is done has an effect; what may have one only has no more; and all have one key."""
    name = _name(flow, command)
    if any(kind == "done" for kind, _ in command.ends) and not command.effects:
        verdict.findings.append(f"{name} is done without an effect")
    if flow.delivery is Delivery.AT_MOST_ONCE and len(command.effects) > 1:
        verdict.findings.append(f"{name} had {len(command.effects)} effects")
    if len({line.idempotency_key for line in (*command.runs, *command.effects)}) > 1:
        verdict.findings.append(f"{name} ran with several idempotency keys")


def _judge_order(evidence: Evidence, verdict: Verdict) -> None:
    """First effects are in order.

    Those of a command whose end is unknown may come whenever the worker that is cut off goes on:
    its key did not wait for it. So may what a service does of a call that was given up by its
    timeout, once a later attempt has begun: that one may have been refused, and its key gone on.
    """
    name, commands = evidence.flow.name, evidence.commands
    known = [line for line in evidence.lines if not commands[line.command].is_unknown]
    for line in out_of_order(_not_given_up(evidence, known)):
        verdict.findings.append(f"{name} {line.key}: {line.number} after a later one")
    latest: dict[str, int] = {}
    for line in known:
        if line.moment is Moment.EFFECT:
            verdict.late_repeats += line.number < latest.get(line.key, -1)
            latest[line.key] = max(line.number, latest.get(line.key, -1))


def _not_given_up(evidence: Evidence, lines: Sequence[Line]) -> Sequence[Line]:
    """Lines without what a service did of calls that were given up, after the next had begun."""
    if evidence.flow.kind != "http":
        return lines  # What is told to end here, ends.
    given_up = {
        (command.id, retry.attempt - 1)
        for command in evidence.commands.values()
        for retry in command.retries
        if retry.reason == "timeout"
    }
    begun: dict[str, int] = {}
    kept = []
    for line in lines:
        if line.moment is Moment.BEGAN:
            begun[line.command] = max(line.attempt, begun.get(line.command, 0))
        elif line.attempt < begun.get(line.command, 0) and (line.command, line.attempt) in given_up:
            continue
        kept.append(line)
    return kept


def _judge_receiver(commands: Iterable[Command], applied: Set[str], verdict: Verdict) -> None:
    """What the receiver has really done is what had an effect, once each."""
    keys = {one.effects[0].idempotency_key for one in commands if one.effects}
    if keys != applied:
        verdict.findings.append(
            f"the receiver did {len(applied)}, the ledger says {len(keys)}: {keys ^ applied}"
        )


def _name(flow: FlowPlan, command: Command) -> str:
    return f"{flow.name} {command.job.number} ({command.id})"


def findings_by_kind(findings: Sequence[str], most: int) -> list[str]:
    """The first findings, and how many more there are."""
    more = len(findings) - most
    return [*findings[:most], *([f"and {more} more"] if more > 0 else [])]


def percentile(values: Sequence[float], share: float) -> float:
    """The value that so many are not above; 0 when there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
