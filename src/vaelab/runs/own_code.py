"""Name the user's own code in messages: its classes as the configuration names them, and the line that failed."""

import os
import sysconfig
import traceback
from pathlib import Path
from types import FrameType

from vaelab.security.untrusted import reason_of

INSTALLED = {"site-packages", "dist-packages"}  # where packages are copied to; one's own is linked, or stands elsewhere
NOT_OWN = [Path(folder).resolve() for folder in (Path(__file__).parents[2], sysconfig.get_path("stdlib"))]


def is_own_file(path: str) -> bool:
    """Return whether a file of source is the user's own: not vaelab's, not Python's, and in no installed package."""
    real = Path(os.path.realpath(path))
    return not (path.startswith("<") or INSTALLED & {*real.parts} or any(map(real.is_relative_to, NOT_OWN)))


def is_own(thing: object) -> bool:
    """Return whether the class of an object is the user's own, neither vaelab's nor torch's."""
    return type(thing).__module__.split(".")[0] not in ("vaelab", "torch")


def name_of(thing: object) -> str:
    """Return the path of an object's class, such as `mine.heads.Poisson`; of vaelab's own, the name alone."""
    kind = type(thing)
    return kind.__qualname__ if kind.__module__.startswith("vaelab.") else f"{kind.__module__}.{kind.__qualname__}"


def failure_of(error: BaseException, called: str | None = None) -> str | None:
    """Return which of the user's own functions raised an error, why, and at which line; None if none took part.

    Args:
        error: the error, with its traceback.
        called: the function that was called, to be named even if it is not the user's own.
    """
    own = [
        (frame, line) for frame, line in traceback.walk_tb(error.__traceback__) if is_own_file(frame.f_code.co_filename)
    ]
    where = ""
    if own:
        frame, line = own[-1]
        name, file = f"{_module_of(frame)}.{frame.f_code.co_qualname}", frame.f_code.co_filename
        where = f" at {os.path.relpath(file) if file.startswith(os.getcwd() + os.sep) else file}:{line}"
        where += f" in {name}" if called not in (None, name) else ""
        called = called or name
    if called is None:
        return None
    return f"{called} raised {type(error).__name__}: {reason_of(error)}{where} (HYDRA_FULL_ERROR=1 shows the traceback)"


def _module_of(frame: FrameType) -> str:
    return frame.f_globals.get("__name__", "")
