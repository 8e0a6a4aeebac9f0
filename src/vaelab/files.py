"""Files that are written whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path, former: Path | None = None) -> Iterator[Path]:
    """Replaces a file whole or not at all: the block writes the path that it is given, which then becomes `path`.

    What `path` was before becomes `former`, if that is given.

    The new content is on the disk before it takes the old one's place, and so is the exchange before the block is left:
    neither a kill nor a power cut leaves anything but one of the two. A block that fails leaves the old one.
    """
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)  # of a process that was killed; or a link that a stranger's folder came with
    try:
        yield partial
        _synchronise(partial)
        if former is not None and path.exists():
            _keep(path, former)
        partial.replace(path)
    except BaseException as error:
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)
        partial.unlink(missing_ok=True)
        raise
    _synchronise(path.parent)


def _keep(path: Path, former: Path) -> None:
    link = former.with_name(f".{former.name}.partial")
    link.unlink(missing_ok=True)
    try:
        os.link(path, link)  # so that `path` is there at any instant
    except OSError:  # a file system without links
        path.replace(former)
    else:
        link.replace(former)


def _synchronise(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, content: str) -> None:
    """Writes a text file whole or not at all; see `replacing`."""
    with replacing(path) as partial, partial.open("x", encoding="utf-8") as file:
        file.write(content)
