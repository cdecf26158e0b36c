"""`edo dlq`: dead letters, who owns them, and what became of them."""

import asyncio
import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

import msgspec
import typer
from aiokafka import AIOKafkaProducer
from aiokafka.errors import ProducerFenced
from rich.table import Table
from rich.text import Text

from edo_stream.cli.dlq_combined import joined_again
from edo_stream.cli.dlq_lookups import sought_again
from edo_stream.cli.environment import CommandError, Environment, unreachable
from edo_stream.cli.operate import (
    NOT_DONE,
    USAGE,
    AsJson,
    key_bytes,
    operator,
    readable,
    shown_time,
)
from edo_stream.cli.screen import screen
from edo_stream.core.correlation.joined import decode_joined, encode_joined
from edo_stream.core.effects import Publish
from edo_stream.core.event import Violation, derive_id
from edo_stream.core.notices import key_json
from edo_stream.core.partitioner import partition_of
from edo_stream.core.redrive import REDRIVE
from edo_stream.engine.admin import Admin, Wanted
from edo_stream.engine.clock import now_ms
from edo_stream.flows.correlation import JOINS_PREFIX
from edo_stream.observe.dead_letters import (
    ACKS,
    ACKS_PARTITIONS,
    Ack,
    Letter,
    backlogs,
    read_acks,
    read_letters,
)
from edo_stream.observe.owners import owners_of

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
KeyBase64 = Annotated[
    str | None,
    typer.Option("--key-base64", help="Only of this key, in Base64 where it is no text."),
]
NewKey = Annotated[
    bool,
    typer.Option(
        "--new-key", help="Commands: with another idempotency key, so that receivers do them anew."
    ),
]
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
    key_base64: KeyBase64 = None,
    with_acknowledged: All = False,
    as_json: AsJson = False,
) -> None:
    """Show the letters that nobody has acknowledged, the oldest first."""
    of_key = _key(key, key_base64)
    choice = _Choice((), topic, flow, failure, reason, owner, of_key, with_acknowledged)
    found = _read(Environment.read(), choice)
    if as_json:
        print(json.dumps([_as_json(letter) for letter in found]))
    else:
        _show(found)


@app.command()
def owners(as_json: AsJson = False) -> None:
    """Show how many letters wait for each owner, and since when: 1 when one is overdue."""
    now = now_ms()
    waiting = backlogs(_read(Environment.read(), _Choice()), now)
    rows = [
        {
            "owner": owner,
            "letters": backlog.letters,
            "oldestMs": backlog.oldest_ms,
            "ageSeconds": max(0, (now - backlog.oldest_ms) // 1000),
            "overdue": backlog.overdue,
            "isOverdue": backlog.overdue > 0,
        }
        for owner, backlog in sorted(waiting.items())
    ]
    if as_json:
        print(json.dumps(rows))
    elif not rows:
        print("no dead letters wait")
    else:
        table = Table("owner", "letters", "oldest", "overdue")
        for row in rows:
            oldest = shown_time(waiting[str(row["owner"])].oldest_ms)
            overdue = str(row["overdue"] or "")
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
    key: KeyOption = None,
    key_base64: KeyBase64 = None,
    by: By = None,
    note: Note = "",
    as_json: AsJson = False,
) -> None:
    """Say that letters were seen and need nothing more."""
    environment = Environment.read()
    of_key = _key(key, key_base64)
    choice = _Choice(tuple(ids or ()), topic, flow, failure, reason, owner, of_key)
    letters = _chosen(environment, choice)
    entry = Ack(operator(by), now_ms(), "acknowledged", note)
    _write(environment, letters, entry, _nothing)
    _done(letters, entry, "acknowledged", as_json=as_json)


@app.command()
def redrive(  # noqa: PLR0913 - the command line
    ids: Ids = None,
    topic: Topic = None,
    flow: Flow = None,
    failure: Class = None,
    reason: Reason = None,
    owner: Owner = None,
    key: KeyOption = None,
    key_base64: KeyBase64 = None,
    new_key: NewKey = False,
    by: By = None,
    note: Note = "",
    as_json: AsJson = False,
) -> None:
    """Send letters again to where they came from, and acknowledge them, in one transaction.

    An event passes dedupe, once for each time that it is sent again. One that a flow waited with,
    or looked something up for, comes to that flow alone, as if it had just arrived. A command
    keeps its id, and so its idempotency key, unless --new-key is given. Letters by reference
    cannot be sent again.
    """
    environment = Environment.read()
    of_key = _key(key, key_base64)
    choice = _Choice(tuple(ids or ()), topic, flow, failure, reason, owner, of_key)
    letters = _chosen(environment, choice)
    sent: dict[str, list[Message]] = {}
    for letter in letters:
        sought = sought_again(letter, environment.flows, environment.settings.app_id, now_ms())
        event = None if letter.joined or sought else joined_again(letter, environment.flows)
        if new_key and (letter.flow is None or letter.joined or event or sought is not None):
            raise CommandError(f"{letter.id} is no command: --new-key means nothing", USAGE)
        if sought is not None:
            sent[letter.id] = [_message(one) for one in sought]
        elif event is not None:
            topic_again, partition, value = event
            sent[letter.id] = [(topic_again, value, letter.key, partition, [])]
        else:
            sent[letter.id] = _again_by_new_key(letter) if new_key else _again(letter)
    _require_readers(environment, sent)
    entry = Ack(operator(by), now_ms(), "redriven", note)
    _write(environment, letters, entry, lambda letter: sent[letter.id])
    _done(letters, entry, "sent again", as_json=as_json)


def _done(letters: Sequence[Letter], entry: Ack, what: str, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"action": entry.action, "ids": [letter.id for letter in letters]}))
    else:
        print(f"{len(letters)} {what}")


def _read(environment: Environment, choice: _Choice) -> list[Letter]:
    owners = owners_of(environment.registry, environment.flows)
    with unreachable(environment.settings.broker):
        app, broker = environment.settings.app_id, environment.access.client()
        letters = asyncio.run(read_letters(app, owners, broker))
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
    if not found:
        raise CommandError("no such letter waits: 'edo dlq list' shows what does", NOT_DONE)
    return found


def _key(text: str | None, base64: str | None) -> bytes | None:
    return None if text is None and base64 is None else key_bytes(text, base64)


def _place_of(letter: Letter) -> tuple[str, int]:
    """Topic and partition that a letter's record came from."""
    topic, _, rest = letter.origin.partition("/")
    partition = rest.partition("/")[0]
    is_known = partition.isdigit() and topic != letter.topic
    is_joined = topic.startswith(JOINS_PREFIX) and letter.flow is not None
    if not is_known or letter.is_reference or (is_joined and not letter.joined):
        raise CommandError(f"{letter.id} cannot be sent again: its record is not in it", NOT_DONE)
    return topic, int(partition)


Message = tuple[str, bytes | None, bytes | None, int, list[tuple[str, bytes | None]]]
"""Topic, value, key, partition and headers."""


def _message(written: Publish) -> Message:
    return written.topic, written.value, written.key, written.partition, list(written.headers)


def _require_readers(environment: Environment, sent: Mapping[str, list[Message]]) -> None:
    """What nobody reads any more would wait for ever, and its letter be acknowledged."""
    declared = {topic.name for topic in environment.wanted}
    for letter_id, messages in sent.items():
        for topic in {topic for topic, *_ in messages} - declared:
            raise CommandError(
                f"{letter_id} cannot be sent again: nothing declared reads {topic}; put the flow "
                "or the contract back, or acknowledge it",
                NOT_DONE,
            )


def _nothing(letter: Letter) -> list[Message]:
    return []


def _again(letter: Letter) -> list[Message]:
    topic, partition = _place_of(letter)
    # The last one: see edo_stream.core.redrive.
    again: tuple[str, bytes | None] = (REDRIVE, b"%d" % (letter.redrive + 1))
    if letter.joined:
        return [(topic, _joined_of(letter), letter.key, partition, [again])]
    return [(topic, letter.value, letter.key, partition, [*letter.headers, again])]


def _joined_of(letter: Letter) -> bytes:
    """An event that a flow waited with, as it came to its wait."""
    joined = decode_joined(b64decode(letter.joined))
    if isinstance(joined, Violation):
        raise CommandError(f"{letter.id} cannot be sent again: {joined.detail}", NOT_DONE)
    return encode_joined(msgspec.structs.replace(joined, data=letter.value))


def _again_by_new_key(letter: Letter) -> list[Message]:
    (message,) = _again(letter)
    *rest, headers = message
    fresh = derive_id("redrive", letter.id).encode()
    return [(*rest, [(n, fresh if n == "ce_id" else value) for n, value in headers])]  # type: ignore[list-item]


def _write(
    environment: Environment,
    letters: Sequence[Letter],
    entry: Ack,
    messages_of: Callable[[Letter], list[Message]],
) -> None:
    with unreachable(environment.settings.broker):
        try:
            asyncio.run(_write_all(environment, letters, entry, messages_of))
        except ProducerFenced as error:
            raise CommandError(
                "another `edo dlq` has begun meanwhile: nothing was done, try again", NOT_DONE
            ) from error


async def _write_all(
    environment: Environment,
    letters: Sequence[Letter],
    entry: Ack,
    messages_of: Callable[[Letter], list[Message]],
) -> None:
    await _create_acks(environment)
    broker = environment.access.client()
    # One name for all operators: whoever begins later fences those before, so that nobody sends a
    # letter again that was acknowledged since it was read.
    name = f"{environment.settings.app_id}.dlq"
    producer = AIOKafkaProducer(**broker, acks="all", transactional_id=name)
    try:
        await producer.start()
        seen = await read_acks(broker)
        if again := [letter.id for letter in letters if letter.id in seen and letter.ack is None]:
            raise CommandError(
                f"{', '.join(again)}: acknowledged by somebody else meanwhile; nothing was done",
                NOT_DONE,
            )
        async with producer.transaction():
            sent = []
            for letter in letters:
                for topic, value, key, partition, headers in messages_of(letter):
                    sent.append(await producer.send(topic, value, key, partition, headers=headers))
                ack = letter.id.encode()
                to = partition_of(ack, ACKS_PARTITIONS)
                sent.append(await producer.send(ACKS, msgspec.json.encode(entry), ack, to))
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
        "dueMs": letter.due_ms,
        "ack": None if letter.ack is None else _ack_json(letter.ack),
    }


def _ack_json(ack: Ack) -> dict[str, Any]:
    return {"by": ack.by, "at": ack.at_ms, "action": ack.action, "note": ack.note}


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
