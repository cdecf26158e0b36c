"""Source codecs: a raw record becomes an event, a violation, or is ignored. Pure, no I/O.

A decoder is compiled from its contract, once at start, because it runs for every record. It
never raises, whatever the bytes: a record that nobody can read must not stop its partition.
"""

from collections.abc import Callable

from edo_stream.core.contract import Codec, Contract
from edo_stream.core.event import Decoded
from edo_stream.core.record import Record
from edo_stream.sources import cloudevents, debezium

Decode = Callable[[Record], Decoded]


def decoder(contract: Contract) -> Decode:
    """Return the function that decodes the records of the contract's topic."""
    match contract.codec:
        case Codec.CLOUDEVENTS:
            return cloudevents.decoder(contract)
        case Codec.DEBEZIUM:
            return debezium.decoder(contract)
