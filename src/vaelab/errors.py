"""Exceptions that a user can act on; each message says what was expected, what was found, and what to type."""

from typing import Any


class PointMassError(ValueError):
    """A posterior q(z|x) without a density: nothing can be weighed by it."""


class DataError(Exception):
    """A data file or an array that is missing, damaged or not what it should be; the message says what to do."""


class DivergedError(ArithmeticError):
    """Training whose numbers are not finite any more.

    Args:
        message: the step, what broke first, and what to type.
        details: the same as plain data, with the indices of the minibatch.
        taken: how many steps of the last call are left standing.
    """

    def __init__(self, message: str, details: dict[str, Any], taken: int) -> None:
        super().__init__(message)
        self.details = details
        self.taken = taken

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.details, self.taken)  # on its way out of a sweep's worker


class ConfigError(ValueError):
    """A configuration that cannot be run; the message says what to type instead."""


class ProcessError(Exception):
    """One of several processes failed, which ended the others.

    Args:
        message: which, and why.
        details: what the error there has to say in plain data, if it is one with details.
    """

    def __init__(self, message: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.details = details


class SweepError(Exception):
    """Jobs of a sweep that are not done; says how many, and what to do."""


class RunFolderError(Exception):
    """A run folder that is not what was asked for; the message says what to type instead."""
