"""Whether a request is answered by one flow, and not by several of which the first counts."""

from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from edo_stream.core.routing import Route
from edo_stream.flows.flow import Flows
from edo_stream.flows.replying import name_of
from edo_stream.registry import Finding
from edo_stream.registry.document import Document


class _Replier(NamedTuple):
    flow: str
    topic: str
    """Of its replies."""
    wants_all: bool


def rival_replies(
    flows: Flows, documents: Mapping[str, Document], sagas: Path
) -> Iterator[Finding]:
    """Pairs of flows, or sagas, that reply to the same requests by the same name.

    Two that both say which events they want may divide them; this cannot be told.
    """
    topics = {topic for flow in flows.flows.values() for topic in flow.wants} | {*flows.starts}
    topics |= {source.topic for join in flows.joins.values() for source in join.sources}
    for topic in sorted(topics):
        routes = flows.task_routes(topic)
        found = [one for route in routes.routes for one in _repliers(route)] if routes else []
        for one, other in combinations(sorted(set(found)), 2):
            is_same = one.topic == other.topic and one.flow != other.flow
            if is_same and (one.wants_all or other.wants_all):
                name = name_of(other.topic)
                message = (
                    f"replies: {one.flow} replies to requests of {topic} by {name} as well, and "
                    "the first end counts: take another name, or leave one of the two out"
                )
                yield _finding(other.flow, message, documents, sagas)


def _repliers(route: Route) -> Iterator[_Replier]:
    if route.feed is not None:
        found = [route.feed.replies]
    elif route.trigger.split is not None:
        found = [end.replies for end in route.trigger.split.ends]
    else:
        found = [route.trigger.replies]
    for one in found:
        if one is not None:
            yield _Replier(one.flow, one.topic, not route.conditions)


def _finding(flow: str, message: str, documents: Mapping[str, Document], sagas: Path) -> Finding:
    document = documents.get(flow)
    if document is None:
        return Finding(sagas / f"{flow}.yaml", 1, message)
    return Finding(document.file, document.lines.get(("replies",), 1), message)
