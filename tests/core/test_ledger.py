"""Fates of a topic's records in a step, each once."""

from edo_stream.core.accounts import Fate, Run
from edo_stream.core.ledger import Ledger
from edo_stream.core.task import TaskIdentity

IDENTITY = TaskIdentity("app", "g", 0)


def settled(*marks: tuple[int, Fate]) -> tuple[Run, ...]:
    """What a step that reads from offset 10 on says of events that were held before."""
    ledger = Ledger("t.a.b")
    ledger.open(10)
    for offset, fate in marks:
        ledger.mark(offset, fate)
    account = ledger.close(IDENTITY, 1)
    assert account is not None
    return account.settled


def test_an_event_that_is_held_again_has_settled_nothing() -> None:
    assert () == settled((3, Fate.HELD), (3, Fate.HELD))
    assert (Run(3, 1, Fate.EMITTED.value),) == settled((3, Fate.HELD), (3, Fate.EMITTED))
    held_between = settled((3, Fate.HELD), (4, Fate.EMITTED), (3, Fate.HELD))
    assert (Run(4, 1, Fate.EMITTED.value),) == held_between
