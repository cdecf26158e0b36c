"""A rule of the lint that needs the executors: they can be made of what the actions say."""

from edo_stream.flows.rules.case import FlowCase


def find_unusable_actions(case: FlowCase) -> None:
    """Handlers are there, templates and statements can be filled; secrets need not be there."""
    flow = case.flow
    if flow is None:
        return
    # Clients of HTTP and templates: other commands of `edo` do not wait for them.
    from edo_stream.actions.executors import ActionError, executor_of  # noqa: PLC0415
    from edo_stream.actions.outside import Outside  # noqa: PLC0415
    from edo_stream.actions.rendered import templates_of  # noqa: PLC0415
    from edo_stream.actions.template import Template  # noqa: PLC0415
    from edo_stream.flows.in_python import import_from  # noqa: PLC0415

    import_from(flow.file.parents[2 if case.place else 1])  # Sagas have a folder of their own.
    outside = Outside(lambda: 0, reads_secrets=False)
    for key in ("action", "fallback"):
        action = getattr(flow.declaration, key)
        if action is None:
            continue
        wrong = 0
        for place, text, goes_to in templates_of(action):
            try:
                Template(text, goes_to)
            except ValueError as error:
                wrong += 1
                case.find((key, *place), f"{'.'.join(map(str, (key, *place)))}: {error}")
        if wrong:
            continue
        try:
            executor_of(action, flow, case.registry, outside)
        except ActionError as error:
            case.find((key, *error.place), f"{key}.{error}")
