"""Expressions over an event, in CEL (Common Expression Language), compiled once.

An expression sees the event's attributes by their names, and its JSON as ``data``. An attribute
that the event does not have is ``null``; a field of ``data`` that is not there is an error, unless
``has(data.field)`` asked for it. CEL has no loops without end and reaches nothing outside.

The library converts what an expression speaks of from Python's values. That is most of the cost,
and is done once an event, for all expressions of its topic.
"""

from typing import Any, Final

from edo_stream.core.facts import Facts, UndecidedError
from edo_stream.core.pointer import MISSING

#: Functions that the library knows; a name that it does not know is told only when it is called.
FUNCTIONS: Final = frozenset(
    {
        "size",
        "contains",
        "startsWith",
        "endsWith",
        "matches",
        "string",
        "bytes",
        "int",
        "uint",
        "double",
        "timestamp",
        "duration",
        "type",
        "dyn",
        "getFullYear",
        "getMonth",
        "getDayOfYear",
        "getDayOfMonth",
        "getDate",
        "getDayOfWeek",
        "getHours",
        "getMinutes",
        "getSeconds",
        "getMilliseconds",
    }
)
_DETAIL_CHARS_MAX: Final = 300


class ExpressionError(ValueError):
    """A text is no expression; says why."""


class Expression:
    """One expression; where the event does not fit it, calling it raises an ordinary error."""

    def __init__(self, text: str) -> None:
        """Compile it.

        Raises:
            ExpressionError: it is none.
        """
        self.text = text
        import cel  # noqa: PLC0415 - only who writes expressions pays for it: 0.2 s at the start

        try:
            self._program = cel.compile(text)
        except (ValueError, RecursionError) as error:
            raise ExpressionError(_first_fault(str(error))) from error
        self._context = cel.Context
        self.names: tuple[str, ...] = tuple(self._program.variables())
        """Names that it speaks of, those that its own loops bind among them."""
        for name in self._program.functions():
            if name.isidentifier() and not name.startswith("_") and name not in FUNCTIONS:
                known = ", ".join(sorted(FUNCTIONS))
                raise ExpressionError(f"{name} is not a function: known are {known}, has and loops")

    def value(self, facts: Facts) -> Any:
        """Evaluate it for an event.

        Raises:
            Exception: of any kind; the event has not what it speaks of, or something else.
        """
        if facts.kept is None:
            facts.kept = (self._context(), set())
        context, bound = facts.kept
        for name in self.names:
            if name not in bound:
                bound.add(name)
                context.add_variable(name, _named(facts, name))
        return self._program.execute(context)


class WhereExpression:
    """An expression that says whether an event is wanted."""

    def __init__(self, text: str) -> None:
        """Compile it.

        Raises:
            ExpressionError: it is no expression.
        """
        self.expression = Expression(text)

    def __call__(self, facts: Facts) -> bool:
        """Whether the event is wanted.

        Raises:
            UndecidedError: the event has not what it speaks of, or it says neither yes nor no.
        """
        try:
            said = self.expression.value(facts)
        except Exception as error:
            raise UndecidedError(f"where: {detail_of(error)}") from error
        if not isinstance(said, bool):
            raise UndecidedError(f"where: expected true or false, found a {type(said).__name__}")
        return said


def detail_of(error: Exception) -> str:
    """What went wrong, in a line, for a person."""
    if isinstance(error, KeyError):
        return f"the event has no {error.args[0]}" if error.args else "a field is missing"
    text = str(error).partition(". Check ")[0].partition(". CEL does not")[0]
    return " ".join(text.split())[:_DETAIL_CHARS_MAX]


def _named(facts: Facts, name: str) -> Any:
    if name in facts.more:
        return facts.found(name)
    if name == "data":
        return None if facts.data is MISSING else facts.data
    return facts.attributes.get(name)


def _first_fault(text: str) -> str:
    """The library repeats the expression, and draws where the fault is."""
    found = text.partition("ERROR: ")[2] or text
    line = found.splitlines()[0].removeprefix("<input>:")
    return f"not an expression in CEL: {line[:_DETAIL_CHARS_MAX]}"
