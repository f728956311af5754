"""Recorded traces of published implementations, reproduced from strategy files (README.md)."""
