"""Documents as the records that they would be, read by the decoder of their topic."""

import json
from collections.abc import Callable
from typing import Any

from edo_stream.catalog.payloads import is_event
from edo_stream.core.contract import Codec
from edo_stream.core.event import Violation
from edo_stream.core.record import StoredRecord
from edo_stream.registry.contracts import contract_of
from edo_stream.registry.declaration import Declaration
from edo_stream.sources import decoder

_STRUCTURED = (("content-type", b"application/cloudevents+json"),)
#: Of a row that says none; its value does not matter here.
_ROW_KEY = b'{"id":1}'

Unreadable = Callable[[Any], str | None]
"""Why a document is no event by the codec; ``None`` if it is one, or data alone."""


def reader_of(declaration: Declaration) -> Unreadable:
    """Compile a topic's decoder for documents.

    Raises:
        ValueError: the contract's mapping is not what its codec needs.
    """
    contract = contract_of(declaration)
    decode = decoder(contract)
    is_cloudevents = contract.codec is Codec.CLOUDEVENTS

    def unreadable(document: Any) -> str | None:
        is_structured = is_event(document)
        if is_cloudevents and not is_structured:
            return None
        key = str(document.get("subject") or "key").encode() if is_structured else _ROW_KEY
        headers = _STRUCTURED if is_structured else ()
        value = json.dumps(document).encode()
        found = decode(StoredRecord(contract.topic, 0, 0, 0, key, value, headers))
        return found.detail if isinstance(found, Violation) else None

    return unreadable
