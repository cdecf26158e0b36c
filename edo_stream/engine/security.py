"""How every client of the engine reaches the broker."""

import logging
import ssl
from collections.abc import Mapping
from typing import Any

import msgspec

from edo_stream.settings import Settings


class BrokerAccess(msgspec.Struct, frozen=True):
    """Address and credentials, as keyword arguments of aiokafka's clients."""

    bootstrap: str
    security: Mapping[str, Any] = {}
    """``security_protocol``, ``sasl_mechanism``, ``sasl_plain_username`` …, ``ssl_context``."""

    @property
    def is_encrypted(self) -> bool:
        """Whether connections go through TLS."""
        return "ssl_context" in self.security

    def client(self, **more: Any) -> dict[str, Any]:
        """Arguments for any client, with the security settings."""
        return {"bootstrap_servers": self.bootstrap, **self.security, **more}

    def __repr__(self) -> str:
        """Show the address alone: the credentials would be among the fields."""
        return f"{type(self).__name__}({self.bootstrap!r})"


class AccessError(Exception):
    """The credentials cannot be used; says which file or variable."""


def broker_access(settings: Settings) -> BrokerAccess:
    """Put together what the settings say about the broker.

    Raises:
        AccessError: a certificate or key cannot be read.
    """
    security: dict[str, Any] = {"security_protocol": settings.security_protocol}
    if settings.uses_tls:
        security["ssl_context"] = _tls(settings)
    if settings.uses_sasl:
        assert settings.sasl_password is not None
        logging.getLogger("aiokafka.conn").addFilter(_has_no_credentials)
        security["sasl_mechanism"] = settings.sasl_mechanism
        security["sasl_plain_username"] = settings.sasl_username
        security["sasl_plain_password"] = settings.sasl_password.get_secret_value()
    return BrokerAccess(settings.broker, security)


def _has_no_credentials(record: logging.LogRecord) -> bool:
    """Keep out of the log what aiokafka logs at debug level: its requests, password included."""
    arguments = record.args if isinstance(record.args, tuple) else ()
    return not any(type(one).__name__.startswith("SaslAuthenticate") for one in arguments)


def _tls(settings: Settings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(
            cafile=None if settings.tls_ca_file is None else str(settings.tls_ca_file)
        )
    except (ssl.SSLError, OSError) as error:
        raise AccessError(f"EDO_TLS_CA_FILE {settings.tls_ca_file}: {error}") from error
    if settings.tls_cert_file is not None:
        try:
            context.load_cert_chain(settings.tls_cert_file, settings.tls_key_file)
        except (ssl.SSLError, OSError) as error:
            raise AccessError(
                f"EDO_TLS_CERT_FILE {settings.tls_cert_file} with EDO_TLS_KEY_FILE "
                f"{settings.tls_key_file}: {error}"
            ) from error
    return context


def reason_of(error: Exception) -> str:
    """Name and text of a client's error; the texts of some begin with their names."""
    name, text = type(error).__name__, str(error)
    return text if text.startswith(name) else f"{name}: {text}"
