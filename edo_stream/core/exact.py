"""Numbers of JSON that keep every digit, whatever their exponent."""

from decimal import Decimal


def exact(text: str) -> Decimal:
    """A number with a fraction or an exponent.

    Of an exponent that a decimal cannot have, what a double has of it: nothing, where it is small.

    Raises:
        ValueError: the number is beyond both.
    """
    try:
        return Decimal(text)
    except ArithmeticError:
        number = float(text)
    if number != 0:
        raise ValueError("a number is out of range")
    return Decimal(0)
