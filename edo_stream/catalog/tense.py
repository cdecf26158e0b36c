"""Whether a name says that something happened: the past tense of English, as far as names go.

An event type is a few words joined by ``-`` or ``_``. A regular past ends in ``ed``; the irregular
ones that occur in names of events are listed. Words whose past is their present (``put``, ``set``)
are read as a past where one is asked for, and as no past where none is wanted.
"""

import re
from typing import Final

_IRREGULAR: Final = frozenset(
    re.findall(
        r"\w+",
        """
        arisen arose awoke awoken become became begun began bent beaten bitten blown
        blew born bought bound broken broke brought built burnt came caught chosen chose
        come done did drawn drew driven drove eaten fallen fell fed felt fled flown flew
        forgotten forgot fought found frozen froze given gave gone went got gotten grown
        grew heard held hidden hid kept known knew laid learnt led left lent lost made
        meant met mistaken overdrawn overridden overrode overtaken paid proven ran
        rebuilt redone repaid resent reset rewritten ridden risen rose run sat said
        sealed seen saw sent shaken shot shown shrunk shut slept sold sought spent
        spoken spoke stolen stole stood struck sunk sworn swum taken taught thought
        thrown threw told took torn undertaken understood undone unpaid unsent upheld
        withdrawn withdrew withheld won worn wound written wrote
        """,
    )
)
_UNCHANGED: Final = frozenset(
    re.findall(
        r"\w+",
        "bet bid burst cast cost cut hit hurt let put quit read reset run set shut split spread",
    )
)
#: They end in ed, and are no past.
_PRESENT: Final = frozenset(
    re.findall(
        r"\w+",
        "bed bleed breed embed exceed feed heed indeed need proceed red reed seed shed sled speed "
        "succeed weed",
    )
)
_VERSION: Final = re.compile(r"v[0-9]+")


def is_past(name: str) -> bool:
    """Whether the event type of a topic's name has a past tense in it."""
    words = _words(name)
    return any(_is_past(word) or word in _UNCHANGED for word in words)


def begins_past(name: str) -> bool:
    """Whether the type begins with what can only be a past tense: no name for a command."""
    return _is_past(_words(name)[0])


def _words(name: str) -> list[str]:
    parts = name.split(".")
    if len(parts) > 1 and _VERSION.fullmatch(parts[-1]):
        parts.pop()
    return re.split(r"[-_]", parts[-1])


def _is_past(word: str) -> bool:
    if word in _UNCHANGED:
        return False
    return word in _IRREGULAR or (len(word) > 3 and word.endswith("ed") and word not in _PRESENT)
