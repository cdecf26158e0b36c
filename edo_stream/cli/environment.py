"""What most commands begin with: settings, contracts and the way to the broker."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from aiokafka.errors import KafkaError

from edo_stream.engine.security import AccessError, BrokerAccess, broker_access
from edo_stream.registry import Registry, RegistryError, load
from edo_stream.settings import Settings, SettingsError, read_settings


class CommandError(Exception):
    """A command cannot go on; ``code`` is its exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Environment:
    """Settings from the environment, and what they lead to."""

    settings: Settings
    registry: Registry
    access: BrokerAccess

    @classmethod
    def read(cls) -> "Environment":
        """Read all of it.

        Raises:
            CommandError: with every mistake.
        """
        try:
            settings = read_settings()
            return cls(settings, load(settings.topics), broker_access(settings))
        except (SettingsError, RegistryError, AccessError) as error:
            raise CommandError(str(error), 2) from error


@contextmanager
def unreachable(broker: str) -> Iterator[None]:
    """Turn what the client raises when nobody answers into one line and exit code 3."""
    try:
        yield
    except (KafkaError, OSError) as error:
        raise CommandError(
            f"no answer from {broker}: {type(error).__name__}: {error}", 3
        ) from error
