"""What the verbs of `edo flow` begin with: the folder of flows, one of them by its name."""

from pathlib import Path
from typing import Annotated

import typer

from edo_stream.cli.environment import CommandError, own_settings
from edo_stream.flows import Flows, load_flows
from edo_stream.flows.in_python import import_from
from edo_stream.registry import Registry, RegistryError
from edo_stream.registry.mistakes import nearest

FlowName = Annotated[str, typer.Argument(metavar="NAME", help="Name of the flow.")]


def flows_root() -> Path:
    """The folder of flows: EDO_FLOWS, or ``flows`` beside the topics.

    Raises:
        CommandError: the settings have mistakes.
    """
    return own_settings().flows_folder


def read_flows(registry: Registry) -> Flows:
    """Read all flows; their handlers can be imported from then on.

    Raises:
        CommandError: with every mistake.
    """
    root = flows_root()
    import_from(root.parent)
    try:
        return load_flows(root, registry)
    except RegistryError as error:
        raise CommandError(f"{error}\n('edo flow lint' says more)", 2) from error


def require_flow(flows: Flows, name: str) -> None:
    """A flow is declared, with an action or with an event at its end.

    Raises:
        CommandError: there is none.
    """
    names = sorted({*flows.flows, *flows.joins})
    if name not in names:
        raise CommandError(f"flow {name} is not declared: {nearest(name, names)}", 2)
