"""What a command says when it gets no further: whether it is the broker, or its own output."""

import errno

import pytest

from edo_stream.cli.environment import CommandError, unreachable


@pytest.mark.parametrize("number", [errno.EPIPE, errno.ENOSPC])
def test_output_that_nobody_takes_is_not_the_brokers_silence(number: int) -> None:
    with pytest.raises(OSError, match="of what is printed"), unreachable("kafka:9092"):
        raise OSError(number, "of what is printed")


def test_a_broker_that_refuses_is_named() -> None:
    with (
        pytest.raises(CommandError, match="no answer from kafka:9092") as raised,
        unreachable("kafka:9092"),
    ):
        raise OSError(errno.ECONNREFUSED, "refused")
    assert 3 == raised.value.code
