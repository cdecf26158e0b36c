"""The command: starts a Kafka and a gateway, measures, prints, writes build/gateway.json."""

import asyncio
import json
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, Final

import typer
import uvloop
from rich.console import Console
from rich.table import Table

from edo_stream.local.kafka import LocalKafka
from load.gateway.measures import Finding, kills, latency, slow_strangers, throughput
from load.gateway.place import TOPIC, LocalGateway, create_topic

REPORT: Final = Path("build/gateway.json")

app = typer.Typer(add_completion=False, help=__doc__)

Measure = Callable[[LocalGateway, LocalKafka], Coroutine[Any, Any, Finding]]


@app.command()
def measure(
    seconds: Annotated[float, typer.Option(help="How long each measurement takes.")] = 15.0,
    slow: Annotated[int, typer.Option(help="Slow connections.")] = 2_000,
    only: Annotated[
        str, typer.Option(help="Measure these alone: throughput, latency, slow, kills.")
    ] = "throughput,latency,slow,kills",
) -> None:
    """Measure the gateway on this machine; 1 if a bar is not met."""
    measures: dict[str, Measure] = {
        "throughput": lambda gateway, kafka: throughput(gateway, seconds),
        "latency": lambda gateway, kafka: latency(gateway, 1_000.0, seconds),
        "slow": lambda gateway, kafka: slow_strangers(gateway, slow, seconds),
        "kills": lambda gateway, kafka: kills(gateway, kafka, 1_000.0, max(seconds, 12.0)),
    }
    findings = []
    with tempfile.TemporaryDirectory() as folder, LocalKafka(Path(folder) / "kafka") as kafka:
        asyncio.run(create_topic(kafka.bootstrap, TOPIC))
        for name in only.split(","):
            with LocalGateway(
                Path(folder) / f"gateway-{name}", {"EDO_BROKER": kafka.bootstrap}, TOPIC
            ) as gateway:
                findings.append(uvloop.run(measures[name](gateway, kafka)))
    _print(findings)
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(json.dumps([finding.as_dict() for finding in findings], indent=2) + "\n")
    if not all(finding.is_met for finding in findings):
        raise typer.Exit(1)


def _print(findings: list[Finding]) -> None:
    table = Table("measured", "found", "bar", "met", "details")
    for finding in findings:
        details = ", ".join(f"{name} {value}" for name, value in finding.details.items())
        met = "yes" if finding.is_met else "NO"
        table.add_row(finding.name, finding.value, finding.bar, met, details)
    Console(width=160).print(table)
