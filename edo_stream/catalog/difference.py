"""What a change of the registry breaks, and for whom: two trees compared topic by topic.

Theory of operation. The old tree is what others rely on, so it is read leniently: a contract of it
that cannot be read is skipped. Three things are compared. *Contracts*, key by key
(:mod:`.changes`). *Schema versions*: each new one, and each published one that was edited in
place, is held against all before it in both directions, from which the verdict of every mode
follows. *Consumers*: a version is readable for one if it accepts it, or if a version that it
accepts reads all of it; whoever could read the topic and cannot any more is named.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

from edo_stream.catalog.case import Version, compiled
from edo_stream.catalog.changes import Change, changes_between
from edo_stream.catalog.comparison import MODES, breaks_between, can_read
from edo_stream.catalog.describe import described
from edo_stream.catalog.folder import SchemaFile, folder_of
from edo_stream.catalog.lint import Before
from edo_stream.catalog.tree import Tree
from edo_stream.registry.declaration import Consumer, Declaration, Deprecation
from edo_stream.registry.entry import Entry
from edo_stream.registry.survey import survey
from edo_stream.schemas.breaks import Break


@dataclass(frozen=True, slots=True)
class Verdict:
    """One schema version that is new, or not what it was."""

    version: int
    is_edited: bool
    """It was published, and differs: no mode allows that."""
    mode: str
    """The declared one."""
    modes: Mapping[str, bool]
    """Whether each mode allows it."""
    breaks: tuple[tuple[int, Break], ...]
    """Against which older version, and what."""

    @property
    def is_allowed(self) -> bool:
        """Whether the change keeps the rules of the contract."""
        return self.modes[self.mode] and not self.is_edited


@dataclass(frozen=True, slots=True)
class Broken:
    """A consumer that cannot go on."""

    consumer: str
    owner: str | None
    why: str


@dataclass(frozen=True, slots=True)
class TopicDifference:
    """What is different about one topic."""

    topic: str
    state: str
    """``added``, ``removed``, ``changed``."""
    changes: tuple[Change, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    broken: tuple[Broken, ...] = ()
    missing: tuple[str, ...] = ()
    """Consumers whose acknowledgement a sunset needs."""

    @property
    def is_breaking(self) -> bool:
        """Whether anybody or any rule is broken."""
        return bool(
            self.broken
            or self.missing
            or any(change.breaks is not None for change in self.changes)
            or any(not verdict.is_allowed for verdict in self.verdicts)
        )


@dataclass(frozen=True, slots=True)
class Difference:
    """Everything that is different; topics without a difference are left out."""

    ref: str
    topics: tuple[TopicDifference, ...] = field(default=())

    @property
    def is_breaking(self) -> bool:
        """Whether anything is."""
        return any(topic.is_breaking for topic in self.topics)


def difference(tree: Tree, before: Before, today: date) -> Difference:
    """Compare the folder with what it was."""
    old, new = survey(before.tree.documents).entries, survey(tree.documents).entries
    found: list[TopicDifference | None] = []
    for topic in sorted({*old, *new}):
        if topic not in old:
            # Its schemas may have been there: only its contract could not be read.
            found.append(_added(new[topic], tree, before))
        elif topic not in new:
            if topic not in tree.files:
                found.append(_removed(old[topic], today))
        else:
            found.append(_changed(old[topic], new[topic], tree, before))
    return Difference(before.ref, tuple(one for one in found if one is not None))


def _added(entry: Entry, tree: Tree, before: Before) -> TopicDifference:
    verdicts = _verdicts(entry, tree, before)
    return TopicDifference(entry.name, "added", verdicts=tuple(verdicts))


def _removed(entry: Entry, today: date) -> TopicDifference:
    deprecation = entry.declaration.deprecation
    is_over = (
        deprecation is not None
        and deprecation.sunset is not None
        and deprecation.sunset <= today
        and not _unacknowledged(entry.declaration.consumers, deprecation)
    )
    why = None if is_over else "it has had no sunset that every consumer acknowledged"
    change = Change("", entry.name, None, why)
    broken = [] if is_over else _all_broken(entry.declaration.consumers, "the topic is gone")
    return TopicDifference(entry.name, "removed", (change,), broken=tuple(broken))


def _changed(old: Entry, new: Entry, tree: Tree, before: Before) -> TopicDifference | None:
    changes = changes_between(described(old), described(new))
    verdicts = _verdicts(new, tree, before)
    lost = _lost_versions(old, new, tree, before)
    broken = [
        broken
        for change in changes
        if change.breaks is not None and change.path in _EVERYBODY
        for broken in _all_broken(new.declaration.consumers, f"{change.path}: {change.breaks}")
    ]
    broken += _unreadable(old, new, tree, before, {verdict.version for verdict in verdicts})
    found = TopicDifference(
        new.name,
        "changed",
        (*changes, *lost),
        tuple(verdicts),
        tuple(dict.fromkeys(broken)),
        tuple(_missing(old.declaration, new.declaration)),
    )
    return found if found.changes or found.verdicts or found.broken else None


#: Keys whose breaking change every consumer feels.
_EVERYBODY = frozenset(
    {
        "kind",
        "codec",
        "partitions",
        "retention",
        "cleanup",
        "key",
        "partition_key",
        "ordering.policy",
        "schema.format",
        "schema.wire",
    }
)


def _all_broken(consumers: Iterable[Consumer], why: str) -> list[Broken]:
    return [Broken(consumer.name, consumer.owner, why) for consumer in consumers]


def _lost_versions(old: Entry, new: Entry, tree: Tree, before: Before) -> list[Change]:
    """Schema files that were there and are not."""
    were = {file.name: file for file in folder_of(before.tree.files[old.name]).schemas}
    are = {file.name for file in folder_of(tree.files[new.name]).schemas}
    return [
        Change(name, name, None, "a version that was published stays, for the data on the topic")
        for name in were
        if name not in are
    ]


def _verdicts(entry: Entry, tree: Tree, before: Before) -> list[Verdict]:
    """Judge each version that is new or edited against all before it."""
    declared = entry.declaration.schema_
    if declared is None:
        return []
    were = {
        file.version: file
        for file in folder_of(before.tree.files.get(entry.name, {})).schemas
        if file.format == declared.format
    }
    are = [
        file for file in folder_of(tree.files[entry.name]).schemas if file.format == declared.format
    ]
    found = []
    for file in are:
        published = were.get(file.version)
        is_edited = published is not None and _text(published) != _text(file)
        if published is not None and not is_edited:
            continue
        earlier = [were.get(one.version, one) for one in are if one.version < file.version]
        olds = [*earlier, published] if is_edited and published is not None else earlier
        if olds:
            found.append(_verdict(declared.compatibility, file, olds, is_edited))
    return found


def _verdict(mode: str, file: SchemaFile, olds: list[SchemaFile], is_edited: bool) -> Verdict:
    new = compiled(file)
    found: list[tuple[int, Break]] = []
    if new.error is not None:
        found = [(olds[-1].version, Break("", "not-a-schema", str(new.error)))]
        return Verdict(file.version, is_edited, mode, dict.fromkeys(MODES, False), tuple(found))
    by_direction: dict[str, list[int]] = {"backward": [], "forward": []}
    for old in olds:
        schema = compiled(old)
        if schema.error is not None:
            continue
        for direction, failed in by_direction.items():
            broken = breaks_between(file.format, direction.upper(), schema.schema, new.schema)
            found += [(old.version, replace(one, direction=direction)) for one in broken]
            if broken:
                failed.append(old.version)
    modes = {one: _allows(one, by_direction, olds[-1].version) for one in MODES}
    return Verdict(file.version, is_edited, mode, modes, tuple(found))


def _allows(mode: str, failed: Mapping[str, list[int]], last: int) -> bool:
    """Whether a mode allows a version that fails towards these older ones."""
    directions = {"BACKWARD": ["backward"], "FORWARD": ["forward"], "NONE": []}.get(
        mode.removesuffix("_TRANSITIVE"), ["backward", "forward"]
    )
    counted = [version for direction in directions for version in failed[direction]]
    return not counted if mode.endswith("_TRANSITIVE") else last not in counted


def _unreadable(
    old: Entry, new: Entry, tree: Tree, before: Before, changed: set[int]
) -> list[Broken]:
    """Consumers that could read all that was on the topic, and cannot read all that will be."""
    is_versioned = old.declaration.schema_ is not None and new.declaration.schema_ is not None
    if not is_versioned:
        return []
    were = {one.name: one for one in old.declaration.consumers}
    versions = _compiled(tree.files[new.name], new.declaration)
    published = _compiled(before.tree.files[old.name], old.declaration)
    found = []
    for consumer in new.declaration.consumers:
        earlier = were.get(consumer.name)
        accepted = list(published) if consumer.versions is None else consumer.versions
        is_same = earlier is not None and earlier.versions == consumer.versions
        wanted = [number for number in versions if number in changed or not is_same]
        for number in wanted:
            readers = [published.get(one) or versions.get(one) for one in accepted]
            if number in accepted and number not in published:
                continue
            if not _is_readable(versions[number], [one for one in readers if one is not None]):
                names = ", ".join(str(one) for one in accepted)
                why = f"accepts {names}, and none of them reads all of version {number}"
                found.append(Broken(consumer.name, consumer.owner, why))
    return found


def _is_readable(writer: Version, readers: Iterable[Version]) -> bool:
    return any(
        reader.error is None
        and writer.error is None
        and (
            reader.schema == writer.schema
            or can_read(writer.file.format, reader.schema, writer.schema)
        )
        for reader in readers
    )


def _compiled(files: Mapping[str, bytes], declaration: Declaration) -> dict[int, Version]:
    declared = declaration.schema_
    return {
        file.version: compiled(file)
        for file in folder_of(files).schemas
        if declared is not None and file.format == declared.format
    }


def _missing(old: Declaration, new: Declaration) -> list[str]:
    """Consumers that have not acknowledged a sunset which is new or was moved."""
    names = _newly_asked(old.deprecation, new.deprecation, new.consumers)
    for number, version in new.versions.items():
        earlier = old.versions.get(number)
        readers = [one for one in new.consumers if one.versions is None or number in one.versions]
        was = None if earlier is None else earlier.deprecation
        names += _newly_asked(was, version.deprecation, readers)
    return list(dict.fromkeys(names))


def _newly_asked(
    before: Deprecation | None, after: Deprecation | None, readers: Iterable[Consumer]
) -> list[str]:
    if after is None or after.sunset is None:
        return []
    if before is not None and before.sunset == after.sunset:
        return []
    return _unacknowledged(readers, after)


def _unacknowledged(readers: Iterable[Consumer], deprecation: Deprecation) -> list[str]:
    return [one.name for one in readers if one.name not in deprecation.acknowledged]


def _text(file: SchemaFile) -> bytes:
    return file.content.replace(b"\r\n", b"\n")


def as_json(found: Difference) -> dict[str, Any]:
    """The difference as plain values."""
    return {
        "against": found.ref,
        "breaking": found.is_breaking,
        "topics": [_topic_as_json(topic) for topic in found.topics],
    }


def _topic_as_json(topic: TopicDifference) -> dict[str, Any]:
    return {
        "topic": topic.topic,
        "state": topic.state,
        "breaking": topic.is_breaking,
        "changes": [
            {
                "path": change.path,
                "before": change.before,
                "after": change.after,
                "breaks": change.breaks,
            }
            for change in topic.changes
        ],
        "versions": [
            {
                "version": verdict.version,
                "edited": verdict.is_edited,
                "mode": verdict.mode,
                "allowed": verdict.is_allowed,
                "modes": dict(verdict.modes),
                "breaks": [
                    {**found.as_json(), "against": against} for against, found in verdict.breaks
                ],
            }
            for verdict in topic.verdicts
        ],
        "consumers": [
            {"name": broken.consumer, "owner": broken.owner, "why": broken.why}
            for broken in topic.broken
        ],
        "unacknowledged": list(topic.missing),
    }
