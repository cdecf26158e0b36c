"""Bounds as measured commands: ``python -m load.bounds``; docs/bounds.md has the figures."""
