"""Read the outcome of a pipeline from its topics, for the judge of :mod:`edo_stream.observe`."""

import json
from base64 import b64decode
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from edo_stream.core.accounts import Account, Fate
from edo_stream.core.contract import Contract
from edo_stream.core.event import Event, Violation
from edo_stream.observe.outcome import GivenUp, Input, Outcome, Output, Position, Verdict, judge
from edo_stream.registry.plan import ACCOUNTS, GAPS
from edo_stream.sources import decoder
from load.read import records

_account = msgspec.json.Decoder(Account).decode


async def judge_topics(contract: Contract, access: Mapping[str, Any]) -> Verdict:
    """Judge one source topic that has been read to its end."""
    inputs = await _inputs(contract, access)
    outcome = Outcome(
        outputs=await _outputs(contract.emit, access),
        dead_letters=await _dead_letters(contract.dead_letters, access),
        gaps=await _gaps(contract.topic, access),
        fates=await _fates(contract.topic, access),
    )
    return judge(inputs, outcome)


async def _inputs(contract: Contract, access: Mapping[str, Any]) -> list[Input]:
    decode = decoder(contract)
    inputs = []
    async for record in records(contract.topic, access, lambda _: True):
        position = Position(record.topic, record.partition, record.offset)
        match decode(record):
            case Event() as event:
                inputs.append(Input(position, event.key, event.id, event.position))
            case Violation() as violation:
                inputs.append(Input(position, violation.key, None, violation.position))
            case _:
                inputs.append(Input(position, record.key, None))
    return inputs


async def _outputs(topic: str, access: Mapping[str, Any]) -> list[Output]:
    outputs = []
    async for record in records(topic, access, lambda _: True):
        headers = dict(record.headers)
        source, partition, offset = headers["ce_edoposition"].decode().rsplit("/", 2)
        number = headers.get("ce_sequence")
        outputs.append(
            Output(
                Position(record.topic, record.partition, record.offset),
                Position(source, int(partition), int(offset)),
                record.key,
                headers["ce_causationid"].decode(),
                None if number is None else int(number),
            )
        )
    return outputs


async def _dead_letters(topic: str, access: Mapping[str, Any]) -> list[Position]:
    positions = []
    async for record in records(topic, access, lambda _: True):
        headers = dict(record.headers)
        place = [headers[name].decode() for name in ("edo-topic", "edo-partition", "edo-offset")]
        positions.append(Position(place[0], int(place[1]), int(place[2])))
    return positions


async def _gaps(topic: str, access: Mapping[str, Any]) -> list[GivenUp]:
    gaps = []
    async for record in records(GAPS, access, lambda _: True):
        if dict(record.headers)["ce_type"] != b"edo.gap.skipped":
            continue
        gap = json.loads(record.value)
        if gap["topic"] == topic:
            key = gap["key"]
            raw = key.encode() if isinstance(key, str) else b64decode(key["base64"])
            gaps.append(GivenUp(topic, raw, gap["first"], gap["last"]))
    return gaps


async def _fates(topic: str, access: Mapping[str, Any]) -> dict[Position, Fate]:
    """Final fates: what a record was held with is replaced when it is settled."""
    fates: dict[Position, Fate] = {}
    rows: Sequence[Account] = [
        _account(record.value) async for record in records(ACCOUNTS, access, lambda _: True)
    ]
    for account in rows:
        if account.topic == topic:
            for run in (*account.runs, *account.settled):
                for offset in range(run.offset, run.offset + run.length):
                    fates[Position(topic, account.partition, offset)] = Fate(run.fate)
    return fates
