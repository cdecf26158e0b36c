"""The schemes by name, and the names by which people look for them."""

from collections.abc import Callable
from difflib import get_close_matches
from typing import Final

import msgspec

from edo_stream.webhooks.clouds import event_grid, eventbridge, minio
from edo_stream.webhooks.credentials import api_key, basic, bearer
from edo_stream.webhooks.generic import generic_hmac
from edo_stream.webhooks.options import MEANINGFUL, Options
from edo_stream.webhooks.providers import github, shopify, slack, stripe
from edo_stream.webhooks.pubsub import pubsub
from edo_stream.webhooks.sns import sns
from edo_stream.webhooks.standard import standard_webhooks, svix
from edo_stream.webhooks.verifier import Verifier

_COMPILERS: Final[dict[str, Callable[[Options], Verifier]]] = {
    "standard-webhooks": standard_webhooks,
    "svix": svix,
    "stripe": stripe,
    "github": github,
    "shopify": shopify,
    "slack": slack,
    "hmac": generic_hmac,
    "basic": basic,
    "bearer": bearer,
    "api-key": api_key,
    "eventbridge": eventbridge,
    "sns": sns,
    "event-grid": event_grid,
    "pubsub": pubsub,
    "minio": minio,
}
SCHEMES: Final = tuple(_COMPILERS)

_OTHER_NAMES: Final = {
    "standardwebhook": "standard-webhooks",
    "standard": "standard-webhooks",
    "generichmac": "hmac",
    "generic": "hmac",
    "hmacgeneric": "hmac",
    "hmacsha256": "hmac",
    "awseventbridge": "eventbridge",
    "eventgrid": "event-grid",
    "azureeventgrid": "event-grid",
    "apikey": "api-key",
    "awssns": "sns",
    "gcppubsub": "pubsub",
    "googlepubsub": "pubsub",
    "pubsubpush": "pubsub",
}


class UnknownSchemeError(ValueError):
    """A name that is no scheme; says which ones there are."""


def scheme_name(text: str) -> str:
    """Name of the scheme that a person means: ``StandardWebhooks`` is ``standard-webhooks``."""
    plain = text.lower().replace("_", "").replace("-", "").replace(" ", "")
    for name in SCHEMES:
        if plain == name.replace("-", ""):
            return name
    if plain in _OTHER_NAMES:
        return _OTHER_NAMES[plain]
    near = get_close_matches(text.lower(), SCHEMES, n=1, cutoff=0.6)
    advice = f"did you mean {near[0]}?" if near else f"known are {', '.join(SCHEMES)}"
    raise UnknownSchemeError(f"{text[:60]} is not a scheme: {advice}")


def verifier(scheme: str, options: Options) -> Verifier:
    """Compile a scheme.

    Raises:
        ValueError: the name is unknown, or an option means nothing with the scheme.
    """
    name = scheme_name(scheme)
    for option in meaningless(name, options):
        raise ValueError(f"{option} means nothing with scheme {name}")
    return _COMPILERS[name](options)


def meaningless(scheme: str, options: Options) -> list[str]:
    """Options that were given and that the scheme does not read."""
    defaults = Options()
    return [
        field.name
        for field in msgspec.structs.fields(Options)
        if field.name not in MEANINGFUL[scheme]
        and getattr(options, field.name) != getattr(defaults, field.name)
    ]
