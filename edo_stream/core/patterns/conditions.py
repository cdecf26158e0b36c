"""What a single value is tested for; each test is compiled once."""

import re
from collections.abc import Callable, Hashable
from decimal import Decimal
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from operator import eq, ge, gt, le, lt
from typing import Any, Final, NamedTuple

Test = Callable[[Any], bool]
"""Whether a leaf's value passes."""


class PatternError(Exception):
    """A pattern that says nothing: where, what, and what to write instead."""


class Exact(NamedTuple):
    """Passes one value; several of a field are looked up at once."""

    value: Hashable


class Begins(NamedTuple):
    """Texts that begin so."""

    text: str


class Ends(NamedTuple):
    """Texts that end so."""

    text: str


class Folded(NamedTuple):
    """Texts that are this one but for their case."""

    text: str


class Between(NamedTuple):
    """Numbers from the one to the other; whether the ends belong to it is left to the test."""

    low: Decimal
    high: Decimal


class Within(NamedTuple):
    """Addresses of a network."""

    network: IPv4Network | IPv6Network


Anchor = Begins | Ends | Folded | Between | Within


class Holds(NamedTuple):
    """Passes what a function says; ``anchor`` is what all that passes has in common, if known.

    By it a value leads to the tests that it may pass.
    """

    test: Test
    anchor: Anchor | None = None


class Exists(NamedTuple):
    """Passes a field that is there, or that is not."""

    is_wanted: bool


Condition = Exact | Holds | Exists

_COMPARE: Final = {"=": eq, "<": lt, "<=": le, ">": gt, ">=": ge}
_LOWER: Final = frozenset({">", ">="})
_UPPER: Final = frozenset({"<", "<="})
_NUMBER_MAX: Final = Decimal(10) ** 17
_NAMED: Final = (str, int, float, Decimal)
_BEYOND: Final = Decimal("Infinity")


def value_of(value: Any) -> Hashable:
    """A leaf's value as it is compared: 1 is 1.0, and neither is "1" or true."""
    if isinstance(value, bool):
        return ("bool", value)
    if isinstance(value, int | float | Decimal):
        return ("number", Decimal(str(value)) if isinstance(value, float) else Decimal(value))
    return value if value is None or isinstance(value, str) else ("other", str(value))


def condition_of(value: Any, where: str) -> Condition:
    """Compile one entry of a leaf's list.

    Raises:
        PatternError: it says nothing.
    """
    if not isinstance(value, dict):
        if isinstance(value, list):
            raise PatternError(f"{where}: a list within a list; write one list of values")
        return Exact(value_of(value))
    if len(value) != 1:
        raise PatternError(f'{where}: an operator is one key, such as {{"prefix": …}}')
    ((name, argument),) = value.items()
    compile_ = _OPERATORS.get(name)
    if compile_ is None:
        known = ", ".join(sorted(_OPERATORS))
        raise PatternError(f"{where}: unknown operator {name!r}; known are {known}")
    return compile_(argument, f"{where}: {name}")


def _text(argument: Any, where: str) -> str:
    if not isinstance(argument, str):
        raise PatternError(f"{where}: expected a text")
    return argument


def _exists(argument: Any, where: str) -> Condition:
    if not isinstance(argument, bool):
        raise PatternError(f"{where}: expected true or false")
    return Exists(argument)


def _prefix(argument: Any, where: str) -> Condition:
    if isinstance(argument, dict):
        folded = _ignore_case(argument, where)
        return Holds(lambda value: isinstance(value, str) and value.casefold().startswith(folded))
    prefix = _text(argument, where)
    return Holds(lambda value: isinstance(value, str) and value.startswith(prefix), Begins(prefix))


def _suffix(argument: Any, where: str) -> Condition:
    if isinstance(argument, dict):
        folded = _ignore_case(argument, where)
        return Holds(lambda value: isinstance(value, str) and value.casefold().endswith(folded))
    suffix = _text(argument, where)
    return Holds(lambda value: isinstance(value, str) and value.endswith(suffix), Ends(suffix))


def _ignore_case(argument: dict[str, Any], where: str) -> str:
    if set(argument) != {"equals-ignore-case"}:
        raise PatternError(f'{where}: expected a text, or {{"equals-ignore-case": text}}')
    return _text(argument["equals-ignore-case"], where).casefold()


def _equals_ignore_case(argument: Any, where: str) -> Condition:
    folded = _text(argument, where).casefold()
    return Holds(
        lambda value: isinstance(value, str) and value.casefold() == folded, Folded(folded)
    )


def _wildcard(argument: Any, where: str) -> Condition:
    text = _text(argument, where)
    matches = _wildcard_expression(text, where).fullmatch
    # What stands before the first *, or after the last; what is escaped is not worth the effort.
    anchor: Anchor | None = None
    if "\\" not in text and (begin := text.partition("*")[0]):
        anchor = Begins(begin)
    elif "\\" not in text and (end := text.rpartition("*")[2]):
        anchor = Ends(end)
    return Holds(lambda value: isinstance(value, str) and matches(value) is not None, anchor)


def _wildcard_expression(text: str, where: str) -> re.Pattern[str]:
    parts = [""]
    characters = iter(text)
    was_star = False
    for character in characters:
        is_star = character == "*"
        if is_star and was_star:
            raise PatternError(f"{where}: two * in a row; write one")
        if is_star:
            parts.append("")
        elif character == "\\":
            escaped = next(characters, "")
            if escaped not in ("*", "\\"):
                raise PatternError(f"{where}: \\ stands only before * and \\")
            parts[-1] += re.escape(escaped)
        else:
            parts[-1] += re.escape(character)
        was_star = is_star
    if len(parts) == 1:
        return re.compile(parts[0])
    first, *middle, last = parts
    # Where a part was found first is as good as any later place: it is never looked for again.
    found = "".join(f"(?>.*?{part})" for part in middle)
    return re.compile(f"{first}{found}.*{last}", re.DOTALL)


def _cidr(argument: Any, where: str) -> Condition:
    text = _text(argument, where)
    if "/" not in text:
        raise PatternError(f"{where}: {text!r} has no /; one address is written {text}/32 or /128")
    try:
        network = ip_network(text, strict=False)
    except ValueError as error:
        raise PatternError(f"{where}: {error}") from None
    return Holds(lambda value: isinstance(value, str) and _is_in(value, network), Within(network))


def _is_in(text: str, network: IPv4Network | IPv6Network) -> bool:
    try:
        address: IPv4Address | IPv6Address = ip_address(text)
    except ValueError:
        return False
    return address in network


def _numeric(argument: Any, where: str) -> Condition:
    if not isinstance(argument, list) or len(argument) not in (2, 4):
        raise PatternError(f'{where}: expected one or two comparisons, such as [">", 0, "<=", 5]')
    bounds = [
        (_comparison(argument[at], where), _number(argument[at + 1], where))
        for at in range(0, len(argument), 2)
    ]
    if len(bounds) == 2:
        (low, least), (high, most) = bounds
        if low not in _LOWER or high not in _UPPER:
            raise PatternError(f"{where}: a range begins with > or >= and ends with < or <=")
        if least >= most:
            raise PatternError(f"{where}: the range is empty")
    compiled = [(_COMPARE[name], bound) for name, bound in bounds]

    def test(value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
            return False
        number = Decimal(str(value)) if isinstance(value, float) else Decimal(value)
        return all(compare(number, bound) for compare, bound in compiled)

    lows = [bound for name, bound in bounds if name in _LOWER or name == "="]
    highs = [bound for name, bound in bounds if name in _UPPER or name == "="]
    return Holds(test, Between(max(lows, default=-_BEYOND), min(highs, default=_BEYOND)))


def _comparison(name: Any, where: str) -> str:
    if not isinstance(name, str) or name not in _COMPARE:
        raise PatternError(f"{where}: expected {', '.join(_COMPARE)}, found {name!r}")
    return name


def _number(value: Any, where: str) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise PatternError(f"{where}: expected a number, found {value!r}")
    number = Decimal(str(value))
    if not number.is_finite() or abs(number) > _NUMBER_MAX:
        raise PatternError(f"{where}: {value} is beyond the numbers that can be compared")
    return number


def _anything_but(argument: Any, where: str) -> Condition:
    if isinstance(argument, dict):
        return _anything_but_operator(argument, where)
    values = argument if isinstance(argument, list) else [argument]
    if not values:
        raise PatternError(f"{where}: an empty list; name what is not wanted")
    if any(isinstance(one, bool) or not isinstance(one, _NAMED) for one in values):
        raise PatternError(f"{where}: expected texts or numbers")
    if len({isinstance(one, str) for one in values}) > 1:
        raise PatternError(f"{where}: texts and numbers in one list; EventBridge takes one kind")
    unwanted = frozenset(value_of(value) for value in values)
    return Holds(lambda value: value_of(value) not in unwanted)


def _anything_but_operator(argument: dict[str, Any], where: str) -> Condition:
    if len(argument) != 1:
        raise PatternError(f'{where}: an operator is one key, such as {{"prefix": …}}')
    ((name, values),) = argument.items()
    compile_ = _NEGATABLE.get(name)
    if compile_ is None:
        raise PatternError(f"{where}: {name!r} is not one of {', '.join(sorted(_NEGATABLE))}")
    if not isinstance(values, list):
        values = [values]
    if not values:
        raise PatternError(f"{where}: {name}: an empty list; name what is not wanted")
    if "" in values and name in ("prefix", "suffix"):
        raise PatternError(f"{where}: {name}: an empty text, which every text has")
    tests = [compile_(value, f"{where}: {name}").test for value in values]
    return Holds(lambda value: not any(test(value) for test in tests))


_NEGATABLE: Final[dict[str, Callable[[Any, str], Any]]] = {
    "prefix": _prefix,
    "suffix": _suffix,
    "equals-ignore-case": _equals_ignore_case,
    "wildcard": _wildcard,
}
_OPERATORS: Final[dict[str, Callable[[Any, str], Condition]]] = {
    "exists": _exists,
    "prefix": _prefix,
    "suffix": _suffix,
    "equals-ignore-case": _equals_ignore_case,
    "wildcard": _wildcard,
    "cidr": _cidr,
    "numeric": _numeric,
    "anything-but": _anything_but,
}
OPERATOR_NAMES: Final = frozenset(_OPERATORS)
