"""The lint: every mistake of every contract and of the files beside it, at once.

What makes a contract unusable is found by the registry, whoever reads it. What is added here is
for a review: promises that nobody keeps, keys that do not do what they are for, files that do not
fit each other. A date that has passed is a finding here and never stops a worker.
"""

import multiprocessing
import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from edo_stream.catalog.case import Case, Rule
from edo_stream.catalog.folder import folder_of
from edo_stream.catalog.rules import examples, history, keys, names, promises, schemas
from edo_stream.catalog.salvage import has_lost, salvaged
from edo_stream.catalog.tree import Tree
from edo_stream.registry.entry import Entry
from edo_stream.registry.finding import Finding
from edo_stream.registry.survey import Survey, survey

#: From so many topics on, a second process is sooner done than started.
_SHARED_FROM: Final = 200

#: Of the files beside a contract: they need to know what its ``schema`` says.
FILE_RULES: Sequence[Rule] = (
    schemas.find_misplaced_files,
    schemas.find_bad_schemas,
    schemas.find_breaking_versions,
    schemas.find_bad_casts,
    schemas.find_unknown_versions,
    examples.find_wrong_examples,
    keys.find_unknown_fields,
)
RULES: Sequence[Rule] = (
    names.find_wrong_tense,
    names.find_unknown_topics,
    names.find_repeated_names,
    keys.find_wrong_roles,
    keys.find_duplicates_that_pass,
    keys.find_split_keys,
    keys.find_compacted_sequences,
    promises.find_broken_promises,
    promises.find_missed_objectives,
    promises.find_odd_ladders,
    promises.find_late_acknowledgements,
    promises.find_odd_rates,
    promises.find_odd_sunsets,
    promises.find_endless_warnings,
)


@dataclass(frozen=True, slots=True)
class Before:
    """What the contracts are judged against."""

    ref: str
    tree: Tree


@dataclass(frozen=True, slots=True)
class Review:
    """What a lint found."""

    survey: Survey
    findings: tuple[Finding, ...]
    """Sorted by file and line."""


def lint(tree: Tree, today: date, before: Before | None, more: Sequence[Rule] = ()) -> Review:
    """Review all topics; ``more`` are rules that need what is not to be imported here."""
    surveyed = survey(tree.documents)
    cases = cases_of(tree, surveyed, today)
    rules = (*RULES, *FILE_RULES, *more)
    found = [*surveyed.findings]
    if len(cases) >= _SHARED_FROM and _may_fork():
        found += _shared(cases, rules, before)
    else:
        for case in cases:
            found += _reviewed(case, rules, before)
    return Review(surveyed, tuple(sorted(set(found))))


def _may_fork() -> bool:
    """A copy of a process with threads has their locks and not the threads."""
    is_alone = threading.active_count() == 1
    return is_alone and sys.platform == "linux" and (os.cpu_count() or 1) > 1


def _reviewed(case: Case, rules: Sequence[Rule], before: Before | None) -> list[Finding]:
    for rule in rules if case.is_whole else RULES:
        rule(case)
    if before is not None:
        history.find_changed_schemas(case, before.tree.files.get(case.entry.name, {}), before.ref)
    return [*case.entry.document.findings, *case.findings]


def _shared(cases: Sequence[Case], rules: Sequence[Rule], before: Before | None) -> list[Finding]:
    """Review one half here and the other in a copy of this process, side by side."""
    half = len(cases) // 2
    receiver, sender = multiprocessing.get_context("fork").Pipe(duplex=False)

    def review_half() -> None:
        sender.send([one for case in cases[:half] for one in _reviewed(case, rules, before)])

    other = multiprocessing.get_context("fork").Process(target=review_half, daemon=True)
    other.start()
    found = [one for case in cases[half:] for one in _reviewed(case, rules, before)]
    # Else the end of a copy that failed would not be seen.
    sender.close()
    with receiver:
        found += receiver.recv()
    other.join()
    return found


def cases_of(tree: Tree, surveyed: Survey, today: date) -> list[Case]:
    """A case for each topic of whose contract something can be read."""
    entries = dict(surveyed.entries)
    damaged = set()
    for document in surveyed.documents:
        topic = document.file.parent.name
        declaration = None if topic in entries else salvaged(document)
        if declaration is not None:
            entries[topic] = Entry(declaration, document)
            if has_lost(document, declaration, "schema"):
                damaged.add(topic)
    emitted = {
        entry.declaration.emit.topic
        for entry in entries.values()
        if entry.declaration.emit is not None
    }
    names_known = frozenset({*entries, *tree.files, *emitted})
    return [
        Case(
            entry,
            folder_of(tree.files[topic]),
            entries,
            names_known,
            today,
            is_whole=topic not in damaged,
        )
        for topic, entry in sorted(entries.items())
    ]
