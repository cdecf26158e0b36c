"""The records of the comparison, and what must come out of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from hashlib import shake_128
from typing import Final

import msgspec

from load.bench.topics import INPUTS, Topics
from load.expect import Expectation, expect
from load.plan import Planned, plan
from load.profile import Profile
from load.send import SendPolicy, send

KEYS: Final = 2_000
_DUPLICATES: Final = 0.05
_UNLIKE_BYTES: Final = 64
"""Of each record's data; twice as many hexadecimal digits."""
_END: Final = b'"}'


class LoadError(Exception):
    """The broker has not taken all records."""


@dataclass(frozen=True, slots=True)
class Input:
    """Records in a topic."""

    topic: str
    profile: Profile
    expectation: Expectation
    ends: list[int]

    @property
    def records(self) -> int:
        return self.expectation.records


def profile_of(records: int, rate: float | None = None, seed: int = 7) -> Profile:
    """The job's burst: about so many records, a twentieth of them duplicates."""
    return Profile(
        seed=seed,
        events=round(records / (1 + _DUPLICATES)),
        keys=KEYS,
        duplicates=_DUPLICATES,
        reorder=0.05,
        payload_bytes=300,
        rate=rate,
    )


@lru_cache(maxsize=2)
def expected(profile: Profile) -> Expectation:
    """What must come out; kept, since it takes a while to work out."""
    return expect(profile)


def records_of(profile: Profile) -> Iterator[Planned]:
    """The burst's records, with text in each that no codec can shrink by more than half.

    The plan's own text is cut from one page, which compresses as nothing in the world does.
    """
    for planned in plan(profile):
        text = shake_128(dict(planned.headers)["ce_id"]).hexdigest(_UNLIKE_BYTES).encode()
        value = planned.value[: -len(text) - len(_END)] + text + _END
        yield msgspec.structs.replace(planned, value=value)


async def load_input(
    topics: Topics, broker: str, records: int, compression: str | None = None
) -> Input:
    """Send the records into a topic of their own.

    Raises:
        LoadError: some did not arrive.
    """
    profile = profile_of(records)
    topic = f"{INPUTS}n{records}-{compression or 'none'}"
    await topics.create(topic)
    policy = SendPolicy(compression=compression)
    sent = await send(
        records_of(profile), topic, {"bootstrap_servers": broker}, policy, lambda report: None
    )
    if sent.failed:
        raise LoadError(f"{sent.failed} records of {topic} failed: {dict(sent.errors)}")
    return Input(topic, profile, expected(profile), await topics.ends(topic))
