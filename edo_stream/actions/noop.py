"""A side effect that is none: for shadow runs, and to try a flow."""

from edo_stream.core.act.command import Command
from edo_stream.core.act.outcome import Done, Outcome


async def do_nothing(command: Command) -> Outcome:
    """Succeed, with the event's data as the outcome's."""
    return Done(command.data)
