"""What a burst is made of: the knobs, three named settings of them, and the spike notation."""

import re
from dataclasses import dataclass, replace
from typing import Final

from edo_stream.registry.declaration import Rate


@dataclass(frozen=True, slots=True)
class Spike:
    """From ``at_s`` on, for ``duration_s``, the rate is ``factor`` times as high."""

    at_s: float
    duration_s: float
    factor: float

    def __post_init__(self) -> None:
        if self.at_s < 0 or self.duration_s <= 0 or self.factor <= 0:
            raise ValueError(f"spike needs at ≥ 0, duration > 0 and factor > 0: {self}")


@dataclass(frozen=True, slots=True)
class Profile:
    """A burst: the same profile gives the same records, byte for byte.

    ``events`` counts the numbers handed out over all keys; each key is numbered from 1 without
    gaps, and its number 1 is never disturbed, so that a reader that starts at the first number
    it sees starts right. Ratios are of ``events`` and drawn per event, distances are in records
    of the whole burst. Two seeds share neither keys nor ids, so bursts can follow each other.
    """

    seed: int = 7
    events: int = 100_000
    keys: int = 2_000
    skew: float = 0.0
    """Exponent of Zipf's law over the keys; 0 is uniform."""
    duplicates: float = 0.05
    duplicate_distance_max: int = 500
    reorder: float = 0.05
    """Numbers that arrive after their successor."""
    reorder_distance_max: int = 20
    gaps_fill: float = 0.0
    """Numbers that arrive ``gap_fill_distance`` records after their successor."""
    gap_fill_distance: int = 2_000
    gaps_never: float = 0.0
    """Numbers that are never sent, although their successor is."""
    undecodable: float = 0.0
    """Records that are no events, by turns of chance in each of the :class:`load.plan.Flaw`."""
    payload_bytes: int = 300
    rate: float | None = None
    """Records per second; ``None``: as fast as they are taken."""
    spikes: tuple[Spike, ...] = ()
    type: str = "load.account.changed"
    base_ms: int | None = None
    """The events' own time counts from here, epoch ms; ``None``: the time of sending."""

    def __post_init__(self) -> None:
        if self.events < 0 or self.keys < 1:
            raise ValueError(f"events ≥ 0 and keys ≥ 1, not {self.events} and {self.keys}")
        disturbed = self.reorder + self.gaps_fill + self.gaps_never + self.undecodable
        ratios = (self.duplicates, self.reorder, self.gaps_fill, self.gaps_never, self.undecodable)
        if min(ratios) < 0 or disturbed > 1 or self.duplicates > 1:
            raise ValueError("ratios are between 0 and 1, and all but duplicates sum up to ≤ 1")
        if min(self.duplicate_distance_max, self.reorder_distance_max, self.gap_fill_distance) < 1:
            raise ValueError("distances are ≥ 1 record")
        if self.rate is not None and self.rate <= 0:
            raise ValueError(f"rate is > 0 records/s, not {self.rate}")
        if self.rate is None and self.spikes:
            raise ValueError("a spike multiplies a rate: give one")


PROFILES: Final = {
    "steady": Profile(events=60_000, rate=1_000, duplicates=0.01, reorder=0.01),
    "burst": Profile(events=500_000, rate=5_000, keys=5_000, skew=1.0, spikes=(Spike(10, 5, 10),)),
    "demo": Profile(
        events=125_000,
        rate=2_000,
        skew=0.8,
        gaps_fill=0.005,
        gaps_never=0.0005,
        undecodable=0.001,
        spikes=(Spike(10, 5, 10),),
    ),
}

#: Of a burst that a contract declares, at its peak.
_PEAK_AT_S: Final = 10
_PEAK_S: Final = 10


def declared_profile(rate: Rate) -> Profile:
    """What a contract expects: the usual rate, ten seconds of the peak, as many as a burst has."""
    factor = (rate.peak or rate.expected) / rate.expected
    spikes = (Spike(_PEAK_AT_S, _PEAK_S, factor),) if factor > 1 else ()
    events = rate.burst or round(rate.expected * (_PEAK_AT_S + _PEAK_S * factor))
    return replace(PROFILES["steady"], events=max(events, 1), rate=rate.expected, spikes=spikes)


_SPIKE: Final = re.compile(r"(?P<at>\d+(?:\.\d+)?)s:(?P<for>\d+(?:\.\d+)?)s:x(?P<by>\d+(?:\.\d+)?)")


def spike_of(text: str) -> Spike:
    """Read ``10s:5s:x10``: ten times the rate from second 10 on, for 5 seconds."""
    found = _SPIKE.fullmatch(text)
    if found is None:
        raise ValueError(f"a spike is written like 10s:5s:x10, not {text!r}")
    return Spike(float(found["at"]), float(found["for"]), float(found["by"]))
