"""What a status, an exit code or an error means: rules of a flow, then those of its kind."""

from collections.abc import Sequence
from dataclasses import dataclass

from edo_stream.core.act.outcome import FailureClass


@dataclass(frozen=True, slots=True)
class CodeRule:
    """Codes from ``first`` to ``last``, both included, mean a class; ``None`` is success."""

    first: int
    last: int
    meaning: FailureClass | None


#: Meanings of HTTP's status codes: what the receiver is to blame for passes, what we sent stays.
HTTP_RULES = (
    CodeRule(200, 299, None),
    # Credentials that are not good any more: nothing that a command can help.
    CodeRule(401, 401, FailureClass.TRANSIENT),
    CodeRule(407, 408, FailureClass.TRANSIENT),
    CodeRule(425, 425, FailureClass.TRANSIENT),
    CodeRule(429, 429, FailureClass.THROTTLED),
    CodeRule(500, 500, FailureClass.TRANSIENT),
    CodeRule(501, 501, FailureClass.POISON),
    CodeRule(502, 504, FailureClass.TRANSIENT),
    CodeRule(505, 505, FailureClass.POISON),
    CodeRule(506, 599, FailureClass.TRANSIENT),
    CodeRule(100, 499, FailureClass.POISON),
)

#: Meanings of exit codes, by sysexits.h where it has one; a signal (128 and more) passes.
EXIT_RULES = (
    CodeRule(0, 0, None),
    CodeRule(75, 75, FailureClass.TRANSIENT),
    CodeRule(64, 66, FailureClass.POISON),
    CodeRule(126, 127, FailureClass.POISON),
    CodeRule(-255, 255, FailureClass.TRANSIENT),
)


def meaning_of(code: int, rules: Sequence[CodeRule]) -> FailureClass | None:
    """What a code means by the first rule that has it; poison when none has."""
    for rule in rules:
        if rule.first <= code <= rule.last:
            return rule.meaning
    return FailureClass.POISON
