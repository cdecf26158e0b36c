"""`edo replay`: a range of a topic again, through the flows that may run on it once more."""

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer
from rich.table import Table

from edo_stream.cli.environment import CommandError, Environment, unreachable
from edo_stream.cli.operate import NOT_DONE, USAGE, AsJson
from edo_stream.cli.screen import screen
from edo_stream.core.event import derive_id
from edo_stream.core.exact import exact
from edo_stream.core.patterns import PatternError, parse_pattern
from edo_stream.core.replay import DOUBLES, Bounds, Replayable, Replayer
from edo_stream.core.routing import Condition
from edo_stream.engine.clock import now_ms
from edo_stream.flows.expression import ExpressionError, WhereExpression
from edo_stream.registry import RegistryError, Topic, control_topic
from edo_stream.registry.enforced import rules_of
from edo_stream.registry.mistakes import nearest
from edo_stream.registry.quantity import time_ms
from edo_stream.replay.plan import SAGA, WAITS, bounds_of, left_out
from edo_stream.replay.run import Bound, Progress, Replay, ReplaySpec, replayed
from edo_stream.schema_ids import schema_ids
from edo_stream.schemas.enforcement import Decode, Tally, enforced
from edo_stream.sources import decoder

_DECODER: Final = msgspec.json.Decoder(float_hook=exact)


def replay(  # noqa: PLR0913 - the command line
    topic: Annotated[str, typer.Argument(help="Topic with a contract.")],
    start: Annotated[
        str | None,
        typer.Option("--from", help="First offset, or a time such as 2026-01-31T12:00:00Z."),
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", help="Offset or time that is not replayed any more.")
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(
            "--where",
            help="Only events that are so: an event pattern, an expression in CEL, or @FILE.",
        ),
    ] = None,
    flow: Annotated[
        list[str] | None, typer.Option("--flow", help="Only for this flow; may be repeated.")
    ] = None,
    partition: Annotated[
        list[int] | None, typer.Option(min=0, help="Only of this partition; may be repeated.")
    ] = None,
    rate: Annotated[
        float, typer.Option(min=0.1, max=100_000, help="Commands a second, at most.")
    ] = 100.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write nothing: only count, by flow and reason.")
    ] = False,
    doubles: Annotated[
        bool,
        typer.Option(
            "--doubles", help="Also where a record would be written that its readers take for new."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run the flows of a topic again on events of the past, with the ids of the first time.

    Only flows whose actions are `replay: safe`, and only events that went on the first time.
    Nothing is written to the topic or its results. Both ends default to those of the log.

    Exit codes: 0 done, 1 no flow may run again, or nothing did and --where could not be judged on
    some events, 2 wrong usage, 3 the broker is unreachable.
    """
    environment = Environment.read()
    found = _topic(environment, topic)
    bounds = _bound(start, "--from"), _bound(end, "--to")
    _require_order(*bounds)
    condition = _condition(where)
    flows = _flows(environment, topic, flow or (), doubles)
    spec = ReplaySpec(
        app=environment.settings.app_id,
        contract=found.contract,
        partitions=_partitions(found, partition),
        start=bounds[0],
        end=bounds[1],
        rate_per_s=rate,
        name=derive_id("replay", environment.settings.app_id, topic, str(now_ms())),
        controls={
            name: control_topic(environment.flows.flows[name].declaration.group) for name in flows
        },
        is_dry=dry_run,
    )
    routes = environment.flows.routes(topic)
    assert routes is not None, "there are flows, so there are routes"
    decode = _decode(environment, found)
    replayable = Replayable(spec.app, found.contract, decode, routes, flows)
    replayer = Replayer(replayable, spec.name, condition)
    run = Replay(spec, environment.access.client(), replayer, now_ms)
    with unreachable(environment.settings.broker):
        try:
            progress = asyncio.run(run.run())
        except KeyboardInterrupt:
            _tell_where(run.progress)
            raise
    _show(spec, flows | _left_out(environment, topic, flow), progress, as_json)
    is_missed = progress.where_failed is not None and not replayed(progress)
    if is_missed or all(bounds.refusal is not None for bounds in flows.values()):
        raise typer.Exit(NOT_DONE)


def _topic(environment: Environment, name: str) -> Topic:
    found = environment.registry.topics.get(name)
    if found is None:
        near = nearest(name, environment.registry.topics)
        raise CommandError(f"no contract of {name} that workers read: {near}", USAGE)
    return found


def _bound(text: str | None, option: str) -> Bound:
    if text is None:
        return None, None
    if text.isascii() and text.isdigit():
        return int(text), None
    try:
        return None, time_ms(text)
    except ValueError as error:
        raise CommandError(f"{option}: write an offset or a time: {error}", USAGE) from error


def _require_order(start: Bound, end: Bound) -> None:
    """Refuse a range that ends before it begins; an offset and a time cannot be compared."""
    for first, last in zip(start, end, strict=True):
        if first is not None and last is not None and last < first:
            raise CommandError("--to: it is before --from", USAGE)


def _partitions(topic: Topic, wanted: Sequence[int] | None) -> tuple[int, ...]:
    count = topic.contract.partitions
    if beyond := [number for number in wanted or () if number >= count]:
        raise CommandError(f"{topic.contract.topic} has no partition {beyond[0]}", USAGE)
    return tuple(sorted(set(wanted))) if wanted else tuple(range(count))


def _condition(where: str | None) -> Condition:
    """Which events are meant: by a pattern where it begins like one, else by an expression."""
    if where is None:
        return Condition(parse_pattern({"id": [{"exists": True}]}))
    try:
        text = Path(where[1:]).read_text(encoding="utf-8") if where.startswith("@") else where
        if text.lstrip().startswith("{"):
            return Condition(parse_pattern(_DECODER.decode(text)))
        return Condition(where=WhereExpression(text))
    except OSError as error:
        raise CommandError(f"--where {where}: {error.strerror}", USAGE) from error
    except (PatternError, ExpressionError, ValueError, RecursionError) as error:
        raise CommandError(f"--where: {error}", USAGE) from error


def _flows(
    environment: Environment, topic: str, wanted: Sequence[str], may_double: bool
) -> dict[str, Bounds]:
    planned = bounds_of(environment.registry, environment.flows, topic, may_double)
    for name in wanted:
        if name not in planned:
            raise CommandError(f"no flow {name} on {topic}: {nearest(name, planned)}", USAGE)
    if not planned:
        others = left_out(environment.flows, topic)
        told = "".join(f"; {name}: {_why(why)}" for name, why in others.items())
        raise CommandError(f"no flow is triggered by events of {topic}{told}", NOT_DONE)
    return {name: bounds for name, bounds in planned.items() if not wanted or name in wanted}


def _left_out(
    environment: Environment, topic: str, wanted: Sequence[str] | None
) -> dict[str, Bounds]:
    """What is shown besides, unless flows were chosen."""
    others = {} if wanted else left_out(environment.flows, topic)
    return {name: Bounds(why) for name, why in others.items()}


def _decode(environment: Environment, topic: Topic) -> Decode:
    """Decode as the workers do, by the contract's files."""
    try:
        ids = schema_ids(environment.settings, [environment.registry.entries[topic.contract.topic]])
        rules = rules_of(topic.declaration, topic.file, ids.get(topic.contract.topic, {}))
    except RegistryError as error:
        raise CommandError(str(error), USAGE) from error
    return enforced(decoder(topic.contract), rules, now_ms, Tally())


def _tell_where(progress: Progress) -> None:
    """Say where to go on after an interruption."""
    for number, following in sorted(progress.next_offsets.items()):
        end = progress.ranges[number][1]
        if following < end:
            options = f"--partition {number} --from {following} --to {end}"
            print(f"not replayed: {options}", file=sys.stderr)


def _show(spec: ReplaySpec, flows: Mapping[str, Bounds], progress: Progress, as_json: bool) -> None:
    counts = {name: dict(sorted(progress.counts.get(name, {}).items())) for name in flows}
    if as_json:
        told = {
            "replay": None if spec.is_dry else spec.name,
            "topic": spec.contract.topic,
            "isDryRun": spec.is_dry,
            "records": progress.records,
            "replayed": replayed(progress),
            "flows": {
                name: {"refusal": bounds.refusal, "counts": counts[name]}
                for name, bounds in flows.items()
            },
            "partitions": [
                {"partition": number, "from": first, "to": end}
                for number, (first, end) in sorted(progress.ranges.items())
            ],
            "whereFailed": None
            if progress.where_failed is None
            else progress.where_failed._asdict(),
        }
        print(json.dumps(told))
        return
    table = Table("flow", "what", "events")
    for name, reasons in counts.items():
        for reason, count in reasons.items():
            table.add_row(name, reason, str(count))
    if table.row_count:
        screen().print(table)
    verb = "would be sent" if spec.is_dry else "sent"
    print(f"{progress.records} records, {replayed(progress)} commands {verb} again")
    if progress.where_failed is not None:
        position, detail = progress.where_failed
        print(f"--where could not be judged on some events: first on {position}: {detail}")
        print(
            "they are left out: mend it, or ask by has(data.field) && … whether they have a field"
        )
    for name, bounds in flows.items():
        if bounds.refusal is not None:
            print(f"{name}: not run again: {_why(bounds.refusal)}")


def _why(refusal: str) -> str:
    why = {
        DOUBLES: "it writes a record that its readers would take for a new one (--doubles)",
        WAITS: "it waits for several events",
        SAGA: "a saga, whose key has had its instance",
    }
    return why.get(refusal, f"its action is replay: {refusal}")
