"""What a contract says of its source beyond the codec's name, judged by the codec itself.

The keys of ``mapping`` are the codec's own words. Each codec compiles them when a worker starts,
and refuses what it cannot use; here this is done while contracts are read, so that a mistake is
a finding with its file and line like any other.
"""

import re
from typing import Final

from edo_stream.core.contract import Contract
from edo_stream.registry.document import Document, Place
from edo_stream.sources import decoder
from edo_stream.sources.refused import MappingError

_NAMED: Final = re.compile(r"mapping\.([a-z_]+)")


def find_mapping_mistakes(document: Document, contract: Contract) -> None:
    """Add a finding if the codec cannot use its mapping."""
    try:
        decoder(contract)
    except MappingError as error:
        document.find(_place(str(error)), str(error))


def _place(message: str) -> Place:
    """The key that a message names first, or the mapping."""
    match = _NAMED.search(message)
    return ("mapping",) if match is None else ("mapping", match[1])
