"""From what flows declare to the targets that run their commands."""

from typing import Final

from edo_stream.actions.executors import ActionError, executor_of
from edo_stream.actions.outside import Outside
from edo_stream.engine.fleet import Fleet
from edo_stream.engine.target import Executor, Protection, Target, Targets
from edo_stream.flows.actions import Action
from edo_stream.flows.declaration import FlowDeclaration
from edo_stream.flows.flow import Flow, Flows
from edo_stream.flows.targets import rate_limit, target_of
from edo_stream.registry import Finding, Registry, RegistryError
from edo_stream.registry.document import read

#: To commit that a command begins, at most.
_COMMIT_S: Final = 60.0


def targets_of(flows: Flows, registry: Registry, outside: Outside, fleet: Fleet) -> Targets:
    """Make the targets of all flows, behind the gates of the fleet.

    Raises:
        RegistryError: handlers, templates or secrets cannot be used; with every mistake.
    """
    findings: list[Finding] = []
    targets: dict[str, Target] = {}
    for name, flow in flows.flows.items():
        declaration = flow.declaration
        executors = _executors(flow, registry, outside, findings)
        if executors is not None:
            protection, gate = _protection(declaration), fleet.gates[target_of(declaration)]
            targets[name] = Target(name, executors[0], protection, gate, executors[1])
    if findings:
        raise RegistryError(findings)
    return targets


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
    fallback = declaration.fallback or declaration.action
    is_begun_first = declaration.delivery == "at-most-once" or declaration.throttle is not None
    return Protection(
        concurrency=declaration.concurrency.max,
        is_adaptive=declaration.concurrency.adaptive,
        timeout_s=declaration.action.timeout / 1000,
        fallback_timeout_s=fallback.timeout / 1000,
        start_s=_COMMIT_S if is_begun_first else 0.0,
        rate_per_key=rate_limit(declaration.rate_per_key),
        letters_max=declaration.letters_max,
    )
