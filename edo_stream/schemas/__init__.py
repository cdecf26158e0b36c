"""Schemas of events: loaded, compiled, compared, and applied to what is read and written.

Imports nothing of the registry, the engine or a broker: a schema is a document, an event is bytes.
Each module imports its library itself, so that a command that needs no schema pays for none.
"""
