"""Lines of JSON that programs ask with: whose a line is, where it is no JSON as a whole.

A program that asks many questions matches each answer by ``id``. A line that is cut off, nested
too deeply or not UTF-8 further on still has its id in front, as a rule.
"""

import json
import re
from typing import Final

_FIRST_MEMBER: Final = re.compile(
    rb'(?:\xef\xbb\xbf)?\s*\{\s*"id"\s*:\s*'
    rb'("(?:[^"\\\x00-\x1f]|\\.){0,1000}+"|-?[0-9]{1,18}(?=[\s,}]))'
)


def id_of(line: bytes) -> str | int | None:
    """The id of a line that cannot be parsed: its first member, if that is a text or a number."""
    found = _FIRST_MEMBER.match(line)
    if found is None:
        return None
    try:
        name: str | int = json.loads(found[1])
        str(name).encode()
    except ValueError:
        return None
    return name
