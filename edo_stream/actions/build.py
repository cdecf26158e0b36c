"""From what flows declare to the targets that run their commands."""

from edo_stream.actions.executors import ActionError, executor_of
from edo_stream.actions.outside import Outside
from edo_stream.core.act.breaker import BreakerPolicy
from edo_stream.core.act.limits import RateLimit
from edo_stream.engine.target import Executor, Protection, Target, Targets
from edo_stream.flows.actions import Action
from edo_stream.flows.declaration import FlowDeclaration
from edo_stream.flows.flow import Flow, Flows
from edo_stream.registry import Finding, Registry, RegistryError
from edo_stream.registry.document import read


def targets_of(flows: Flows, registry: Registry, outside: Outside) -> Targets:
    """Make the targets of all flows.

    Raises:
        RegistryError: handlers, templates or secrets cannot be used; with every mistake.
    """
    findings: list[Finding] = []
    targets: dict[str, Target] = {}
    for name, flow in flows.flows.items():
        declaration = flow.declaration
        executors = _executors(flow, registry, outside, findings)
        if executors is not None:
            protection = _protection(declaration)
            targets[name] = Target(name, executors[0], protection, outside.now_ms, executors[1])
    if findings:
        raise RegistryError(findings)
    return targets


def action_mistakes(flows: Flows, registry: Registry) -> list[Finding]:
    """What keeps actions from being done, as far as it can be seen without their secrets."""
    findings: list[Finding] = []
    outside = Outside(lambda: 0, reads_secrets=False)
    for flow in flows.flows.values():
        _executors(flow, registry, outside, findings)
    return findings


def _executors(
    flow: Flow, registry: Registry, outside: Outside, findings: list[Finding]
) -> tuple[Executor, Executor | None] | None:
    """Executors of a flow's action and of its fallback; ``None`` and findings if they cannot be."""
    made: list[Executor | None] = []
    for key in ("action", "fallback"):
        action: Action | None = getattr(flow.declaration, key)
        try:
            made.append(None if action is None else executor_of(action, flow, registry, outside))
        except ActionError as error:
            line = read(flow.file).line((key, *error.place))
            findings.append(Finding(flow.file, line, f"{key}.{error}"))
    return (made[0], made[1]) if len(made) == 2 and made[0] is not None else None


def _protection(declaration: FlowDeclaration) -> Protection:
    rate, breaker = declaration.rate, declaration.breaker
    return Protection(
        concurrency=declaration.concurrency,
        timeout_s=declaration.action.timeout / 1000,
        rate=None if rate is None else RateLimit(rate.per_second, rate.burst),
        breaker=BreakerPolicy(
            failure_ratio=breaker.failure_ratio,
            window=breaker.window,
            consecutive=breaker.consecutive,
            open_ms=breaker.open,
            open_max_ms=breaker.open_max,
            probes=breaker.probes,
        ),
        letters_max=declaration.letters_max,
    )
