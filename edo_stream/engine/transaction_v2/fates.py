"""What an error code means for a transaction: try again, give it up, or the producer is fenced.

By KIP-890 and Kafka's own client. Whatever is raised here ends the producer: its task initialises
the transactional id anew. So of what cannot be retried only the fence is told apart.
"""

from typing import Final, NamedTuple

from aiokafka.errors import BrokerResponseError, KafkaError, ProducerFenced, for_code

RETRY_S: Final = 0.1

#: The coordinator is still writing the markers of the last transaction, which takes milliseconds.
#: Where it takes longer, a broker is busy: each time it is asked after twice as long.
MARKERS_S: Final = 0.003
_DOUBLINGS_MAX: Final = 10

NO_ERROR: Final = 0
_NETWORK_EXCEPTION: Final = 13
_REQUEST_TIMED_OUT: Final = 7
_COORDINATOR_NOT_AVAILABLE: Final = 15
_NOT_COORDINATOR: Final = 16
_CONCURRENT_TRANSACTIONS: Final = 51
_FENCED: Final = frozenset((47, 90))
"""INVALID_PRODUCER_EPOCH and PRODUCER_FENCED."""
_ABORTABLE: Final = 120
_ELSEWHERE: Final = frozenset((_REQUEST_TIMED_OUT, _COORDINATOR_NOT_AVAILABLE, _NOT_COORDINATOR))


class TransactionAbortableError(BrokerResponseError):  # type: ignore[misc]
    """The broker asks for an abort: it has not taken up what it was sent."""

    errno = _ABORTABLE
    message = "TRANSACTION_ABORTABLE"


class Retry(NamedTuple):
    """The same request again, byte by byte."""

    after_s: float
    is_elsewhere: bool
    """To a broker that is looked up again."""


def retry_of(code: int, tried: int) -> Retry:
    """How to go on after an error; ``tried`` says how often it was tried again before.

    Raises:
        ProducerFenced: another producer has the transactional id.
        KafkaError: the transaction cannot go on.
    """
    if code == _CONCURRENT_TRANSACTIONS:
        return Retry(min(RETRY_S, MARKERS_S * 2 ** min(tried, _DOUBLINGS_MAX)), False)
    error = error_of(code)
    if code != _NETWORK_EXCEPTION and not error.retriable:
        raise error
    return Retry(RETRY_S, code in _ELSEWHERE or error.invalid_metadata)


def error_of(code: int) -> KafkaError:
    """The client's exception for a code; with the number, where the client knows none."""
    if code in _FENCED:
        return ProducerFenced()
    if code == _ABORTABLE:
        return TransactionAbortableError()
    kind = for_code(code)
    return kind() if kind.errno == code else kind(f"error code {code}")
