"""A run's own log, `train.log`: everything that is logged during the run, redacted."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

from vaelab.security.redaction import RedactingFormatter

_log: ContextVar[Path | None] = ContextVar("log", default=None)  # the log of this thread's run


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Send all log messages to `path`, except those of runs in other threads."""
    token = _log.set(path)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.addFilter(lambda record: _log.get() in (None, path))
    handler.setFormatter(RedactingFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger("vaelab").setLevel(logging.INFO)
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        with suppress(OSError):
            handler.close()
        _log.reset(token)
