"""What is promised of delivery and order, and how long anything may wait."""

from edo_stream.blueprint.actions import guard_of
from edo_stream.blueprint.catalog import declarations
from edo_stream.blueprint.table import code, table
from edo_stream.flows import Flows
from edo_stream.registry import Registry
from edo_stream.registry.declaration import ORDERING_KEYS, Declaration
from edo_stream.registry.quantity import duration_text


def delivery(registry: Registry, flows: Flows) -> list[str]:
    """The section: a row a stage, from producers to the outside world."""
    rows: list[tuple[str, str, str, str]] = []
    for name, declared in declarations(registry):
        duplicates = "duplicates pass"
        if declared.dedupe is not None:
            ttl = duration_text(declared.dedupe.ttl)
            duplicates = f"duplicates by {', '.join(declared.dedupe.key)} dropped for {ttl}"
        rows.append((code(name), "produce", declared.delivery.produce, duplicates))
        if declared.emit is not None:
            how = "results, dead letters, state and offsets in one Kafka transaction"
            rows.append((code(name), "process", declared.delivery.process, how))
        if declared.delivery.act is not None:
            rows.append((code(name), "act", declared.delivery.act, "as its flows do"))
    for name, flow in flows.flows.items():
        how = "a command is written in the transaction of its event"
        rows.append((code(name), "trigger", "effectively-once", how))
        guard = guard_of(flow.declaration.action)
        if flow.declaration.delivery == "at-most-once":
            guard = "a run that a crash cut off is not repeated, and ends as unknown"
        rows.append((code(name), "act", flow.declaration.delivery, guard))
        how = "the outcome is written in the transaction that marks the command done"
        rows.append((code(name), "outcome", "effectively-once", how))
    columns = ("Topic or flow", "Stage", "Guarantee", "By what")
    return ["## Delivery guarantees", "", *table(columns, rows, "No stages.")]


def order(registry: Registry, flows: Flows) -> list[str]:
    """The section: how work is divided, and what stays in order."""
    topics = [
        (
            code(name),
            code(declared.group or name),
            declared.partitions,
            code(declared.record_key),
            code(declared.key),
            declared.ordering.policy,
            "" if declared.emit is None else declared.emit.partitions or declared.partitions,
        )
        for name, declared in declarations(registry)
    ]
    acting = [
        (
            code(name),
            code(flow.declaration.group),
            flows.groups[flow.declaration.group].partitions,
            code(flow.declaration.key or "the event's own"),
            flow.declaration.order,
            _order_of(flow.declaration.order),
        )
        for name, flow in flows.flows.items()
    ]
    topic_columns = ("Topic", "Group", "Partitions", "Keyed by", "In order", "Policy", "Results on")
    flow_columns = ("Flow", "Group", "Partitions", "In order", "Policy", "Behind a failing command")
    return [
        "## Order and partitions",
        "",
        "Order holds within a key. Between keys, and between topics, there is none.",
        "",
        *table(topic_columns, topics, "No topics."),
        *table(flow_columns, acting, "No flows."),
    ]


def _order_of(policy: str) -> str:
    return "later ones of its key wait" if policy == "strict" else "later ones of its key go on"


def waits(registry: Registry, flows: Flows) -> list[str]:
    """The section: what may wait, how long, how much of it, and what follows."""
    topics = [
        (code(name), *row) for name, declared in declarations(registry) for row in _waits(declared)
    ]
    acting: list[tuple[str, str, str, str]] = []
    for name, flow in flows.flows.items():
        declared = flow.declaration
        breaker = declared.breaker
        runs = f"{declared.concurrency.max} at once on a worker"
        if declared.rate is not None:
            runs += f", {declared.rate.per_second:g} a second, {declared.rate.burst} in a burst"
        acting += [
            (code(name), "a run", duration_text(declared.action.timeout), "a passing failure"),
            (code(name), "a slot", runs, "partitions pause"),
            (
                code(name),
                "a key behind its first command",
                f"{declared.parked_per_key} commands",
                "the partition pauses",
            ),
            (
                code(name),
                "an open breaker",
                f"{duration_text(breaker.open)} to {duration_text(breaker.open_max)}",
                "the fallback runs" if declared.fallback is not None else "partitions pause",
            ),
            (
                code(name),
                "dead letters without successes",
                f"{declared.letters_max}",
                "the flow stops",
            ),
        ]
    columns = ("Of", "What waits", "Bound", "Then")
    return [
        "## Waits and policies",
        "",
        *table(columns, [*topics, *acting], "Nothing waits."),
    ]


def _waits(declared: Declaration) -> list[tuple[str, str, str]]:
    ordering = declared.ordering
    has = ORDERING_KEYS[ordering.policy]
    rows: list[tuple[str, str, str]] = []
    if "gap_timeout" in has:
        what = "a missing number" if ordering.policy == "sequence" else "the rest of a transaction"
        rows.append((what, duration_text(ordering.gap_timeout), ordering.on_timeout))
    if "held_per_key" in has:
        full = ordering.on_full if "on_full" in has else "dead-letter"
        rows.append(("events held of a key", str(ordering.held_per_key), full))
        rows.append(("events held of a partition", str(ordering.held_per_partition), full))
    if "on_late" in has:
        rows.append(("a number that was given up", "comes after all", ordering.on_late))
    if "idle_ttl" in has:
        rows.append(("a key without events", duration_text(ordering.idle_ttl), "starts anew"))
    if declared.slo is not None:
        bound = f"{duration_text(declared.slo.trigger_to_ready)}, {declared.slo.percentile:g} %"
        rows.append(("from fact to result", bound, "the objective is missed"))
    return rows
