"""What a flow says of its keys' commands, and what of it does not go together."""

from edo_stream.flows.declaration import FlowDeclaration
from edo_stream.registry.document import Document


def check_control(document: Document, flow: FlowDeclaration) -> None:
    """Find what no worker could honour."""
    if flow.singleton is not None:
        if flow.order == "relaxed":
            document.find(
                ("singleton",),
                "singleton: with order: relaxed a command that waits for its retry does not hold "
                "its key: write order: strict, or leave singleton out",
            )
        if flow.dead_letters.after == "stop":
            document.find(
                ("singleton",),
                "singleton: with dead_letters.after: stop all that comes while a key is stopped "
                "would not run: leave one of the two out",
            )
    _check_times(document, flow)
    if flow.cancel_on:
        _check_cancels(document, flow)


def _check_times(document: Document, flow: FlowDeclaration) -> None:
    throttle, limit = flow.throttle, flow.rate_limit
    if throttle is not None and throttle.burst > throttle.limit:
        document.find(
            ("throttle", "burst"),
            f"throttle.burst: {throttle.burst} at once are more than the limit of "
            f"{throttle.limit}: write at most that",
        )
    if throttle is not None and not throttle.per:
        document.find(("throttle", "per"), "throttle.per: expected a time above 0, such as 1m")
    if limit is not None and not limit.per:
        document.find(("rate_limit", "per"), "rate_limit.per: expected a time above 0, such as 1h")


def _check_cancels(document: Document, flow: FlowDeclaration) -> None:
    if flow.order == "relaxed":
        document.find(
            ("cancel_on",),
            "cancel_on: with order: relaxed a command that waits for its retry is not found by "
            "its key: write order: strict, or leave cancel_on out",
        )
    if (
        flow.split is not None
        and flow.split.key is not None
        and not all(one.by for one in flow.cancel_on)
    ):
        document.find(
            ("cancel_on",),
            "cancel_on: the commands have keys of their own, by split.key, which no event that "
            "cancels has: leave split.key out, or say by which field of the event, with by",
        )
    if flow.debounce is not None or flow.batch is not None:
        document.find(
            ("cancel_on",),
            "cancel_on: with debounce or batch events wait before they are a command, where "
            "nothing cancels them: leave one of the two out",
        )
    if flow.when is not None:
        document.find(
            ("cancel_on",),
            "cancel_on: a flow with when has commands of what it waits for, not of an event: "
            "leave cancel_on out, or have what it emits trigger a flow with on and cancel_on",
        )
