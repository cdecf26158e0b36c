"""How every client of the engine reaches the broker."""

from collections.abc import Mapping
from typing import Any

import msgspec


class BrokerAccess(msgspec.Struct, frozen=True):
    """Address and credentials, as keyword arguments of aiokafka's clients."""

    bootstrap: str
    security: Mapping[str, Any] = {}
    """``security_protocol``, ``sasl_mechanism``, ``sasl_plain_username`` …, ``ssl_context``."""

    def client(self, **more: Any) -> dict[str, Any]:
        """Arguments for any client, with the security settings."""
        return {"bootstrap_servers": self.bootstrap, **self.security, **more}
