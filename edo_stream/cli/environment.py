"""What most commands begin with: settings, contracts and the way to the broker."""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from errno import ENOSPC, EPIPE
from typing import Final

from aiokafka.errors import KafkaConnectionError, KafkaError

from edo_stream.engine.act_plans import act_topics
from edo_stream.engine.admin import Wanted
from edo_stream.engine.joins import join_topics
from edo_stream.engine.lookups import lookup_topics
from edo_stream.engine.plans import wanted_topics
from edo_stream.engine.saga_plans import saga_topics
from edo_stream.engine.security import AccessError, BrokerAccess, broker_access, reason_of
from edo_stream.engine.ticks import ticker_topics
from edo_stream.flows import Flows, load_flows
from edo_stream.registry import Registry, RegistryError, load
from edo_stream.schedules.folder import Schedule, load_schedules
from edo_stream.settings import Settings, SettingsError, read_settings


class CommandError(Exception):
    """A command cannot go on; ``code`` is its exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def own_settings() -> Settings:
    """The settings alone, for a command that needs no broker.

    Raises:
        CommandError: with every mistake.
    """
    try:
        return read_settings()
    except SettingsError as error:
        raise CommandError(str(error), 2) from error


@dataclass(frozen=True, slots=True)
class Environment:
    """Settings from the environment, and what they lead to."""

    settings: Settings
    registry: Registry
    access: BrokerAccess
    schedules: Mapping[str, Schedule]
    flows: Flows

    @classmethod
    def read(cls) -> "Environment":
        """Read all of it.

        Raises:
            CommandError: with every mistake.
        """
        try:
            settings = read_settings()
            registry = load(settings.topics)
            schedules = load_schedules(settings.schedules_folder, registry.entries)
            flows = load_flows(settings.flows_folder, registry)
            return cls(settings, registry, broker_access(settings), schedules, flows)
        except (SettingsError, RegistryError, AccessError) as error:
            raise CommandError(str(error), 2) from error

    @property
    def wanted(self) -> list[Wanted]:
        """Every topic that workers read or write."""
        app, replication = self.settings.app_id, self.settings.replication
        ticker = ticker_topics(app, replication) if self.schedules else []
        acting = act_topics(self.flows, app, replication)
        joining = join_topics(self.flows, app, replication)
        joining += lookup_topics(self.flows, app, replication)
        sagas = saga_topics(self.flows, app, replication)
        return [*wanted_topics(self.registry, app, replication), *ticker, *acting, *joining, *sagas]


class _LastWords(logging.Handler):
    """Keeps what the client said last: its errors say that it failed, and its log why."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: str | None = None

    def emit(self, record: logging.LogRecord) -> None:
        self.said = record.getMessage()


#: What goes wrong with what is printed meanwhile: its reader left, or its file has no room.
_OUR_OUTPUT: Final = (EPIPE, ENOSPC)


@contextmanager
def unreachable(broker: str) -> Iterator[None]:
    """Turn what the client raises when nobody answers into one line and exit code 3."""
    client, last = logging.getLogger("aiokafka"), _LastWords()
    propagate, client.propagate = client.propagate, bool(os.environ.get("EDO_DEBUG"))
    client.addHandler(last)
    try:
        yield
    except (KafkaError, OSError) as error:
        if isinstance(error, OSError) and error.errno in _OUR_OUTPUT:
            raise
        is_known = last.said is not None and isinstance(error, KafkaConnectionError)
        why = str(last.said) if is_known else reason_of(error)
        # One line, whatever is in it.
        raise CommandError(f"no answer from {broker}: {' '.join(why.split())}", 3) from error
    finally:
        client.removeHandler(last)
        client.propagate = propagate
