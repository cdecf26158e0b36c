"""From what a flow looks up, as declared, to the words of the core; each mistake at its line.

A table's rows stay in the partitions that they were written to. So all tables with as many
partitions share a group of tasks, with as many: it needs no name of its own in a file. Events that
look up in a global table go to the group with as many partitions as their topic has; the one with
as many as the table says which of its records are no rows.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from edo_stream.core.contract import Contract
from edo_stream.core.correlation.feed import ValueOf
from edo_stream.core.lookup.spec import Enrichment, Lookup, OnMissing
from edo_stream.core.trigger import FlowTrigger
from edo_stream.flows.declaration import FlowDeclaration, LookupRules
from edo_stream.registry import Registry
from edo_stream.registry.document import Document
from edo_stream.registry.mistakes import nearest
from edo_stream.registry.names import INTERNAL_PREFIX

_LOOKUP: Final = "lookup"
_HEADROOM_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Lookups:
    """What a flow looks up, compiled."""

    outcomes: str
    lookups: tuple[Lookup, ...]
    contract: Contract
    waiting_max: int
    bytes_max: int

    def enrichment(self, trigger: FlowTrigger) -> Enrichment:
        """The same in the words of the core, with what events are in the end."""
        return Enrichment(
            trigger, self.outcomes, self.lookups, self.contract, self.waiting_max, self.bytes_max
        )


@dataclass(frozen=True, slots=True)
class LookupGroup:
    """Tables with as many partitions, and the flows that look things up in them.

    And flows whose events have as many partitions, and look up in global tables.
    """

    name: str
    partitions: int
    topic: str
    """Internal topic by which events come."""
    tables: tuple[str, ...]
    """That its tasks read."""
    judged: frozenset[str]
    """Those of them that are global only: no task keeps their rows."""
    global_tables: tuple[str, ...]
    """In which it looks up, and that no task reads for it."""
    enrichments: Mapping[str, Enrichment]
    """By flow."""
    dead_letters: str
    bytes_max: int
    """What the internal topic takes."""
    row_bytes_max: int
    """What the tables take."""

    @property
    def topics(self) -> tuple[str, ...]:
        """Topics that its tasks read: events, then tables."""
        return (self.topic, *self.tables)


def group_name(partitions: int) -> str:
    """Name of the group of tables with so many partitions."""
    return f"lookups-{partitions}"


def found_lookups(
    document: Document, flow: FlowDeclaration, outcomes: str, registry: Registry
) -> Lookups | None:
    """Compile what a flow looks up; mistakes are found in the document."""
    if flow.lookup is None:
        return None
    before = len(document.findings)
    if flow.when is not None:
        message = "lookup is of a flow with on: have this one emit, and look up there"
        document.find((_LOOKUP,), message)
    elif flow.input is None and (flow.split is None or flow.split.at is not None):
        message = "lookup: nothing uses the rows: write for instance input: {cel: lookup.customer}"
        document.find((_LOOKUP,), message)
    topics = [registry.entries[on.topic] for on in flow.on if on.topic in registry.entries]
    partitions = max((entry.declaration.partitions for entry in topics), default=1)
    lookups = [
        _lookup(document, name, rules, registry, partitions) for name, rules in flow.lookup.items()
    ]
    contracts = [registry.contracts.get(on.topic) for on in flow.on]
    known = [contract for contract in contracts if contract is not None]
    if not known or len(document.findings) > before:
        return None
    rows_bytes = [registry.entries[one.table].declaration.record_bytes_max for one in lookups]
    return Lookups(
        outcomes=outcomes,
        lookups=tuple(lookups),
        contract=known[0],
        waiting_max=flow.lookup_waiting,
        # Behind the last lookup there is none that an event with its row is written to.
        bytes_max=max(contract.record_bytes_max for contract in known)
        + sum(rows_bytes[:-1])
        + _HEADROOM_BYTES,
    )


def _lookup(
    document: Document, name: str, rules: LookupRules, registry: Registry, events_partitions: int
) -> Lookup:
    _check(document, name, rules, registry)
    entry = registry.entries.get(rules.topic)
    of_table = 1 if entry is None else entry.declaration.partitions
    is_global = rules.table == "global"
    partitions = events_partitions if is_global else of_table
    waits = rules.missing == "wait"
    return Lookup(
        name=name,
        table=rules.topic,
        topic=f"{INTERNAL_PREFIX}{group_name(partitions)}",
        partitions=partitions,
        key=ValueOf(rules.key),
        wait_ms=(rules.within or 0) if waits else 0,
        missing=OnMissing(rules.then if rules.missing == "wait" else rules.missing),
        per_key_max=rules.max_per_key,
        global_partitions=of_table if is_global else 0,
        row_bytes_max=1 if entry is None else entry.declaration.record_bytes_max,
    )


def _check(document: Document, name: str, rules: LookupRules, registry: Registry) -> None:
    place = (_LOOKUP, name)
    entry = registry.entries.get(rules.topic)
    if entry is None:
        message = f"no contract of {rules.topic}: {nearest(rules.topic, registry.entries)}"
        document.find((*place, "topic"), f"lookup.{name}: {message}")
    elif entry.declaration.cleanup != "compact":
        message = (
            f"{rules.topic} does not keep the last record of each key: write cleanup: compact in "
            "its contract"
        )
        document.find((*place, "topic"), f"lookup.{name}: {message}")
    elif entry.declaration.emit is not None:
        results = entry.declaration.emit.topic
        message = (
            f"workers read {rules.topic} for its results: look up {results}, with a contract and "
            "cleanup: compact"
        )
        document.find((*place, "topic"), f"lookup.{name}: {message}")
    if rules.missing == "wait" and rules.within is None:
        message = "within is missing: a wait must end; write for instance within: 10m"
        document.find(place, f"lookup.{name}: {message}")
    elif rules.missing == "wait" and not rules.within:
        message = (
            "within is 0ms: no row would be waited for: write for instance within: 10m, or "
            f"missing: {rules.then}"
        )
        document.find((*place, "within"), f"lookup.{name}: {message}")
    for key in ("within", "then"):
        if rules.missing != "wait" and key in rules.model_fields_set:
            document.find((*place, key), f"lookup.{name}: {key} is of missing: wait")


def lookup_groups(enrichments: Iterable[Enrichment]) -> dict[str, LookupGroup]:
    """Put tables and flows together with the groups of their partitions."""
    members: dict[int, dict[str, Enrichment]] = {}
    for enrichment in enrichments:
        for lookup in enrichment.lookups:
            for count in {lookup.partitions, lookup.global_partitions or lookup.partitions}:
                members.setdefault(count, {})[enrichment.trigger.flow] = enrichment
    return {group_name(count): _group(count, members[count]) for count in sorted(members)}


def _group(partitions: int, enrichments: Mapping[str, Enrichment]) -> LookupGroup:
    name = group_name(partitions)
    lookups = [one for enrichment in enrichments.values() for one in enrichment.lookups]
    here = [one for one in lookups if one.partitions == partitions]
    kept = {one.table for one in here if not one.is_global}
    judged = {one.table for one in lookups if one.global_partitions == partitions} - kept
    tables = kept | judged
    return LookupGroup(
        name=name,
        partitions=partitions,
        topic=f"{INTERNAL_PREFIX}{name}",
        tables=tuple(sorted(tables)),
        judged=frozenset(judged),
        global_tables=tuple(sorted({one.table for one in here if one.is_global})),
        enrichments=enrichments,
        dead_letters=f"{INTERNAL_PREFIX}dead-letters.{name}",
        bytes_max=max(enrichment.bytes_max for enrichment in enrichments.values()),
        row_bytes_max=max(
            (one.row_bytes_max for one in lookups if one.table in tables), default=1_048_576
        ),
    )
