"""The one exception of `edo local`: the environment did not give what a service needs."""


class LocalError(Exception):
    """A person can act on this text: it names the service, the place and what to do."""
