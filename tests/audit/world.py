"""A small world to audit: one source partition with its accounts, results and dead letters."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from edo_stream.core.accounts import Account, Fate, Run, runs_of
from edo_stream.observe.audit.application import Audit
from edo_stream.observe.audit.evidence import Bounds, Closing
from edo_stream.observe.audit.report import Findings, Place, Problem, Report

APP = "app"
TOPIC = "orders.order.placed"
RESULTS = "results"
DEAD_LETTERS = "dead-letters"
EMPTY = Account(app=APP, group="g", topic=TOPIC, partition=0, at_ms=0)


@dataclass(frozen=True)
class World:
    """What lies in the topics; ``results`` and ``dead_letters`` name offsets of the source."""

    records: Sequence[int]
    accounts: Sequence[Account]
    results: Sequence[int]
    dead_letters: Sequence[int]
    bounds: Bounds
    tentative: Sequence[Account] = ()
    has_all_accounts: bool = True
    results_begin_with: Sequence[int | None] = ()
    """An offset where retention has deleted results; see ``Audit.results_begin_with``."""
    findings_max: int = 100
    more_headers: Sequence[tuple[str, bytes]] = field(default=())


def account(
    *runs: tuple[int, int, Fate],
    settled: Sequence[tuple[int, int, Fate]] = (),
    start: int | None = None,
    lost: tuple[int, int] | None = None,
) -> Account:
    return msgspec.structs.replace(
        EMPTY,
        runs=tuple(Run(offset, length, fate.value) for offset, length, fate in runs),
        settled=tuple(Run(offset, length, fate.value) for offset, length, fate in settled),
        start=start,
        lost=lost,
    )


def result_headers(offset: int, app: str = APP, topic: str = TOPIC) -> list[tuple[str, bytes]]:
    return [
        ("ce_source", f"/edo/{app}".encode()),
        ("ce_edoposition", f"{topic}/0/{offset}".encode()),
    ]


def dead_letter_headers(offset: int, app: str = APP) -> list[tuple[str, bytes]]:
    return [
        ("edo-app", app.encode()),
        ("edo-topic", TOPIC.encode()),
        ("edo-partition", b"0"),
        ("edo-offset", b"%d" % offset),
    ]


def begun(world: World) -> Audit:
    """An audit that has all evidence of the world and is not yet concluded."""
    audit = Audit(APP, [TOPIC], Findings(world.findings_max))
    audit.source(TOPIC, 0, world.bounds)
    for is_firm, accounts in ((True, world.accounts), (False, world.tentative)):
        for number, one in enumerate(accounts):
            audit.account(msgspec.json.encode(one), Place("accounts", 0, number), is_firm)
    audit.records(TOPIC, 0, world.records)
    for number, offset in enumerate(world.results):
        audit.result(result_headers(offset), Place(RESULTS, 0, number))
    for number, offset in enumerate(world.dead_letters):
        headers = [*world.more_headers, *dead_letter_headers(offset)]
        audit.dead_letter(headers, Place(DEAD_LETTERS, 0, number))
    for first_left in world.results_begin_with:
        audit.results_begin_with(TOPIC, 0, first_left)
    return audit


def closings(world: World) -> dict[tuple[str, int], Closing]:
    bounds = world.bounds
    return {(TOPIC, 0): Closing(bounds.first, bounds.committed is not None)}


def audited(world: World) -> Report:
    return begun(world).conclude(closings(world), world.has_all_accounts)


def problems(world: World) -> dict[Problem, int]:
    return dict(audited(world).counts)


def world_of(
    fates: Sequence[Fate | None],
    settlements: dict[int, tuple[int, Fate]],
    batch_size: int,
    first: int = 0,
) -> World:
    """A consistent world.

    ``fates`` are those of consecutive offsets, ``None`` a transaction marker. ``settlements``
    give held ones their final fate in the account of a later batch, counted from 0.
    """
    placed = [(first + index, fate) for index, fate in enumerate(fates)]
    accounts = [account(start=first)]
    for number, begin in enumerate(range(0, len(placed), batch_size)):
        batch = [(o, fate) for o, fate in placed[begin : begin + batch_size] if fate is not None]
        settled = sorted((o, fate) for o, (at, fate) in settlements.items() if at == number)
        accounts.append(
            msgspec.structs.replace(
                EMPTY,
                runs=runs_of([o for o, _ in batch], [fate for _, fate in batch]),
                settled=runs_of([o for o, _ in settled], [fate for _, fate in settled]),
            )
        )
    final = {o: fate for o, fate in placed if fate is not None}
    final |= {o: fate for o, (_, fate) in settlements.items()}
    end = first + len(placed)
    return World(
        records=sorted(final),
        accounts=accounts,
        results=[o for o, fate in final.items() if fate is Fate.EMITTED],
        dead_letters=[o for o, fate in final.items() if fate is Fate.DEAD_LETTERED],
        bounds=Bounds(first, end, end),
    )
