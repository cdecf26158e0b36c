"""`edo contracts plan`, `apply`, `drift`: the contracts at the broker."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from edo_stream.cli.contracts_broker import Broker
from edo_stream.cli.contracts_plan import (
    WHAT_A_GROWTH_BREAKS,
    Action,
    Consent,
    Seen,
    Step,
    deletions,
    steps,
    undeclared,
)
from edo_stream.cli.contracts_read import AsJson, print_json
from edo_stream.cli.environment import Environment, unreachable
from edo_stream.cli.screen import screen
from edo_stream.engine.admin import Wanted

Delete = Annotated[
    list[str] | None,
    typer.Option("--delete", metavar="TOPIC", help="Delete this topic, which no contract wants."),
]


#: States after which the brokers take a moment to agree.
_MOVED = ("created", "grown", "deleted")


@dataclass(slots=True)
class Situation:
    """What is wanted, what is there, and what lies between."""

    wanted: dict[str, Wanted]
    seen: dict[str, Seen]
    names: list[str]
    steps: list[Step] = field(default_factory=list)


def plan(delete: Delete = None, as_json: AsJson = False) -> None:
    """Show what apply would do; nothing is done.

    Exit codes: 0 all of it can be done, 1 some needs consent or cannot be done, 3 no broker.
    """
    environment = Environment.read()
    situation = _look(environment, delete or ())
    _print_steps(situation, as_json)
    raise typer.Exit(1 if _unsafe(situation.steps, frozenset()) else 0)


def drift(as_json: AsJson = False) -> None:
    """Show where the broker is not as the contracts say, and topics that none declares.

    Exit codes: 0 no difference, 1 differences, 3 no broker.
    """
    environment = Environment.read()
    situation = _look(environment, ())
    domains = {name.partition(".")[0] for name in environment.registry.entries}
    for name in undeclared(situation.wanted.values(), situation.names, domains):
        detail = "no contract declares it: write one, or apply --delete it"
        situation.steps.append(Step(name, Action.DELETE, Consent.NAMED, detail))
    _print_steps(situation, as_json)
    raise typer.Exit(1 if situation.steps else 0)


def apply(
    allow_reshuffle: Annotated[
        bool, typer.Option("--allow-reshuffle", help="Grow partitions, although keys move.")
    ] = False,
    allow_loss: Annotated[
        bool, typer.Option("--allow-loss", help="Keep records for less long, or otherwise.")
    ] = False,
    delete: Delete = None,
    as_json: AsJson = False,
) -> None:
    """Create what is missing, and change what may be changed without harm.

    Nothing is deleted that was not named, and partitions grow only with --allow-reshuffle.

    Exit codes: 0 done, 1 something differs still, 3 no broker.
    """
    environment = Environment.read()
    consents = {Consent.SAFE, Consent.NAMED}
    consents |= {Consent.RESHUFFLE} if allow_reshuffle else set()
    consents |= {Consent.LOSS} if allow_loss else set()
    with unreachable(environment.settings.broker):
        states = asyncio.run(_apply(environment, delete or (), frozenset(consents)))
    if as_json:
        print_json(
            [{"topic": topic, "partitions": count, "state": s} for topic, count, s in states]
        )
    else:
        table = Table("topic", "partitions", "state")
        table.columns[0].overflow = table.columns[2].overflow = "fold"
        for topic, count, state in states:
            table.add_row(Text(topic), str(count), Text(state))
        screen().print(table)
    raise typer.Exit(1 if any(state.startswith("differs") for _, _, state in states) else 0)


def _look(environment: Environment, delete: Sequence[str]) -> Situation:
    async def look() -> Situation:
        async with Broker(environment.access) as broker:
            return await _situation(environment, broker, delete)

    with unreachable(environment.settings.broker):
        return asyncio.run(look())


async def _situation(environment: Environment, broker: Broker, delete: Sequence[str]) -> Situation:
    wanted = environment.wanted
    names = await broker.names()
    seen = await broker.seen([topic.name for topic in wanted])
    todo = [*steps(wanted, seen), *deletions(delete, wanted, names)]
    return Situation({topic.name: topic for topic in wanted}, seen, names, todo)


async def _apply(
    environment: Environment, delete: Sequence[str], consents: frozenset[Consent]
) -> list[tuple[str, int, str]]:
    """Do what may be done; topic, partitions and state of each."""
    async with Broker(environment.access) as broker:
        situation = await _situation(environment, broker, delete)
        states = dict.fromkeys(situation.wanted, "there")
        creates = [step for step in situation.steps if step.action is Action.CREATE]
        created = await broker.create(situation.wanted[step.topic] for step in creates)
        for name, why in created.items():
            states[name] = "created" if why is None else f"differs: cannot be created: {why}"
        busy = await _busy(environment, broker, situation, consents)
        for step in situation.steps:
            if step.action is Action.CREATE:
                continue
            done = await _carry_out(broker, step, situation, consents, busy)
            before = states.get(step.topic, "there")
            states[step.topic] = done if before == "there" else f"{before}; {done}"
        counts = {name: topic.partitions for name, topic in situation.wanted.items()}
        changed = [name for name, state in states.items() if state in _MOVED]
        await broker.settled({name: counts.get(name, 0) for name in changed})
    return [(name, counts.get(name, 0), _ordered(state)) for name, state in states.items()]


def _ordered(state: str) -> str:
    """What differs still comes first, so that it cannot be overlooked."""
    parts = state.split("; ")
    return "; ".join(sorted(parts, key=lambda part: not part.startswith("differs")))


async def _busy(
    environment: Environment, broker: Broker, situation: Situation, consents: frozenset[Consent]
) -> str | None:
    """Why partitions must not grow now; ``None`` if they may. What it breaks is said first."""
    if not any(step.action is Action.GROW for step in situation.steps):
        return None
    screen(is_stderr=True).print(f"growing partitions: {WHAT_A_GROWTH_BREAKS}.", markup=False)
    if Consent.RESHUFFLE not in consents:
        return None
    group = environment.settings.app_id
    members = await broker.members(group)
    return f"group {group} has {members} members: stop the workers first" if members else None


async def _carry_out(
    broker: Broker,
    step: Step,
    situation: Situation,
    consents: frozenset[Consent],
    busy: str | None,
) -> str:
    if step.consent is Consent.IMPOSSIBLE:
        return f"differs: {step.detail}"
    if step.consent not in consents:
        return f"differs: {step.detail}; needs {step.consent.value}"
    if step.action is Action.GROW and busy is not None:
        return f"differs: {step.detail}; {busy}"
    seen = situation.seen.get(step.topic, Seen(0, 0, {}, {}))
    why = await broker.carry_out(step, situation.wanted, seen)
    if why is not None:
        return f"differs: {why}"
    return {Action.GROW: "grown", Action.DELETE: "deleted"}.get(step.action, "configured")


def _unsafe(todo: Sequence[Step], consents: frozenset[Consent]) -> list[Step]:
    allowed = {Consent.SAFE, Consent.NAMED, *consents}
    return [step for step in todo if step.consent not in allowed]


def _print_steps(situation: Situation, as_json: bool) -> None:
    if as_json:
        print_json(
            {"wanted": len(situation.wanted), "steps": [_as_json(step) for step in situation.steps]}
        )
        return
    console = screen()
    if not situation.steps:
        console.print(f"{len(situation.wanted):,} topics are as the contracts say", markup=False)
        return
    table = Table("topic", "action", "consent", "what")
    table.columns[0].overflow = table.columns[3].overflow = "fold"
    for step in situation.steps:
        table.add_row(Text(step.topic), step.action.value, step.consent.value, Text(step.detail))
    console.print(table)
    if any(step.action is Action.GROW for step in situation.steps):
        console.print(f"growing partitions: {WHAT_A_GROWTH_BREAKS}.", markup=False)
    console.print(
        f"{len(situation.wanted):,} topics wanted, {len(situation.steps):,} steps", markup=False
    )


def _as_json(step: Step) -> dict[str, Any]:
    values: dict[str, Any] = {
        "topic": step.topic,
        "action": step.action.value,
        "consent": step.consent.value,
        "what": step.detail,
    }
    if step.action is Action.GROW:
        values["breaks"] = WHAT_A_GROWTH_BREAKS
    return values
