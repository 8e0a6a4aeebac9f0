"""What the pages for readers show: their commands and their files."""

import re
from pathlib import Path

from tests.helpers.commands import ROOT

PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
SWEEPS_PAGE = ROOT / "docs" / "sweeps.md"


def blocks(page: Path) -> list[tuple[str, str]]:
    """Return the language and the content of each block of code of a page."""
    return re.findall(r"^```(\w+)\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def shell_lines(page: Path) -> list[str]:
    """Return the lines of the blocks of bash; a line that ends in a backslash goes on in the next."""
    return [
        line
        for language, block in blocks(page)
        if language == "bash"
        for line in re.sub(r"\\\n\s*", "", block).splitlines()
    ]


def commands_of(entry_point: str, *pages: Path) -> list[str]:
    """Return what these pages, or all, type after `python -m vaelab.ENTRY_POINT` in their blocks of bash, each once."""
    start = f"python -m vaelab.{entry_point} "
    lines = [line for page in pages or PAGES for line in shell_lines(page)]
    return list(dict.fromkeys(line[len(start) :] for line in lines if f"{line} ".startswith(start)))


def write_files_shown(folder: Path) -> None:
    """Write the blocks that begin with a comment of their path, after a directive of Hydra's if any."""
    for language, block in [found for page in PAGES for found in blocks(page)]:
        path = re.match(r"(?:# @.*\n)?# (\S+\.(?:py|yaml))\n", block)
        if language in ("python", "yaml") and path:
            (folder / path[1]).parent.mkdir(parents=True, exist_ok=True)
            (folder / path[1]).write_text(block)
