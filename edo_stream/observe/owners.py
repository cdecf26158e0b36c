"""Whose turn it is when a dead letter lies there, and how soon.

The declarations of today say it, not the letter: an owner that has changed is asked from now on.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from edo_stream.core.contract import DAY_MS
from edo_stream.flows import Flows
from edo_stream.registry import Registry


@dataclass(frozen=True, slots=True)
class Terms:
    """What is declared about a contract's or a flow's dead letters."""

    owner: str
    within_ms: int | None
    """How soon it has to acknowledge one; ``None``: nothing is promised."""


@dataclass(frozen=True, slots=True)
class Owners:
    """Terms of all dead letters."""

    flows: Mapping[str, Terms]
    """By flow."""
    sources: Mapping[str, Terms]
    """By the topic that was read."""
    letters: Mapping[str, Terms]
    """By the topic of dead letters, for those that say nothing else."""

    def of(self, topic: str, flow: str | None, source: str, told: str = "") -> Terms:
        """Terms of a letter that lies on a topic of dead letters.

        Where nothing declared leads to that topic it is the owner that the letter has ``told``.
        """
        found = None if flow is None else self.flows.get(flow)
        return found or self.sources.get(source) or self.letters.get(topic) or Terms(told, None)

    @property
    def names(self) -> list[str]:
        """All owners."""
        terms = (*self.flows.values(), *self.sources.values(), *self.letters.values())
        return sorted({one.owner for one in terms})


def owners_of(registry: Registry, flows: Flows) -> Owners:
    """Read the terms from the declarations."""
    of_flows = {
        name: Terms(flow.policy.owner, flow.declaration.dead_letters.acknowledge_within)
        for name, flow in flows.flows.items()
    }
    of_sources: dict[str, Terms] = {}
    of_letters: dict[str, Terms] = {}
    for name, contract in registry.contracts.items():
        declaration = registry.entries[name].declaration
        letters = declaration.dead_letters
        terms = Terms(letters.owner or declaration.owner, letters.acknowledge_within)
        of_sources[name] = terms
        of_letters.setdefault(contract.dead_letters, terms)
    for name, flow in flows.flows.items():
        of_letters.setdefault(flow.policy.dead_letters, of_flows[name])
    for joins in flows.join_groups.values():
        for name, correlation in joins.spec.correlations.items():
            terms = of_flows.setdefault(name, Terms(correlation.owner, DAY_MS))
            of_letters.setdefault(correlation.dead_letters, terms)
        of_letters.setdefault(joins.dead_letters, of_flows[min(joins.spec.correlations)])
    for lookups in flows.lookup_groups.values():
        of_letters.setdefault(lookups.dead_letters, of_flows[min(lookups.enrichments)])
    for sagas in flows.sagas.values():
        for name, saga in sagas.sagas.items():
            terms = of_flows.setdefault(name, Terms(saga.owner, DAY_MS))
            of_letters.setdefault(saga.topics.dead_letters, terms)
    for group in flows.groups.values():
        # For what belongs to none of its flows.
        of_letters.setdefault(group.spec.dead_letters, of_flows[min(group.spec.flows)])
    return Owners(of_flows, of_sources, of_letters)
