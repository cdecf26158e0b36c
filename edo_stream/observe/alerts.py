"""Alerts for Prometheus, over the metrics of workers: ``deploy/alerts.yml`` is made from these.

Each is about what a person has to do something about; its description says what.
"""

from dataclasses import dataclass

import yaml


@dataclass(frozen=True, slots=True)
class Alert:
    """One rule."""

    name: str
    expression: str
    """PromQL; what it gives is what is wrong, one alert for each set of labels."""
    lasts: str
    """For how long, before anybody is told; a duration of Prometheus."""
    severity: str
    """``page``: now; ``ticket``: this week."""
    summary: str
    """One line; ``{{ $labels.… }}`` and ``{{ $value }}`` are filled in."""
    description: str


#: Several workers may count the same letters for a moment.
_BY_OWNER = "max by (owner) ({})"

ALERTS = (
    Alert(
        "EdoDeadLettersOverdue",
        _BY_OWNER.format("edo_dead_letters_overdue") + " > 0",
        "1m",
        "page",
        "{{ $value }} dead letters of {{ $labels.owner }} were not acknowledged in time",
        "edo dlq list --owner shows them; edo dlq redrive sends them again, edo dlq ack says that "
        "they need nothing more.",
    ),
    Alert(
        "EdoDeadLettersOld",
        _BY_OWNER.format("edo_dead_letters_oldest_seconds") + " > 86400",
        "5m",
        "ticket",
        "a dead letter of {{ $labels.owner }} has waited for more than a day",
        "edo dlq owners shows how many wait, and since when.",
    ),
    Alert(
        "EdoDeadLettersUnwatched",
        "sum(edo_dead_letters_watched) < 1 or absent(edo_dead_letters_watched)",
        "15m",
        "ticket",
        "no worker counts dead letters",
        "The worker that runs the first task cannot read them: its log says why.",
    ),
    Alert(
        "EdoFlowStopped",
        "max by (flow) (edo_flow_stopped) > 0",
        "1m",
        "page",
        "flow {{ $labels.flow }} has stopped: most of its commands became dead letters",
        "Mend what its letters say, then let it go on with edo breaker close.",
    ),
    Alert(
        "EdoBreakerOpen",
        "max by (flow) (edo_breaker_open) >= 1",
        "10m",
        "page",
        "nothing of flow {{ $labels.flow }} runs: its receiver is broken, or an operator said so",
        "Its commands wait and nothing is lost; edo breaker list says why it is open.",
    ),
    Alert(
        "EdoTaskRefused",
        "max by (group, partition) (edo_task_refused) > 0",
        "1m",
        "page",
        "task {{ $labels.group }}-{{ $labels.partition }} has stopped: it would lose or repeat",
        "edo status says what, and which setting gives consent.",
    ),
    Alert(
        "EdoBehind",
        # What is on a tier waits on purpose, and so does what an operator has paused.
        'max by (group, topic) (edo_lag_seconds{topic!~"edo[.]retry[.].*"} '
        "unless on (group, topic, partition) edo_source_paused == 1) > 900",
        "5m",
        "page",
        "{{ $labels.topic }} is {{ $value | humanizeDuration }} behind",
        "edo lag shows which partitions; of commands, a receiver is slow or a breaker is open.",
    ),
    Alert(
        "EdoRetriesLate",
        "histogram_quantile(0.99, "
        "sum by (flow, le) (rate(edo_retry_late_seconds_bucket[10m]))) > 5",
        "10m",
        "ticket",
        "retries of flow {{ $labels.flow }} run {{ $value | humanizeDuration }} late",
        "Its concurrency, rate or breaker holds them back, or the worker has too much to do.",
    ),
)

_HEAD = """\
# Alerts for Prometheus: made from edo_stream/observe/alerts.py by `make docs`.
"""


def alerts_file() -> str:
    """All alerts as a file of rules."""
    rules = [
        {
            "alert": alert.name,
            "expr": alert.expression,
            "for": alert.lasts,
            "labels": {"severity": alert.severity},
            "annotations": {"summary": alert.summary, "description": alert.description},
        }
        for alert in ALERTS
    ]
    document = {"groups": [{"name": "edo", "rules": rules}]}
    return _HEAD + yaml.safe_dump(document, sort_keys=False, width=100)
