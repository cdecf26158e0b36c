"""Correlation: events that belong together are collected by key, until all that is needed is there.

:mod:`.spec` says what a flow waits for; :mod:`.feed` brings the events of a topic to the task that
owns their key; :mod:`.pipeline` decides there, by a correlator for each flow.
"""
