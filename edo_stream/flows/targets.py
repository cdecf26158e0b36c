"""What flows call, and what is declared about it: rates and breakers are those of a target.

A flow is a target of its own, unless it names one that it shares with others. What is said of a
shared target is said by one of its flows, or by several of them alike.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from edo_stream.core.act.breaker import BreakerPolicy
from edo_stream.core.act.keeper import TargetPolicy
from edo_stream.core.act.limits import RateLimit
from edo_stream.flows.declaration import BreakerRules, FlowDeclaration, Rate
from edo_stream.flows.flow import Flow, Flows
from edo_stream.registry import Finding

_SAID: Final = ("rate", "breaker")


def target_of(declaration: FlowDeclaration) -> str:
    """Name of what a flow calls."""
    return declaration.target or declaration.name


def rate_limit(rate: Rate | None) -> RateLimit | None:
    """A rate in the words of the core."""
    return None if rate is None else RateLimit(rate.per_second, rate.burst)


def target_policies(flows: Flows) -> dict[str, TargetPolicy]:
    """What is declared about each target, by its name."""
    return {
        target: TargetPolicy(
            breaker=_breaker(_said(members, "breaker")),
            rate=rate_limit(_said(members, "rate")),
        )
        for target, members in _members(flows.flows.values()).items()
    }


def disagreements(flows: Sequence[Flow]) -> list[Finding]:
    """Flows that say of a shared target what another one does not."""
    findings = []
    for target, members in _members(flows).items():
        for name in _SAID:
            speaking = [flow for flow in members if name in flow.declaration.model_fields_set]
            findings += [
                Finding(
                    flow.file,
                    1,
                    f"{name}: not what {speaking[0].policy.flow} says of target {target}: write "
                    "it in one of the two, or the same in both",
                )
                for flow in speaking[1:]
                if getattr(flow.declaration, name) != getattr(speaking[0].declaration, name)
            ]
    return findings


def _members(flows: Iterable[Flow]) -> Mapping[str, list[Flow]]:
    members: dict[str, list[Flow]] = {}
    for flow in flows:
        members.setdefault(target_of(flow.declaration), []).append(flow)
    return members


def _said(flows: Sequence[Flow], name: str) -> Any:
    """What one of them says, or else the default."""
    speaking = (flow for flow in flows if name in flow.declaration.model_fields_set)
    return getattr(next(speaking, flows[0]).declaration, name)


def _breaker(rules: BreakerRules) -> BreakerPolicy:
    return BreakerPolicy(
        failure_ratio=rules.failure_ratio,
        window=rules.window,
        consecutive=rules.consecutive,
        open_ms=rules.open,
        open_max_ms=rules.open_max,
        probes=rules.probes,
    )
