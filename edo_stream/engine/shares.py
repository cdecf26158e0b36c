"""Who works on which partition, and who stands by for it: decided once, by the group's leader.

Theory of operation. Every member says what it has: the partitions that it works on, those that it
stands by for, and those that it only has disks of, from earlier days. From this the leader makes
shares that are even, to within one partition, and that move as little state as possible: a
partition stays where it is unless its worker has too many, and goes where it is warmest. Standbys
are dealt out in the same way, and spread, so that the partitions of a worker that dies have
somewhere warm to go, all of them at once.

Pure functions: members in the same state get the same shares again, so a rebalance for nothing
moves nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

_WARMTHS = _WORKED, _STOOD_BY, _HAD_DISK, _COLD = 3, 2, 1, 0


@dataclass(frozen=True, slots=True)
class Claim:
    """What one member has: partition numbers."""

    works_on: frozenset[int] = frozenset()
    stands_by: frozenset[int] = frozenset()
    has_disk: frozenset[int] = frozenset()

    def warmth(self, partition: int) -> int:
        """How near its state of a partition is to the end of the changelog: more is nearer."""
        if partition in self.works_on:
            return _WORKED
        if partition in self.stands_by:
            return _STOOD_BY
        return _HAD_DISK if partition in self.has_disk else _COLD


@dataclass(slots=True)
class Share:
    """What one member gets."""

    works_on: set[int] = field(default_factory=set)
    stands_by: set[int] = field(default_factory=set)


def deal(
    claims: Mapping[str, Claim],
    partitions: int,
    standbys: int,
    loads: Mapping[str, int] | None = None,
) -> dict[str, Share]:
    """Deal partitions 0 to ``partitions`` - 1 to members, and of each so many standbys.

    There are fewer standbys where there are not members enough: no two copies share a worker.
    ``loads`` says how much members have of other groups of topics; who has least, or is not among
    them, gets first what goes to no one in particular.
    """
    assert claims, "a group without members has nothing to deal to"
    shares = {member: Share() for member in sorted(claims)}
    _deal_work(claims, shares, partitions, loads or {})
    _deal_standbys(claims, shares, partitions, min(standbys, len(shares) - 1))
    return shares


def _deal_work(
    claims: Mapping[str, Claim],
    shares: Mapping[str, Share],
    partitions: int,
    loads: Mapping[str, int],
) -> None:
    for partition in range(partitions):
        # More than one, when a member has missed a rebalance: what it says is out of date.
        workers = [member for member in shares if partition in claims[member].works_on]
        if workers:
            few = min(workers, key=lambda member: (len(claims[member].works_on), member))
            shares[few].works_on.add(partition)
    while min((room := _room(shares, partitions)).values()) < 0:
        share = shares[min(room, key=lambda member: room[member])]
        # First what another one with room has warm, last what nobody else has.
        share.works_on.discard(max(share.works_on, key=lambda p: (_warmest(claims, room, p), p)))
    left = set(range(partitions)).difference(*(share.works_on for share in shares.values()))
    for warmth in _WARMTHS:
        room = _room(shares, partitions)
        # First what has the fewest places to go to.
        for partition in sorted(left, key=lambda p: (_warm_places(claims, room, p), p)):
            able = [
                member
                for member, places in _room(shares, partitions).items()
                if places > 0 and claims[member].warmth(partition) >= warmth
            ]
            if able:
                member = min(able, key=lambda one: (len(shares[one].works_on), loads.get(one, 0)))
                shares[member].works_on.add(partition)
                left.discard(partition)


def _room(shares: Mapping[str, Share], partitions: int) -> dict[str, int]:
    """How many each may still get; negative when it has too many.

    Where they do not come out even, those that have one more than others are few enough, and as
    long as there are fewer than there must be, anybody may become one.
    """
    each, more = divmod(partitions, len(shares))
    sizes = {member: len(share.works_on) for member, share in shares.items()}
    larger = sorted(
        (member for member, size in sizes.items() if size > each),
        key=lambda member: (-sizes[member], member),
    )
    may_be_larger = set(larger[:more] if len(larger) >= more else shares)
    return {member: each + (member in may_be_larger) - size for member, size in sizes.items()}


def _warmest(claims: Mapping[str, Claim], room: Mapping[str, int], partition: int) -> int:
    return max(
        (claims[member].warmth(partition) for member, left in room.items() if left > 0), default=0
    )


def _warm_places(claims: Mapping[str, Claim], room: Mapping[str, int], partition: int) -> int:
    return sum(left > 0 and claims[member].warmth(partition) > 0 for member, left in room.items())


def _deal_standbys(
    claims: Mapping[str, Claim], shares: Mapping[str, Share], partitions: int, standbys: int
) -> None:
    worker = {p: member for member, share in shares.items() for p in share.works_on}
    most = -(-partitions * standbys // len(shares))

    def may_have(member: str, partition: int) -> bool:
        return member != worker[partition] and partition not in shares[member].stands_by

    def neighbours(member: str, partition: int) -> int:
        """How many would become warm here that one and the same worker leaves behind."""
        return len(shares[member].stands_by & shares[worker[partition]].works_on)

    lacking = dict.fromkeys(range(partitions), standbys)
    for warmth in (_WORKED, _STOOD_BY, _HAD_DISK, _COLD):
        for partition in range(partitions):
            able = [
                member
                for member in shares
                if may_have(member, partition) and claims[member].warmth(partition) >= warmth
            ]
            while lacking[partition] and able:
                member = min(
                    able,
                    key=lambda one: (
                        len(shares[one].stands_by) >= most,
                        neighbours(one, partition),
                        len(shares[one].stands_by),
                    ),
                )
                able.remove(member)
                shares[member].stands_by.add(partition)
                lacking[partition] -= 1
    # Last, so that what is as even as it can be stays as it is in the next rebalance.
    for member, share in shares.items():
        for partition in sorted(share.stands_by, key=lambda p: (claims[member].warmth(p), p)):
            takers = [
                other
                for other in shares
                if len(shares[other].stands_by) < most and may_have(other, partition)
            ]
            if takers and len(share.stands_by) > most:
                share.stands_by.discard(partition)
                shares[takers[0]].stands_by.add(partition)
