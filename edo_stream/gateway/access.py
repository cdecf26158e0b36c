"""How the gateway's client, librdkafka, reaches the broker."""

from typing import Any

from edo_stream.settings import Settings


def broker_access(settings: Settings) -> dict[str, Any]:
    """What the settings say about the broker, in librdkafka's names."""
    access: dict[str, Any] = {
        "bootstrap.servers": settings.broker,
        "security.protocol": settings.security_protocol,
        "compression.type": settings.compression,
        "client.id": f"{settings.service}-gateway",
    }
    if settings.uses_sasl:
        assert settings.sasl_password is not None
        access["sasl.mechanism"] = settings.sasl_mechanism
        access["sasl.username"] = settings.sasl_username
        access["sasl.password"] = settings.sasl_password.get_secret_value()
    if settings.uses_tls:
        files = {
            "ssl.ca.location": settings.tls_ca_file,
            "ssl.certificate.location": settings.tls_cert_file,
            "ssl.key.location": settings.tls_key_file,
        }
        access |= {name: str(file) for name, file in files.items() if file is not None}
    return access
