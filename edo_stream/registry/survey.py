"""All contracts of a folder together: read, then judged against each other."""

from collections.abc import Sequence
from dataclasses import dataclass

from edo_stream.registry.consistency import (
    find_cycles,
    find_name_conflicts,
    find_unequal_partitions,
)
from edo_stream.registry.contracts import Topic, declaration_of, topic_of
from edo_stream.registry.document import Document
from edo_stream.registry.entry import Entry
from edo_stream.registry.finding import Finding
from edo_stream.registry.source_declaration import find_mapping_mistakes


@dataclass(frozen=True, slots=True)
class Survey:
    """What the files declare, as far as they can be read, and what is wrong with them."""

    documents: Sequence[Document]
    entries: dict[str, Entry]
    topics: dict[str, Topic]

    @property
    def findings(self) -> list[Finding]:
        """What is wrong, in the order of the files."""
        return [finding for document in self.documents for finding in document.findings]


def survey(documents: Sequence[Document]) -> Survey:
    """Judge all files; mistakes are added to their documents."""
    entries: dict[str, Entry] = {}
    topics: dict[str, tuple[Topic, Document]] = {}
    for document in documents:
        declaration = declaration_of(document)
        if declaration is None:
            continue
        entries[declaration.name] = Entry(declaration, document)
        topic = topic_of(declaration, document.file)
        if topic is not None:
            find_mapping_mistakes(document, topic.contract)
            topics[declaration.name] = (topic, document)
    find_unequal_partitions(documents)
    find_name_conflicts(entries, topics)
    find_cycles(topics)
    return Survey(documents, entries, {name: topic for name, (topic, _) in topics.items()})
