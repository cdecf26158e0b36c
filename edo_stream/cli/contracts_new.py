"""`edo init` and `edo contracts new`: the first files of a project and of a topic."""

from pathlib import Path
from typing import Annotated

import typer

from edo_stream.catalog.scaffold import TopicPlan, kind_of, project_files, topic_files
from edo_stream.cli.contracts_read import AsJson, print_json, topics_root
from edo_stream.cli.environment import CommandError
from edo_stream.cli.files import tell_written, write_files
from edo_stream.cli.screen import screen
from edo_stream.registry.names import topic_name

#: May be there before a project is.
_HARMLESS = frozenset({".git", ".venv", ".idea", ".vscode", ".gitkeep"})


def init(
    folder: Annotated[Path, typer.Argument(help="An empty folder, or a new one.")] = Path(),
    as_json: AsJson = False,
) -> None:
    """Write a project that runs as it is: a topic, settings, and a README that says how.

    Exit codes: 0 written, 2 the folder is not empty.
    """
    if folder.exists() and not folder.is_dir():
        raise CommandError(f"{folder} is no folder", 2)
    there = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    in_the_way = [name for name in there if name not in _HARMLESS]
    if in_the_way:
        raise CommandError(f"{folder} is not empty, it has {in_the_way[0]}: name a new folder", 2)
    files = project_files(folder.resolve().name)
    write_files(folder, files)
    if as_json:
        print_json({"folder": str(folder), "files": sorted(files)})
        return
    tell_written(folder, files)
    screen().print(f"next: cd {folder} && less README.md", markup=False)


def new(
    topic: Annotated[str, typer.Argument(help="<domain>.<entity>.<event-type>")],
    owner: Annotated[str | None, typer.Option(help="Default: team-<domain>.")] = None,
    format: Annotated[str, typer.Option(help="Of the schema: json or avro.")] = "json",
    peak: Annotated[
        float, typer.Option(min=0.1, help="Events a second at most, for the partitions.")
    ] = 100,
    as_json: AsJson = False,
) -> None:
    """Write the first files of a topic: contract, schema, examples; they pass the lint.

    A type in the past tense (placed) is an event, any other (place) a command.

    Exit codes: 0 written, 2 the name cannot be used, or the topic is there.
    """
    try:
        topic_name(topic)
    except ValueError as error:
        raise CommandError(str(error), 2) from error
    if format not in ("json", "avro"):
        raise CommandError(f"{format} is no format: write json or avro", 2)
    root = topics_root()
    folder = root / topic
    if folder.exists():
        raise CommandError(f"{folder} is there already: change it, or choose another name", 2)
    has_schema = (root.parent / "contract.schema.json").is_file()
    plan = TopicPlan(
        topic,
        owner or f"team-{topic.partition('.')[0]}",
        kind_of(topic),
        format,
        peak,
        "../../contract.schema.json" if has_schema else "",
    )
    files = topic_files(plan)
    write_files(folder, files)
    if as_json:
        print_json({"topic": topic, "folder": str(folder), "files": sorted(files)})
        return
    tell_written(folder, files)
    screen().print("next: say in them what is true, then edo contracts lint", markup=False)
