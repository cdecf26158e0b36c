"""Ask a health page, for containers that have no other client: ``python -m edo_stream.health URL``.

Exit codes: 0 healthy, 1 not, or no answer.
"""

import sys
import urllib.request
from typing import Final

_PATIENCE_S: Final = 4.0
_OK: Final = 200


def is_healthy(url: str) -> bool:
    """Whether the page answers that all is well."""
    try:
        with urllib.request.urlopen(url, timeout=_PATIENCE_S) as answer:  # noqa: S310 - an operator's own
            return bool(answer.status == _OK)
    except (OSError, ValueError):
        return False


if __name__ == "__main__":
    sys.exit(0 if is_healthy(sys.argv[-1]) else 1)
