"""Text and a progress bar in a notebook, where rich's own bar needs a further package."""

import time
from datetime import timedelta
from html import escape

from rich.console import Console
from rich.progress import Task

EVERY = 0.2  # minimum number of seconds between two pictures of the bar


def text_console() -> Console:
    """Return a console. In a notebook it prints plain text to stdout, because only text there is redacted."""
    return Console(force_jupyter=False, force_terminal=False) if Console().is_jupyter else Console()


class NotebookBar:
    """Shows a task of rich's as one line, which is replaced in place."""

    def __init__(self) -> None:
        from IPython.display import DisplayHandle  # present in every notebook

        self.shown = -EVERY
        self.handle = DisplayHandle()
        self.handle.display({"text/plain": ""}, raw=True)

    def show(self, task: Task, last: bool = False) -> None:
        """Show how far the task is, if the last time was long enough ago; or for the last time."""
        if time.monotonic() < self.shown + EVERY and not last:
            return
        self.shown = time.monotonic()
        seconds = (task.elapsed or 0) if last else task.time_remaining
        span = "" if seconds is None else f"{timedelta(seconds=round(seconds))} {'in all' if last else 'left'}"
        counts = f"{task.completed:.0f}/{task.total:.0f}"
        text = "  ".join(filter(None, [task.description.strip(), counts, span, task.fields["note"]]))
        bar = f'<progress value="{task.completed:.0f}" max="{task.total:.0f}"></progress> '
        html = f"{'' if last else bar}<code>{escape(text)}</code>"
        self.handle.update({"text/plain": text, "text/html": html}, raw=True)
