"""Write files atomically."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)  # numbers of the errors of a disk without room


@contextmanager
def replacing(path: Path, former: Path | None = None) -> Iterator[Path]:
    """Replace a file atomically: the block writes a temporary file, which is then renamed to `path`.

    A kill or a power cut leaves the old file or the new one, because both the content and the renaming are flushed to
    disk. If the block fails, the old file stays.

    Args:
        path: the file to replace.
        former: the path at which the old file is kept; None: delete the old file.
    """
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)  # left by a killed process, or a link planted in an untrusted folder
    try:
        yield partial
        _synchronise(partial)
        if former is not None and path.exists():
            former.unlink(missing_ok=True)
            try:
                os.link(path, former)  # not renamed, because `path` would be missing for a moment
            except OSError:  # the file system has no hard links
                path.replace(former)
        partial.replace(path)
    except BaseException as error:
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)
        partial.unlink(missing_ok=True)
        raise
    _synchronise(path.parent)


def _synchronise(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, content: str) -> None:
    """Write a text file atomically; see `replacing`."""
    with replacing(path) as partial, partial.open("x", encoding="utf-8") as file:
        file.write(content)
