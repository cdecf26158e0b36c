"""`edo dlq`: dead letters, who owns them, and what became of them."""

import asyncio
import getpass
import json
from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

import msgspec
import typer
from aiokafka import AIOKafkaProducer
from rich.table import Table
from rich.text import Text

from edo_stream.cli.environment import CommandError, Environment, unreachable
from edo_stream.cli.operate import NOT_DONE, USAGE, AsJson, key_bytes, readable, shown_time
from edo_stream.cli.screen import screen
from edo_stream.core.notices import key_json
from edo_stream.core.partitioner import partition_of
from edo_stream.engine.admin import Admin, Wanted
from edo_stream.engine.clock import now_ms
from edo_stream.observe.dead_letters import (
    ACKS,
    ACKS_PARTITIONS,
    Ack,
    Letter,
    oldest_by_owner,
    read_letters,
)

app = typer.Typer(no_args_is_help=True, help="Dead letters.")

_SHOWN_BYTES: Final = 2_000

Topic = Annotated[
    str | None, typer.Option("--topic", help="Only of this topic, or its dead letters'.")
]
Flow = Annotated[str | None, typer.Option("--flow", help="Only of this flow.")]
Class = Annotated[str | None, typer.Option("--class", help="Only of this class, such as poison.")]
Reason = Annotated[str | None, typer.Option("--reason", help="Only for this reason.")]
Owner = Annotated[str | None, typer.Option("--owner", help="Only of this owner.")]
KeyOption = Annotated[str | None, typer.Option("--key", help="Only of this key, as text.")]
All = Annotated[bool, typer.Option("--all", help="With those that are acknowledged.")]
Ids = Annotated[list[str] | None, typer.Argument(help="Ids of letters; or choose by options.")]
By = Annotated[str | None, typer.Option("--by", help="Who does it; default: the user.")]
Note = Annotated[str, typer.Option("--note", help="Why, for those who come later.")]


@dataclass(frozen=True, slots=True)
class _Choice:
    """Which letters are meant."""

    ids: tuple[str, ...] = ()
    topic: str | None = None
    flow: str | None = None
    failure: str | None = None
    reason: str | None = None
    owner: str | None = None
    key: bytes | None = None
    with_acknowledged: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether it means all letters."""
        return self == _Choice(with_acknowledged=self.with_acknowledged)

    def has(self, letter: Letter) -> bool:
        """Whether a letter is meant."""
        origin = letter.origin.rsplit("/", 2)[0]
        return (
            (not self.ids or letter.id in self.ids)
            and self.topic in (None, letter.topic, origin)
            and self.flow in (None, letter.flow)
            and self.failure in (None, letter.failure)
            and self.reason in (None, letter.reason)
            and self.owner in (None, letter.owner)
            and self.key in (None, letter.key)
            and (self.with_acknowledged or letter.ack is None)
        )


@app.callback()
def dlq() -> None:
    """Dead letters."""


@app.command("list")
def list_(  # noqa: PLR0913 - the command line
    topic: Topic = None,
    flow: Flow = None,
    failure: Class = None,
    reason: Reason = None,
    owner: Owner = None,
    key: KeyOption = None,
    with_acknowledged: All = False,
    as_json: AsJson = False,
) -> None:
    """Show the letters that nobody has acknowledged, the oldest first."""
    key_ = None if key is None else key_bytes(key, None)
    choice = _Choice((), topic, flow, failure, reason, owner, key_, with_acknowledged)
    found = _read(Environment.read(), choice)
    if as_json:
        print(json.dumps([_as_json(letter) for letter in found]))
    else:
        _show(found)


@app.command()
def owners(as_json: AsJson = False) -> None:
    """Show how many letters wait for each owner, and since when: 1 when one is overdue."""
    environment = Environment.read()
    waiting = oldest_by_owner(_read(environment, _Choice()))
    within_ms = _acknowledged_within(environment)
    now = now_ms()
    rows = [
        {
            "owner": owner,
            "letters": count,
            "oldestMs": since_ms,
            "ageSeconds": max(0, (now - since_ms) // 1000),
            "isOverdue": owner in within_ms and now - since_ms > within_ms[owner],
        }
        for owner, (count, since_ms) in sorted(waiting.items())
    ]
    if as_json:
        print(json.dumps(rows))
    elif not rows:
        print("no dead letters wait")
    else:
        table = Table("owner", "letters", "oldest", "overdue")
        for row in rows:
            overdue = "yes" if row["isOverdue"] else ""
            oldest = shown_time(waiting[str(row["owner"])][1])
            table.add_row(Text(str(row["owner"])), str(row["letters"]), oldest, overdue)
        screen().print(table)
    if any(row["isOverdue"] for row in rows):
        raise typer.Exit(NOT_DONE)


@app.command()
def show(
    letter_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the letter.")],
    as_json: AsJson = False,
) -> None:
    """Show one letter whole: why, and the record as it came."""
    (letter,) = _chosen(Environment.read(), _Choice((letter_id,), with_acknowledged=True))
    if as_json:
        print(json.dumps({**_as_json(letter), **_content(letter)}))
        return
    table = Table(show_header=False)
    for name, value in {**_as_json(letter), **_content(letter)}.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        table.add_row(name, Text(text[:_SHOWN_BYTES]))
    screen().print(table)


@app.command()
def ack(  # noqa: PLR0913 - the command line
    ids: Ids = None,
    topic: Topic = None,
    flow: Flow = None,
    failure: Class = None,
    reason: Reason = None,
    owner: Owner = None,
    by: By = None,
    note: Note = "",
) -> None:
    """Say that letters were seen and need nothing more."""
    environment = Environment.read()
    choice = _Choice(tuple(ids or ()), topic, flow, failure, reason, owner)
    letters = _chosen(environment, choice)
    entry = Ack(by or getpass.getuser(), now_ms(), "acknowledged", note)
    _write(environment, letters, entry, is_redrive=False)
    print(f"{len(letters)} acknowledged")


@app.command()
def redrive(  # noqa: PLR0913 - the command line
    ids: Ids = None,
    topic: Topic = None,
    flow: Flow = None,
    failure: Class = None,
    reason: Reason = None,
    owner: Owner = None,
    by: By = None,
    note: Note = "",
) -> None:
    """Send letters again to where they came from, and acknowledge them, in one transaction.

    A command keeps its id, and so its idempotency key. Letters by reference cannot be sent again.
    """
    environment = Environment.read()
    choice = _Choice(tuple(ids or ()), topic, flow, failure, reason, owner)
    letters = _chosen(environment, choice)
    for letter in letters:
        _place_of(letter)
    entry = Ack(by or getpass.getuser(), now_ms(), "redriven", note)
    _write(environment, letters, entry, is_redrive=True)
    print(f"{len(letters)} sent again")


def _read(environment: Environment, choice: _Choice) -> list[Letter]:
    topics = sorted(
        {contract.dead_letters for contract in environment.registry.contracts.values()}
        | {flow.policy.dead_letters for flow in environment.flows.flows.values()}
        | {group.spec.dead_letters for group in environment.flows.groups.values()}
    )
    with unreachable(environment.settings.broker):
        letters = asyncio.run(read_letters(topics, environment.access.client()))
    return [letter for letter in letters if choice.has(letter)]


def _chosen(environment: Environment, choice: _Choice) -> list[Letter]:
    if choice.is_empty:
        raise CommandError("write ids of letters, or choose them by options", USAGE)
    found = _read(environment, choice)
    if missing := set(choice.ids) - {letter.id for letter in found}:
        raise CommandError(
            f"no letter {', '.join(sorted(missing))} waits: 'edo dlq list' shows what does",
            NOT_DONE,
        )
    return found


def _acknowledged_within(environment: Environment) -> dict[str, int]:
    """The shortest time that each owner has promised, in ms."""
    within: dict[str, int] = {}
    for entry in environment.registry.entries.values():
        letters = entry.declaration.dead_letters
        if letters.acknowledge_within is not None:
            owner = letters.owner or entry.declaration.owner
            within[owner] = min(letters.acknowledge_within, within.get(owner, 1 << 62))
    for flow in environment.flows.flows.values():
        owner = flow.policy.owner
        promised = flow.declaration.dead_letters.acknowledge_within
        within[owner] = min(promised, within.get(owner, 1 << 62))
    return within


def _place_of(letter: Letter) -> tuple[str, int]:
    """Topic and partition that a letter's record came from."""
    topic, _, rest = letter.origin.partition("/")
    partition = rest.partition("/")[0]
    is_known = partition.isdigit() and topic != letter.topic
    if not is_known or (letter.value is None and letter.reason == "too-large"):
        raise CommandError(f"{letter.id} cannot be sent again: its record is not in it", NOT_DONE)
    return topic, int(partition)


def _write(
    environment: Environment, letters: Sequence[Letter], entry: Ack, is_redrive: bool
) -> None:
    with unreachable(environment.settings.broker):
        asyncio.run(_write_all(environment, letters, entry, is_redrive))


async def _write_all(
    environment: Environment, letters: Sequence[Letter], entry: Ack, is_redrive: bool
) -> None:
    await _create_acks(environment)
    producer = AIOKafkaProducer(
        **environment.access.client(),
        acks="all",
        # Of one operator's command: nobody else's is fenced by it.
        transactional_id=f"{environment.settings.app_id}.dlq.{entry.at_ms}.{entry.by}",
    )
    try:
        await producer.start()
        async with producer.transaction():
            sent = []
            for letter in letters:
                if is_redrive:
                    topic, partition = _place_of(letter)
                    headers = [*letter.headers, ("edo-redrive", b"%d" % (letter.redrive + 1))]
                    sent.append(
                        await producer.send(
                            topic, letter.value, letter.key, partition, headers=headers
                        )
                    )
                name = letter.id.encode()
                to = partition_of(name, ACKS_PARTITIONS)
                sent.append(await producer.send(ACKS, msgspec.json.encode(entry), name, to))
            # A transaction commits although a record of it was refused.
            await asyncio.gather(*sent)
    finally:
        await producer.stop()


async def _create_acks(environment: Environment) -> None:
    wanted = Wanted(
        ACKS,
        ACKS_PARTITIONS,
        environment.settings.replication,
        {"cleanup.policy": "compact"},
        is_internal=True,
        why="acknowledgements of dead letters",
    )
    async with Admin(environment.access) as admin:
        if ACKS not in await admin.present([ACKS]):
            await admin.create([wanted])


def _as_json(letter: Letter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "at": letter.at_ms,
        "origin": letter.origin,
        "flow": letter.flow,
        "key": None if letter.key is None else key_json(letter.key),
        "class": letter.failure,
        "reason": letter.reason,
        "detail": letter.detail,
        "attempts": letter.attempts,
        "owner": letter.owner,
        "letter": f"{letter.topic}/{letter.partition}/{letter.offset}",
        "redrive": letter.redrive,
        "ack": None if letter.ack is None else msgspec.to_builtins(letter.ack),
    }


def _content(letter: Letter) -> dict[str, Any]:
    headers = [[name, _readable(value)] for name, value in letter.headers]
    return {"headers": headers, "value": _readable(letter.value)}


def _readable(value: bytes | None) -> Any:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return {"base64": b64encode(value or b"").decode()}


def _show(letters: Iterable[Letter]) -> None:
    found = list(letters)
    if not found:
        print("no dead letters wait")
        return
    table = Table("id", "at", "from", "key", "class", "reason", "attempts", "owner", "ack")
    for column in table.columns:
        column.overflow = "fold"
    for letter in found:
        table.add_row(
            letter.id,
            shown_time(letter.at_ms),
            letter.flow or letter.origin,
            Text("" if letter.key is None else readable(letter.key)),
            letter.failure,
            Text(letter.reason),
            str(letter.attempts or ""),
            Text(letter.owner),
            "" if letter.ack is None else f"{letter.ack.action} by {letter.ack.by}",
        )
    screen().print(table)
