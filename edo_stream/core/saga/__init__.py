"""Sagas: steps that are commands, undone in reverse order when one of them fails.

:mod:`.definition` is what is declared, :mod:`.instance` what is remembered of a running one,
:mod:`.machine` decides, :mod:`.changes` are its decisions as events, :mod:`.outlet` writes them and
the commands that they mean, and :mod:`.pipeline` is the task around it.
"""
