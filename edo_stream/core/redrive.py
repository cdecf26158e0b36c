"""Records that an operator has sent again: how they are known, and what that lets them pass.

`edo dlq redrive` writes a dead letter's record back to its topic with one more header, the last:
``edo-redrive``, how often that was done. An event that was remembered before it was given up would
be dropped as a double of itself; sent again it is one of its own, once for each number. The number
of its key was used up by its dead letter: it goes on behind its turn, and says so (``ce_edolate``).

Nobody gains by writing the header who may not write to the topic already: another ``ce_id`` passes
dedupe just so, and what goes on behind its turn is marked. A stranger's webhook has no way to it:
the last header of its record is the gateway's own. It is looked at only where an event would be
turned away else, and results and commands do not bear it.
"""

from typing import Final

from edo_stream.core.native import IS_COMPILED
from edo_stream.core.record import Record

if IS_COMPILED:
    from edo_stream.core._native import FetchedRecord

REDRIVE: Final = "edo-redrive"
_NAME: Final = REDRIVE.encode()


def redrive_of(record: Record) -> bytes | None:
    """How often a record was sent again, as its header says; ``None``: never."""
    if IS_COMPILED and type(record) is FetchedRecord and not record.mentions(_NAME):
        return None  # As nearly all: for most doubles nobody reads their headers.
    headers = record.headers
    return headers[-1][1] if headers and headers[-1][0] == REDRIVE else None
