"""Tests of what flows wait for."""
