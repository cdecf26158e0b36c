"""Event patterns: which events a flow wants, in the language of Amazon EventBridge.

A pattern is a JSON object of the event's shape, whose leaves are lists of what may be there::

    {"type": ["shop.order.placed"], "data": {"total": [{"numeric": [">", 100]}]}}

See :mod:`.parse` for the language, :mod:`.leaves` for how an event is looked at, and
:mod:`.index` for how one event is held against thousands of patterns.
"""

from edo_stream.core.patterns.index import PatternIndex
from edo_stream.core.patterns.leaves import leaves_of
from edo_stream.core.patterns.parse import Pattern, PatternError, parse_pattern
from edo_stream.core.patterns.reasons import Reason, reason_of

__all__ = [
    "Pattern",
    "PatternError",
    "PatternIndex",
    "Reason",
    "leaves_of",
    "parse_pattern",
    "reason_of",
]
