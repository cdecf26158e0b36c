"""How failures end: the ladder of retries, and whose the dead letters are."""

from collections.abc import Iterable, Sequence

from edo_stream.blueprint.catalog import declarations
from edo_stream.blueprint.chart import Chart
from edo_stream.blueprint.table import code, table
from edo_stream.flows import Flows
from edo_stream.registry import Registry
from edo_stream.registry.contracts import dead_letters_of
from edo_stream.registry.declaration import Retry
from edo_stream.registry.plan import retry_topic
from edo_stream.registry.quantity import duration_text


def retries(registry: Registry, flows: Flows) -> list[str]:
    """The section: each flow's waits, and the topics that they happen on."""
    chart = Chart()
    rows: list[tuple[str, str, str, int, str, str]] = []
    for name, flow in flows.flows.items():
        declared, policy = flow.declaration, flow.policy
        tiers = flows.groups[declared.group].spec.tiers
        run = chart.node("flow", name)
        for delay_ms in policy.retry.delays_ms():
            tier = chart.node("tier", tiers[delay_ms])
            chart.arrow(run, tier, "transient, throttled")
            chart.arrow(tier, run, duration_text(delay_ms))
        letters = chart.node("letters", policy.dead_letters)
        chart.arrow(run, letters, "poison, exhausted", is_dashed=True)
        topics = [tiers[delay_ms] for delay_ms in policy.retry.delays_ms()]
        rows.append((code(name), *_ladder(declared.retry, topics), policy.order.value))
    for name, declared_topic in declarations(registry):
        retry = declared_topic.retry
        if retry is not None and declared_topic.emit is not None:
            group = declared_topic.group or name
            topics = [retry_topic(group, wait_ms) for wait_ms in sorted(set(retry.waits_ms))]
            rows.append((code(name), *_ladder(retry, topics), ""))
    columns = ("Flow or topic", "Waits", "In all", "Attempts", "Topics", "Order")
    return ["## Retry ladders", "", *chart.lines(), *table(columns, rows, "Nothing is retried.")]


def _ladder(retry: Retry, tiers: Iterable[str]) -> tuple[str, str, int, str]:
    """Waits, their sum, attempts, topics."""
    waits_ms = retry.waits_ms
    total = duration_text(sum(waits_ms))
    if retry.jitter:
        total += f" and up to {retry.jitter:.0%} more"
    if retry.total is not None:
        total += f", at most {duration_text(retry.total)}"
    waits = ", ".join(duration_text(wait_ms) for wait_ms in waits_ms) or "none"
    return waits, total, len(waits_ms) + 1, ", ".join(code(topic) for topic in tiers)


def dead_letters(registry: Registry, flows: Flows) -> list[str]:
    """The section: a row for each topic of dead letters."""
    rows: list[Sequence[str]] = []
    for name, declared in declarations(registry):
        if declared.emit is None:
            continue
        letters = declared.dead_letters
        within = letters.acknowledge_within
        rows.append(
            (
                code(dead_letters_of(declared)),
                f"records of {code(name)} that are no events, or too late",
                letters.owner or declared.owner,
                "" if within is None else duration_text(within),
                "its key goes on",
            )
        )
    for name, flow in flows.flows.items():
        after = "its key stops" if flow.policy.after_dead_letter.value == "stop" else ""
        rows.append(
            (
                code(flow.policy.dead_letters),
                f"commands of {code(name)} that are given up",
                flow.policy.owner,
                duration_text(flow.declaration.dead_letters.acknowledge_within),
                after or "its key goes on",
            )
        )
    for group_name, group in flows.groups.items():
        what = f"commands of group {code(group_name)} whose flow is gone"
        owners = sorted({policy.owner for policy in group.spec.flows.values()})
        row = (code(group.spec.dead_letters), what, ", ".join(owners), "", "nothing waits for it")
        rows.append(row)
    columns = ("Topic", "What ends there", "Owner", "Acknowledged within", "After one")
    return ["## Dead letters", "", *table(columns, rows, "No dead letters.")]
