"""Exceptions that a user can act on. Each message says what was expected, what was found, and what to type."""

from collections.abc import Sequence
from typing import Any


class PointMassError(ValueError):
    """A posterior q(z|x) has no density, so importance weights and the KL are undefined."""


class DataError(Exception):
    """A data file or an array is missing, damaged or of the wrong kind; the message says what to do."""


class DivergedError(ArithmeticError):
    """Training has produced a number that is infinite or NaN.

    Args:
        message: the step, the first such number, and the settings to try.
        details: as plain data: the step, where that number was, and the indices of failing and of all examples.
    """

    def __init__(self, message: str, details: dict[str, Any]) -> None:
        super().__init__(message)
        self.details = details

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.details)  # a sweep's worker pickles this error


class ConfigError(ValueError):
    """A configuration cannot be run; the message says what to type instead."""


class ProcessError(Exception):
    """One of several processes failed, so the others were ended.

    Args:
        message: which process failed, and why.
        details: the `details` of the error in that process, if it had any.
    """

    def __init__(self, message: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.details = details


class SweepError(Exception):
    """Some jobs of a sweep are not done; the message says how many, and what to do.

    Attributes:
        sweep: the `vaelab.sweeps.sweep.Sweep`, if all other jobs are done and these have failed.
    """

    sweep: Any = None


class RunFolderError(Exception):
    """A run folder cannot be used as asked; the message says what to type instead."""


def message_of(error: BaseException) -> str:
    """Return the message of an error, with its notes of one line; others hold tracebacks of other processes."""
    notes = [note for note in getattr(error, "__notes__", ()) if "\n" not in note]
    return "; ".join(filter(None, [str(error), *notes]))


def check_count(name: str, value: object, least: int = 1) -> None:
    """Refuse an argument that is not a whole number of at least `least`, with a ValueError that names it."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, found {value!r}")


def whole_numbers(name: str, values: int | Sequence[int]) -> list[int]:
    """Return `values` as a list. Refuse an empty list, and values that are not whole numbers of at least 1."""
    numbers = [*values] if isinstance(values, Sequence) else [values]
    if not numbers or not all(type(number) is int and number >= 1 for number in numbers):
        raise ValueError(f"{name} must be a whole number of at least 1, or a list of such numbers, found {values}")
    return numbers


def check_positive(name: str, value: float) -> None:
    """Refuse an argument that is not a number above 0, with a ValueError that names it."""
    if not value > 0:
        raise ValueError(f"{name} must be a number above 0, found {value!r}")


def check_groups(name: str, size: int, latent_dim: int) -> None:
    """Refuse a size of groups below 2, and one that does not divide `latent_dim`."""
    check_count(name, size, least=2)
    if latent_dim % size:
        raise ValueError(f"latent_dim must be a multiple of {name}={size}, found {latent_dim}: type latent_dim={size}")
