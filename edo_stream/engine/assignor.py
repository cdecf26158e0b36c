"""Faust's assignor with shares of our own: even, sticky to disks, and with standbys.

Faust's protocol stays as it is, on the wire as well: members of both kinds may meet in a group,
and the leader's kind decides. What changes is how a leader deals (:mod:`edo_stream.engine.shares`).
Faust's own deals standbys only at the price of balance: with any, a worker that is added may stay
without work, and without any it forgets who has which disk.

Standbys are told to their members beside the assignment, by the names of source topics, of which
nothing is consumed there: Faust consumes standbys of its own changelogs only, and has none here.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from aiokafka import TopicPartition
from faust.assignor.client_assignment import ClientAssignment, ClientMetadata
from faust.assignor.partition_assignor import PartitionAssignor

from edo_stream.engine.disks import disks_in
from edo_stream.engine.shares import Claim, Share, deal

for name in (
    "_metadata",
    "_perform_assignment",
    "_get_client_metadata",
    "_get_copartitioned_groups",
    "_update_member_urls",
    "_protocol_assignments",
    "_get_changelog_distribution",
    "_get_external_topic_distribution",
    "_url",
):
    assert hasattr(PartitionAssignor, name), f"{name} is gone: pin the versions we know"

#: Where a member says which disks it has: a leader reads nothing else of this field.
_DISKS = "disks"


class TaskAssignor(PartitionAssignor):
    """See the module's docstring."""

    def assigned_standby_partitions(self) -> list[TopicPartition]:
        """Source partitions, of other members, that this one stands by for."""
        return [TopicPartition(*partition) for partition in sorted(self.assigned_standbys())]

    def owner_of(self, partition: TopicPartition) -> str | None:
        """Address of the other member that a source partition was given to, if that is known."""
        url = self._external_tps_url.get(partition)
        return None if url is None or url == str(self._url) else str(url)

    @property
    def _metadata(self) -> ClientMetadata:
        app: Any = self.app
        return ClientMetadata(
            assignment=self._assignment,
            url=str(self._url),
            changelog_distribution={_DISKS: disks_in(Path(app.conf.tabledir), app.plans.values())},
            external_topic_distribution={},
            topic_groups=self._topic_groups,
        )

    def _perform_assignment(self, cluster: Any, member_metadata: Mapping[str, Any]) -> Any:
        app: Any = self.app
        told = {name: self._get_client_metadata(one) for name, one in member_metadata.items()}
        subscriptions = {name: one.subscription for name, one in member_metadata.items()}
        topics = {topic for subscription in subscriptions.values() for topic in subscription}
        self._update_member_urls(told)
        assignments = {name: ClientAssignment(actives={}, standbys={}) for name in member_metadata}
        groups: dict[str, int] = {}
        loads: Counter[str] = Counter()
        dealt = self._get_copartitioned_groups(topics, cluster, subscriptions)
        for number, (partitions, co_subscribed) in enumerate(sorted(dealt.items())):
            for together in co_subscribed:
                claims = {
                    name: claim_of(together, one)
                    for name, one in told.items()
                    if together.issubset(subscriptions[name])
                }
                standbys = app.worker_settings.standbys
                for name, share in deal(claims, partitions, standbys, loads).items():
                    _add(assignments[name], together, share)
                    loads[name] += len(share.works_on)
                groups.update(dict.fromkeys(together, number))
        return self._protocol_assignments(
            assignments,
            self._get_changelog_distribution(assignments),
            self._get_external_topic_distribution(assignments),
            groups,
        )


def claim_of(topics: Iterable[str], told: ClientMetadata) -> Claim:
    """What a member has of topics that go together."""
    disks = told.changelog_distribution.get(_DISKS, {})
    return Claim(
        works_on=_numbers(topics, told.assignment.actives),
        stands_by=_numbers(topics, told.assignment.standbys),
        has_disk=_numbers(topics, disks),
    )


def _numbers(topics: Iterable[str], partitions: Mapping[str, Iterable[int]]) -> frozenset[int]:
    return frozenset(number for topic in topics for number in partitions.get(topic, ()))


def _add(assignment: ClientAssignment, topics: Iterable[str], share: Share) -> None:
    for topic in topics:
        assignment.actives[topic] = sorted(share.works_on)
        assignment.standbys[topic] = sorted(share.stands_by)
