"""How a codec's readers say no: raised deep inside, turned into a Violation once, by the codec."""

from typing import Final

#: Not readable at all as what the contract says that it is.
UNDECODABLE: Final = "undecodable"
#: Readable, but a rule of the format or of the contract does not hold.
INVALID: Final = "invalid"


class RefusedError(Exception):
    """A record that is not an event; never leaves the package.

    ``detail`` says what was found where and what was expected, without any of the payload.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class MappingError(ValueError):
    """A contract's ``mapping`` is not what its kind needs; says which key, and what to write."""
