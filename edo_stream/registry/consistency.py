"""What must hold between files: groups, names, and no event that causes itself."""

from collections.abc import Mapping, Sequence

from edo_stream.registry.contracts import Topic
from edo_stream.registry.document import Document
from edo_stream.registry.entry import Entry


def find_unequal_partitions(documents: Sequence[Document]) -> None:
    """Topics of a group share their tasks, so they have the same number of partitions.

    Judged by the raw values: a file with other mistakes takes part all the same.
    """
    first_of: dict[str, tuple[Document, int]] = {}
    for document in documents:
        value = document.value if isinstance(document.value, dict) else {}
        group, partitions = value.get("group", value.get("name")), value.get("partitions")
        if not isinstance(group, str) or not isinstance(partitions, int):
            continue
        first, expected = first_of.setdefault(group, (document, partitions))
        if partitions != expected:
            document.find(
                ("partitions",),
                f"partitions is {partitions}, but {first.file}:{first.line(('partitions',))} of "
                f"the same group {group} has {expected}: topics of a group share their tasks, "
                "write the same number in both or declare another group",
            )


def find_name_conflicts(
    entries: Mapping[str, Entry], topics: Mapping[str, tuple[Topic, Document]]
) -> None:
    """A topic has one number of partitions and one purpose, whoever names it."""
    emits: dict[str, tuple[int, Document]] = {
        name: (entry.declaration.partitions, entry.document) for name, entry in entries.items()
    }
    for topic, document in topics.values():
        contract = topic.contract
        partitions, other = emits.setdefault(contract.emit, (contract.emit_partitions, document))
        if partitions != contract.emit_partitions:
            document.find(
                ("emit", "partitions"),
                f"{contract.emit} gets {contract.emit_partitions} partitions here and "
                f"{partitions} by {other.file}: write the same number in both",
            )
    for topic, document in topics.values():
        if topic.contract.dead_letters in emits:
            document.find(
                ("dead_letters", "topic"),
                f"{topic.contract.dead_letters} carries events already: write a topic of its own",
            )


def find_cycles(topics: Mapping[str, tuple[Topic, Document]]) -> None:
    """An event whose result comes in again as a source would go round for ever."""
    reported: set[str] = set()
    for start in topics:
        way = [start]
        while (following := topics[way[-1]][0].contract.emit) in topics and following not in way:
            way.append(following)
        if following in way and following not in reported:
            cycle = way[way.index(following) :]
            reported.update(cycle)
            _, document = topics[cycle[-1]]
            document.find(
                ("emit", "topic"),
                f"results would come in again, for ever: {' → '.join([*cycle, following])}; "
                "write a topic that is no source of these",
            )
