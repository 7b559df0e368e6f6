"""The two ways in which a command can end without success."""

from __future__ import annotations


class UserError(Exception):
    """Bad input: the message says what was got, what was expected and the repair (exit code 2)."""


class RunError(Exception):
    """A run that could not be finished although its input was well formed (exit code 1)."""
