"""A rule of the lint that needs the executors: handlers that are there, templates that are some."""

from edo_stream.actions.handler import HandlerError, import_from, load_handler
from edo_stream.actions.rendered import templates_of
from edo_stream.actions.template import Template
from edo_stream.flows.rules.case import FlowCase


def find_unusable_actions(case: FlowCase) -> None:
    """Handlers can be imported, and templates compiled; secrets need not be there."""
    import_from(case.flow.file.parent.parent)
    for key in ("action", "fallback"):
        action = getattr(case.declaration, key)
        if action is None:
            continue
        for place, text, goes_to in templates_of(action):
            try:
                Template(text, goes_to)
            except ValueError as error:
                case.find((key, *place), f"{'.'.join(map(str, (key, *place)))}: {error}")
        if action.kind == "python":
            try:
                load_handler(action.handler)
            except HandlerError as error:
                case.find((key, "handler"), f"{key}.handler: {error}")
            except Exception as error:  # noqa: BLE001 - whatever somebody's module does
                message = f"{key}.handler: {action.handler}: {type(error).__name__}: {error}"
                case.find((key, "handler"), message)
