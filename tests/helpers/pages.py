"""What the pages for readers show: their commands."""

import re

from tests.helpers.commands import ROOT


def commands_of(entry_point: str, page: str = "README.md") -> list[str]:
    """Return what a page types after `python -m vaelab.<entry_point>` in its blocks of bash."""
    blocks = re.findall(r"^```bash\n(.*?)^```", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL)
    start = f"python -m vaelab.{entry_point} "
    lines = [line for block in blocks for line in block.splitlines()]
    return [line.removeprefix(start) for line in lines if line.startswith(start)]
