"""What a command's data is made of: a jq program, a CEL expression or a template, compiled once.

Each sees the whole event, attributes at the top and its JSON below ``data``, and gives one JSON
document. What cannot be made is an error with a reason; a document too large is one too.

jq computes with doubles: an event with a whole number that a double cannot tell from its
neighbours is refused rather than changed. And jq can loop for ever or read what is outside of the
event; the words for that are refused when the flow is read.
"""

import re
from collections.abc import Iterator
from math import isfinite
from typing import Any, Final

import msgspec

from edo_stream.core.facts import Facts, Make, UnmadeError
from edo_stream.core.pointer import MISSING
from edo_stream.flows.declaration import Input
from edo_stream.flows.expression import Expression, detail_of

BYTES_MAX: Final = 1 << 20
"""Of what is made."""
#: Loops whose end the event decides, or nothing does; and what is outside of the event.
_REFUSED: Final = frozenset(
    {
        "range",
        "repeat",
        "until",
        "while",
        "recurse",
        "def",
        "import",
        "include",
        "env",
        "input",
        "inputs",
        "input_filename",
        "input_line_number",
        "modulemeta",
        "debug",
        "stderr",
        "halt",
        "halt_error",
        "now",
        "localtime",
        "strflocaltime",
    }
)
_WORD: Final = re.compile(r"(?<![\w.$])(\$?[A-Za-z_]\w*)(?!\s*:)(?!\w)")
_COMMENT: Final = re.compile(r"#(?:\\\\|\\\r?\n|[^\n])*")
"""To the end of its line, and the next one after a backslash."""
_LONG_NUMBER: Final = re.compile(rb"[0-9]{16}")
_EXACT_MAX: Final = 1 << 53
_DETAIL_CHARS_MAX: Final = 300


def maker_of(declared: Input) -> Make:
    """Compile what a flow declares.

    Raises:
        ValueError: it cannot be compiled, or is none of the three kinds, or more than one.
    """
    given = [name for name in ("jq", "cel", "template") if getattr(declared, name) is not None]
    if len(given) != 1:
        raise ValueError("write one of jq, cel and template")
    if declared.jq is not None:
        return _JqMaker(declared.jq)
    if declared.cel is not None:
        return _CelMaker(declared.cel)
    assert declared.template is not None, "one of them is given"
    return _TemplateMaker(declared.template)


class _JqMaker:
    def __init__(self, program: str) -> None:
        if (word := _refused_word(program)) is not None:
            raise ValueError(f"{word} may not be used: it ends when it likes, or reads what is "
                             "outside of the event")  # fmt: skip
        import jq  # noqa: PLC0415 - only who writes programs pays for it

        try:
            self._program = jq.compile(program)
        except ValueError as error:
            line = str(error).splitlines()[0].removeprefix("jq: error: ")
            raise ValueError(f"not a program of jq: {line[:_DETAIL_CHARS_MAX]}") from error

    def __call__(self, facts: Facts) -> bytes:
        text = facts.text()
        if _LONG_NUMBER.search(text) and (number := _inexact(facts.data)) is not None:
            raise UnmadeError(f"input: jq would change the number {number}: use cel or template")
        try:
            given = list(_first_two(self._program.input_text(text.decode())))
        except (ValueError, RecursionError) as error:
            raise UnmadeError(f"input: {detail_of(error)}") from error
        if len(given) != 1:
            found = "more than one" if given else "none"
            raise UnmadeError(f"input: expected one document, found {found}")
        return _bounded(msgspec.json.encode(given[0]))


class _CelMaker:
    def __init__(self, text: str) -> None:
        self._expression = Expression(text)

    def __call__(self, facts: Facts) -> bytes:
        try:
            value = self._expression.value(facts)
            made = msgspec.json.encode(value)
        except Exception as error:
            raise UnmadeError(f"input: {detail_of(error)}") from error
        if not _is_finite(value):
            # As JSON it would be null.
            raise UnmadeError("input: a number is out of range")
        return _bounded(made)


class _TemplateMaker:
    def __init__(self, text: str) -> None:
        from jinja2 import StrictUndefined, TemplateError  # noqa: PLC0415 - likewise
        from jinja2.sandbox import ImmutableSandboxedEnvironment  # noqa: PLC0415

        environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False)
        environment.filters["json"] = lambda value: msgspec.json.encode(value).decode()
        try:
            self._template = environment.from_string(text)
        except TemplateError as error:
            raise ValueError(f"not a template: {error}") from error

    def __call__(self, facts: Facts) -> bytes:
        try:
            made: bytes = self._template.render(facts.whole).encode()
            msgspec.json.decode(made)
        except Exception as error:
            raise UnmadeError(f"input: {detail_of(error)}") from error
        return _bounded(made)


def _bounded(made: bytes) -> bytes:
    if len(made) > BYTES_MAX:
        raise UnmadeError(f"input: expected at most {BYTES_MAX} bytes, found {len(made)}")
    return made


def _first_two(documents: Any) -> Iterator[Any]:
    for count, document in enumerate(documents, 1):
        yield document
        if count == 2:
            return


def _inexact(value: Any) -> int | None:
    """A whole number that a double cannot hold, if there is one."""
    stack = [] if value is MISSING else [value]
    while stack:
        one = stack.pop()
        if isinstance(one, dict):
            stack += one.values()
        elif isinstance(one, list):
            stack += one
        elif isinstance(one, int) and abs(one) > _EXACT_MAX:
            return one
    return None


def _is_finite(value: Any) -> bool:
    """Whether each number of a value is one."""
    stack = [value]
    while stack:
        one = stack.pop()
        if isinstance(one, dict):
            stack += one.values()
        elif isinstance(one, list | tuple):
            stack += one
        elif isinstance(one, float) and not isfinite(one):
            return False
    return True


def _refused_word(program: str) -> str | None:
    words = (word.removeprefix("$").lower() for word in _WORD.findall(_code(program)))
    return next((word for word in words if word in _REFUSED), None)


def _code(program: str) -> str:
    """A program without comments, and of its texts what ``\\(…)`` computes in them.

    The colon of a slice is a comma: what stands before it is no name of a field.
    """
    code: list[str] = []
    opened: list[str] = []
    is_text = False
    at = 0
    while at < len(program):
        piece = program[at]
        if is_text:
            piece = program[at : at + 2] if piece == "\\" else piece
            is_text = piece not in ('"', "\\(")
            if piece == "\\(":
                opened.append(piece)
            code.append(" " if is_text else piece)
        elif piece == "#" and (comment := _COMMENT.match(program, at)) is not None:
            piece = comment[0]
        else:
            is_text = piece == '"'
            if piece in "([{":
                opened.append(piece)
            elif piece in ")]}" and opened:
                is_text = opened.pop() == "\\("
            code.append("," if piece == ":" and opened[-1:] == ["["] else piece)
        at += len(piece)
    return "".join(code)
