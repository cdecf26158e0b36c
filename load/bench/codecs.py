"""Compression: every codec read, and what each that can be written costs and saves."""

from dataclasses import asdict, dataclass
from typing import Any, Final

from load.bench.programs import OURS, PROGRAMS
from load.bench.run import Bench, Run, run

READ: Final = ("none", "gzip", "snappy", "lz4", "zstd")
WRITTEN: Final = ("none", "lz4", "zstd")


@dataclass(frozen=True, slots=True)
class Codec:
    """One run of ours with one codec for what it reads and one for what it writes."""

    read: str
    written: str
    exact: bool
    void: bool
    input_bytes_per_event: float
    results_bytes_per_event: float
    changelogs_bytes_per_event: float
    events_per_s: float
    cpu_us_per_event: float
    broker_cpu_us_per_event: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for the report."""
        return asdict(self)


async def try_codecs(bench: Bench, records: int) -> list[Codec]:
    """Each codec read, with the default written; then each written."""
    found: list[Codec] = []
    for number, (read, written) in enumerate(
        [*((codec, "lz4") for codec in READ), *(("none", codec) for codec in WRITTEN)]
    ):
        if (read, written) in [(one.read, one.written) for one in found]:
            continue
        found.append(await _try(bench, records, read, written, f"codec{number}"))
        bench.screen.say(f"reads {read}, writes {written}: {found[-1].events_per_s:,.0f} events/s")
    return found


async def _try(bench: Bench, records: int, read: str, written: str, mark: str) -> Codec:
    source = await bench.input(records, read)
    place = bench.place(PROGRAMS[OURS], source.topic, mark, EDO_COMPRESSION=written)
    input_bytes = (await bench.topics.sizes_bytes())[source.topic]
    return _codec(
        await run(PROGRAMS[OURS], source, place, bench, pair=0),
        read,
        written,
        input_bytes,
    )


def _codec(run: Run, read: str, written: str, input_bytes: int) -> Codec:
    return Codec(
        read=read,
        written=written,
        exact=run.is_exact,
        void=run.is_void,
        input_bytes_per_event=input_bytes / run.records,
        results_bytes_per_event=run.sizes_bytes["results"] / run.records,
        changelogs_bytes_per_event=run.sizes_bytes["changelogs"] / run.records,
        events_per_s=run.events_per_s,
        cpu_us_per_event=run.cpu_us_per_event,
        broker_cpu_us_per_event=run.broker_cpu_us_per_event,
    )
