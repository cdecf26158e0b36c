"""Commands of the load generator: ``burst`` sends, ``verify`` judges what came out."""

import asyncio
import json
from dataclasses import replace
from typing import Annotated, Any

import typer
from aiokafka.errors import KafkaError
from rich.console import Console
from rich.live import Live
from rich.table import Table

from edo_stream.registry import RegistryError, load
from edo_stream.settings import SettingsError, read_settings
from load.expect import Comparison, Expectation, compare, expect
from load.plan import plan
from load.profile import PROFILES, Profile, declared_profile, spike_of
from load.read import count_records, read_ids
from load.send import Report, SendPolicy, TopicMissingError, quantiles, send

UNREACHABLE = 3

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Bursts of CloudEvents.")

Broker = Annotated[str, typer.Option(envvar="EDO_BROKER", help="Bootstrap servers.")]
Named = Annotated[
    str,
    typer.Option(
        "--profile", help="demo, steady, burst, or contract:TOPIC, its rate; options override."
    ),
]
Events = Annotated[int | None, typer.Option(help="Numbers to hand out over all keys.")]
Keys = Annotated[int | None, typer.Option()]
Skew = Annotated[float | None, typer.Option(help="Zipf's exponent over the keys; 0: uniform.")]
Rate = Annotated[float | None, typer.Option(help="Records/s; 0: as fast as they are taken.")]
Duplicates = Annotated[float | None, typer.Option(help="Ratio of events.")]
DuplicateDistance = Annotated[int | None, typer.Option(help="At most so many records later.")]
Reorder = Annotated[float | None, typer.Option(help="Ratio of events behind their successor.")]
ReorderDistance = Annotated[int | None, typer.Option(help="At most so many records later.")]
GapsFill = Annotated[float | None, typer.Option(help="Ratio of events that come very late.")]
GapFillDistance = Annotated[int | None, typer.Option(help="So many records later.")]
GapsNever = Annotated[float | None, typer.Option(help="Ratio of events that never come.")]
Undecodable = Annotated[float | None, typer.Option(help="Ratio of records that are no events.")]
PayloadBytes = Annotated[int | None, typer.Option(help="Size of an event's data.")]
Spikes = Annotated[list[str] | None, typer.Option("--spike", help="10s:5s:x10, more than once.")]
Seed = Annotated[int | None, typer.Option(help="Another seed: other keys and other ids.")]
BaseMs = Annotated[int | None, typer.Option(help="Events' time counts from here, epoch ms.")]
AsJson = Annotated[bool, typer.Option("--json")]


@app.command()
def burst(  # noqa: PLR0913 - the knobs of a profile
    topic: Annotated[str, typer.Option()],
    broker: Broker,
    profile: Named = "steady",
    events: Events = None,
    keys: Keys = None,
    skew: Skew = None,
    rate: Rate = None,
    duplicates: Duplicates = None,
    duplicate_distance_max: DuplicateDistance = None,
    reorder: Reorder = None,
    reorder_distance_max: ReorderDistance = None,
    gaps_fill: GapsFill = None,
    gap_fill_distance: GapFillDistance = None,
    gaps_never: GapsNever = None,
    undecodable: Undecodable = None,
    payload_bytes: PayloadBytes = None,
    spike: Spikes = None,
    seed: Seed = None,
    base_ms: BaseMs = None,
    pending_max: Annotated[int, typer.Option(help="Records sent and not acknowledged.")] = 100_000,
    as_json: AsJson = False,
) -> None:
    """Send a burst open-loop: by the clock, not by the broker's answers."""
    given = {name: value for name, value in locals().items() if name in _KNOBS}
    chosen = _profile(profile, given, spike)
    console = Console(stderr=as_json)
    title = f"burst of seed {chosen.seed} to {topic}"
    try:
        with Live(console=console, refresh_per_second=4, transient=True) as live:
            report = asyncio.run(
                send(
                    plan(chosen),
                    topic,
                    {"bootstrap_servers": broker},
                    SendPolicy(pending_max=pending_max),
                    lambda so_far: live.update(_progress(title, so_far)),
                )
            )
    except (KafkaError, TopicMissingError) as error:
        console.print(f"{broker}: {error}", style="red", markup=False)
        raise typer.Exit(UNREACHABLE) from error
    if as_json:
        print(json.dumps(report.as_dict()))
    else:
        console.print(_summary(title, report))
    raise typer.Exit(1 if report.failed else 0)


@app.command()
def verify(  # noqa: PLR0913 - the knobs of a profile
    emit: Annotated[str, typer.Option(help="Topic of the results.")],
    dead_letters: Annotated[str, typer.Option(help="Topic of the dead letters.")],
    broker: Broker,
    profile: Named = "steady",
    events: Events = None,
    keys: Keys = None,
    skew: Skew = None,
    duplicates: Duplicates = None,
    duplicate_distance_max: DuplicateDistance = None,
    reorder: Reorder = None,
    reorder_distance_max: ReorderDistance = None,
    gaps_fill: GapsFill = None,
    gap_fill_distance: GapFillDistance = None,
    gaps_never: GapsNever = None,
    undecodable: Undecodable = None,
    seed: Seed = None,
    as_json: AsJson = False,
) -> None:
    """Compare the topics with what must come out of a burst with the same options."""
    given = {name: value for name, value in locals().items() if name in _KNOBS}
    chosen = _profile(profile, given, None)
    expectation = expect(chosen)
    console = Console(stderr=as_json)
    try:
        found = asyncio.run(_compare(expectation, emit, dead_letters, broker))
    except KafkaError as error:
        console.print(f"{broker}: {error}", style="red", markup=False)
        raise typer.Exit(UNREACHABLE) from error
    if as_json:
        print(json.dumps(_compared(expectation, found)))
    else:
        console.print(_verdict(expectation, found))
    raise typer.Exit(0 if found.is_exact else 1)


async def _compare(
    expectation: Expectation, emit: str, dead_letters: str, broker: str
) -> Comparison:
    ids = await read_ids(emit, {"bootstrap_servers": broker}, expectation.emitted.keys())
    dead = await count_records(
        dead_letters, {"bootstrap_servers": broker}, expectation.emitted.keys()
    )
    return compare(expectation, ids, dead)


_KNOBS = frozenset(Profile.__dataclass_fields__) - {"spikes", "type"}


def _profile(name: str, given: dict[str, Any], spikes: list[str] | None) -> Profile:
    """Named profile with the given knobs in place of its own."""
    kind, _, topic = name.partition(":")
    if name not in PROFILES and not (kind == "contract" and topic):
        raise typer.BadParameter(f"no profile {name!r}: {', '.join(PROFILES)}, contract:TOPIC")
    changes = {knob: value for knob, value in given.items() if value is not None}
    if changes.get("rate") == 0:
        changes |= {"rate": None, "spikes": ()}
    try:
        if spikes is not None:
            changes["spikes"] = tuple(map(spike_of, spikes))
        return replace(_declared(topic) if topic else PROFILES[name], **changes)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _declared(topic: str) -> Profile:
    try:
        entry = load(read_settings().topics).entries.get(topic)
    except (SettingsError, RegistryError) as error:
        raise typer.BadParameter(str(error)) from error
    if entry is None or entry.declaration.rate is None:
        raise typer.BadParameter(f"no contract says the rate of {topic}")
    return declared_profile(entry.declaration.rate)


def _progress(title: str, report: Report) -> str:
    return (
        f"{title}: {report.sent:,} sent, {report.acknowledged:,} acknowledged,"
        f" {report.late:,} late, {report.failed:,} failed, {report.rate:,.0f}/s"
    )


def _summary(title: str, report: Report) -> Table:
    table = Table(title=title, show_header=False)
    table.add_row("sent", f"{report.sent:,} in {report.duration_s:,.1f} s: {report.rate:,.0f}/s")
    for kind, number in sorted(report.kinds.items()):
        table.add_row(f"  {kind}", f"{number:,}")
    table.add_row("acknowledged", f"{report.acknowledged:,}")
    table.add_row("failed", f"{report.failed:,} {dict(report.errors) or ''}")
    table.add_row("late", f"{report.late:,}, held back {report.held_back:,} times")
    for name, values in (
        ("schedule lag", report.lags_ms),
        ("acknowledged after", report.acknowledged_ms),
    ):
        found = quantiles(values)
        if found is not None:
            text = f"p50 {found['p50']:,.1f} ms, p99 {found['p99']:,.1f}, max {found['max']:,.1f}"
            table.add_row(name, text)
    return table


def _compared(expectation: Expectation, found: Comparison) -> dict[str, object]:
    return {
        "exact": found.is_exact,
        "expected": expectation.events,
        "emitted": found.emitted,
        "missing": found.missing,
        "repeated": found.repeated,
        "out_of_order": found.out_of_order,
        "unexpected": found.unexpected,
        "undecodable": expectation.undecodable,
        "dead_letters_missing": found.dead_letters_missing,
        "duplicates": expectation.duplicates,
        "never_filled": sum(map(len, expectation.never_filled.values())),
        "examples": found.examples,
    }


def _verdict(expectation: Expectation, found: Comparison) -> Table:
    table = Table(title="exact" if found.is_exact else "NOT exact", show_header=False)
    for name, value in _compared(expectation, found).items():
        if name not in ("exact", "examples"):
            table.add_row(name.replace("_", " "), f"{value:,}")
    for name, examples in found.examples.items():
        table.add_row(f"{name}, e.g.", ", ".join(examples[:5]))
    return table
