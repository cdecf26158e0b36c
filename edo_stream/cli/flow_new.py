"""`edo flow new`: the first files of a flow, which pass their own test."""

import json
from pathlib import Path
from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError

from edo_stream.catalog.folder import folder_of
from edo_stream.catalog.tree import read_files
from edo_stream.cli.contracts_read import AsJson, load_topics, print_json
from edo_stream.cli.environment import CommandError
from edo_stream.cli.files import tell_written, write_files
from edo_stream.cli.flow_read import flows_root
from edo_stream.cli.screen import screen
from edo_stream.flows.declaration import FlowName
from edo_stream.flows.scaffold import FlowPlan, flow_files
from edo_stream.registry import Registry
from edo_stream.registry.mistakes import nearest


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Such as ship-order.")],
    on: Annotated[
        str | None, typer.Option("--on", metavar="TOPIC", help="Default: the only topic there is.")
    ] = None,
    owner: Annotated[str | None, typer.Option(help="Default: the owner of the topic.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write a flow, a commented handler, sample events and a test that passes as it is.

    Exit codes: 0 written, 2 the name or the topic cannot be used, or a file is there already.
    """
    try:
        TypeAdapter(FlowName).validate_python(name)
    except ValidationError as error:
        message = f"{name} is not a flow's name: write lower-case letters, digits and -"
        raise CommandError(message, 2) from error
    registry = load_topics()
    root = flows_root()
    topic = _topic(registry, on)
    entry = registry.entries[topic]
    plan = FlowPlan(
        name,
        topic,
        owner or entry.declaration.owner,
        root.name,
        _sample(registry, topic),
        entry.declaration.key if entry.declaration.key.startswith("/") else None,
    )
    files = flow_files(plan)
    project = root.parent
    in_python = f"{root.name}/{name.replace('-', '_')}.py"
    there = [file for file in (*files, in_python) if (project / file).exists()]
    if there:
        raise CommandError(f"{project / there[0]} is there already: choose another name", 2)
    write_files(project, files)
    if as_json:
        print_json({"flow": name, "on": topic, "folder": str(project), "files": sorted(files)})
        return
    tell_written(project, files)
    screen().print("next: say in them what is true, then edo flow lint, and pytest", markup=False)


def _topic(registry: Registry, on: str | None) -> str:
    if on is not None:
        if on not in registry.topics:
            near = nearest(on, registry.topics)
            raise CommandError(f"no contract of {on} that workers read: {near}", 2)
        return on
    if len(registry.topics) != 1:
        raise CommandError(f"say --on, one of {', '.join(registry.topics)}", 2)
    return next(iter(registry.topics))


def _sample(registry: Registry, topic: str) -> object:
    """An example of the topic, as an event in JSON; ``None``: there is none."""
    folder = folder_of(read_files(Path(registry.entries[topic].file).parent))
    for example in folder.examples:
        if example.is_valid:
            document: object = json.loads(example.content)
            return document
    return None
