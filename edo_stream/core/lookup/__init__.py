"""Lookups: an event is joined to rows of compacted topics, each kept by the task that has its key.

:mod:`.spec` says what a flow looks up; :mod:`.path` brings an event from the task of its topic to
those that have its rows, and then to its command; :mod:`.pipeline` is such a task.
"""
