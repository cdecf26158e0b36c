"""What the topics of all groups have in common: their names, and how Kafka keeps them.

Whatever its tasks do, a group has a topic for operators' requests and a changelog of its state.
The changelog is compacted, so the last row of each key stays; all other topics of the engine are
deleted by age. Each has two replicas in sync as soon as there are three: what was acknowledged
survives the loss of one, and another may be down.
"""

from collections.abc import Mapping
from typing import Final

from edo_stream.core.contract import Start
from edo_stream.core.state import as_is
from edo_stream.core.task import InternalTopics
from edo_stream.engine.admin import Wanted
from edo_stream.engine.assignment import GroupTable
from edo_stream.engine.restore import TOMBSTONES_KEPT_MS, Refusal
from edo_stream.registry.plan import (
    ACCOUNTS,
    ACCOUNTS_PARTITIONS,
    CONTROL_RETENTION_MS,
    GAPS,
    GAPS_PARTITIONS,
    REPLICAS_FOR_TWO_IN_SYNC,
    control_topic,
    deleted_by_age,
)

#: Nothing that one task wrote for another is left out.
EARLIEST: Final = Start()
_CONTROL_BYTES_MAX: Final = 1 << 20
_SEGMENT_MS: Final = 3_600_000
_SEGMENT_BYTES: Final = 64 << 20


def internal_topics(group: str) -> InternalTopics:
    """Topics that a task of a group reads and writes besides those of its own work."""
    return InternalTopics(
        accounts=ACCOUNTS,
        accounts_partitions=ACCOUNTS_PARTITIONS,
        gaps=GAPS,
        gaps_partitions=GAPS_PARTITIONS,
        control=control_topic(group),
    )


def state_changelog(app: str, group: str) -> str:
    """Topic of the state of a group."""
    return f"{app}-{group}-state-changelog"


def state_table(app: str, group: str, refusal: Refusal) -> GroupTable:
    """The table of the state of a group; ``refusal`` says with which rows a task must not go on."""
    return GroupTable(f"{group}-state", state_changelog(app, group), as_is, refusal)


def compacted() -> dict[str, str]:
    """How the changelog of a state is kept, in Kafka's own names and texts."""
    return {
        "cleanup.policy": "compact",
        "min.cleanable.dirty.ratio": "0.1",
        "delete.retention.ms": str(TOMBSTONES_KEPT_MS),
    }


def compacted_hourly(bytes_max: int) -> dict[str, str]:
    """The same in segments of an hour, for a state whose largest row has so many bytes."""
    return {
        **compacted(),
        "segment.ms": str(_SEGMENT_MS),
        "segment.bytes": str(_SEGMENT_BYTES),
        "max.message.bytes": str(bytes_max),
    }


def control_config() -> dict[str, str]:
    """How operators' requests to a group are kept."""
    return deleted_by_age(CONTROL_RETENTION_MS, _CONTROL_BYTES_MAX)


def wanted_internal(
    configs: Mapping[str, Mapping[str, str]], partitions: int, replication: int, why: str
) -> list[Wanted]:
    """Topics of the engine, by name with how each is kept; ``why`` says what needs them."""
    in_sync = {"min.insync.replicas": "2" if replication >= REPLICAS_FOR_TWO_IN_SYNC else "1"}
    return [
        Wanted(name, partitions, replication, {**config, **in_sync}, is_internal=True, why=why)
        for name, config in configs.items()
    ]
