"""Answers that are remembered by what comes from outside: so many, and of so many bytes."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, Final, ParamSpec, TypeVar, cast

#: A longer text is looked at each time. The compiled half keeps none that is longer, either.
KEPT_MAX: Final = 256

P = ParamSpec("P")
R = TypeVar("R")


def remembered(most: int) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Remember what a function of short texts has said, for so many of them."""

    def remember(asked: Callable[P, R]) -> Callable[P, R]:
        asks: Callable[..., R] = asked
        kept = lru_cache(maxsize=most)(asked)

        @wraps(asked)
        def answer(*texts: Any) -> Any:
            for text in texts:
                if text is not None and len(text) > KEPT_MAX:
                    return asks(*texts)
            return kept(*texts)

        return cast("Callable[P, R]", answer)

    return remember
