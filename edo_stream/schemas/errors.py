"""What is wrong with a schema itself; an event that breaks one is a value, not an error."""


class SchemaError(ValueError):
    """A schema cannot be used; the text says where and why, in one line."""
