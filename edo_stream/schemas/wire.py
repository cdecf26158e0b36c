"""Confluent's wire format: five bytes before the data, a magic 0 and the schema's id.

Kafka's clients of other languages write it when a schema registry is configured for them. The
newer form has a header instead (``__value_schema_id``: 1 and the 16 bytes of a GUID) and leaves the
data as it is.
"""

import struct
from typing import Final

GUID_HEADER: Final = "__value_schema_id"
_FRAME: Final = struct.Struct(">bI")


def framed(schema_id: int, data: bytes) -> bytes:
    """Data with its schema's id before it."""
    return _FRAME.pack(0, schema_id) + data


def unframed(value: bytes) -> tuple[int, bytes]:
    """The schema's id, and the data.

    Raises:
        ValueError: the bytes do not begin as the format wants it.
    """
    if len(value) < _FRAME.size:
        raise ValueError(f"{len(value)} bytes are too few for a magic byte and a schema id")
    magic, schema_id = _FRAME.unpack_from(value)
    if magic != 0:
        raise ValueError(f"magic byte is {value[0]}, expected 0")
    return schema_id, value[_FRAME.size :]
