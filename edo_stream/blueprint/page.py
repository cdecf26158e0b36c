"""The page: one section for each question that a reviewer asks."""

from collections.abc import Mapping, Sequence
from typing import Final

from edo_stream.blueprint.catalog import catalog
from edo_stream.blueprint.ends import dead_letters, retries
from edo_stream.blueprint.joins import joins
from edo_stream.blueprint.promises import delivery, order, waits
from edo_stream.blueprint.routing import routing
from edo_stream.blueprint.sagas import sagas
from edo_stream.flows import Flows
from edo_stream.registry import Registry
from edo_stream.schedules.folder import Schedule

_NOTE: Final = (
    "Written by `edo blueprint` from contracts, flows and schedules: not to be edited. "
    "`edo blueprint --check` says whether it is still true."
)


def blueprint(
    service: str, registry: Registry, flows: Flows, schedules: Mapping[str, Schedule]
) -> str:
    """Write the page of an installation."""
    parts: Sequence[list[str]] = (
        [f"# Blueprint of {service}", ""],
        [_NOTE, ""],
        catalog(registry, flows, schedules),
        routing(registry, flows, schedules),
        joins(flows),
        sagas(flows),
        delivery(registry, flows),
        order(registry, flows),
        waits(registry, flows),
        retries(registry, flows),
        dead_letters(registry, flows),
    )
    return "\n".join(line for part in parts for line in part).rstrip() + "\n"
