"""What ``debounce`` and ``batch`` of a flow may say: one command for many events of a key."""

from typing import Annotated, Final

from pydantic import Field

from edo_stream.registry.declaration import Declared, Partitions
from edo_stream.registry.names import GroupName
from edo_stream.registry.quantity import Duration, Size

_GROUP: Final = (
    "Flows of a group share tasks and an internal topic, also with those that have when."
)
_PARTITIONS: Final = "Of the group; the largest that a flow asks for, else 8."


class Debounce(Declared):
    """One command for the events of a key, once none of them has come for a while."""

    quiet: Duration = Field(
        examples=["30s"], description="For so long no event of the key has come."
    )
    max: Duration = Field(
        examples=["5m"],
        description="From the first event to the command at most, however many still come.",
    )
    group: GroupName = Field(default="joins", description=_GROUP)
    partitions: Partitions | None = Field(default=None, description=_PARTITIONS)


class Batch(Declared):
    """One command for a list of events of a key, which ends at the first bound that it reaches."""

    count: Annotated[int, Field(ge=2, le=10_000)] = Field(
        examples=[100], description="Events of a command, at most."
    )
    bytes: Size = Field(
        default=256 * 1024,
        description="Of them, as the command has them; an event that is larger goes alone.",
    )
    after: Duration = Field(
        examples=["10s"], description="From the first event to the command, at most."
    )
    group: GroupName = Field(default="joins", description=_GROUP)
    partitions: Partitions | None = Field(default=None, description=_PARTITIONS)


Combine = Debounce | Batch
