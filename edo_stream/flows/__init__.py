"""What is declared under ``flows/``: read once at start, every mistake reported at once."""

from edo_stream.flows.flow import (
    NO_FLOWS,
    ActGroup,
    Flow,
    Flows,
    SagaGroup,
    commands_topic,
    flows_of,
)
from edo_stream.flows.folder import load_flows

__all__ = [
    "NO_FLOWS",
    "ActGroup",
    "Flow",
    "Flows",
    "SagaGroup",
    "commands_topic",
    "flows_of",
    "load_flows",
]
