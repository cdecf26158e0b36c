"""Source codecs: a raw record becomes an event, a violation, or is ignored. Pure, no I/O.

A decoder is compiled from its contract, once at start, because it runs for every record. It
never raises, whatever the bytes: a record that nobody can read must not stop its partition.
"""

from edo_stream.core.contract import Contract
from edo_stream.sources.kinds import KINDS, Decode

__all__ = ["Decode", "decoder"]


def decoder(contract: Contract) -> Decode:
    """Return the function that decodes the records of the contract's topic.

    Raises:
        MappingError: the contract's mapping is not what its codec needs.
    """
    return KINDS[contract.codec.value].decoder(contract)
