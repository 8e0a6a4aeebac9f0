"""Read the files that W&B writes offline."""

import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any


class Read:
    """What one .wandb file holds, as W&B itself reads it."""

    def __init__(self, file: Path) -> None:
        command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        records = [json.loads(line) for line in lines]
        of_type = defaultdict(list)
        for record in records:
            of_type[record["type"]].append(record[record["type"]])
        self.run = of_type["run"][0]
        self.config = {name: value for name, value in self.run["config"]["update"].items() if name != "_wandb"}
        self.history = [record["item"] for record in of_type["history"]]
        self.metrics = of_type["metric"]
        self.summary: dict[str, Any] = {}
        for record in of_type["summary"]:
            self.summary |= record["update"]
        self.exit_code = of_type["exit"][0].get("exit_code", 0)

    def at(self, samples_seen: int) -> set[str]:
        """The names that were logged at one place of the x-axis."""
        return {name for row in self.history if row["samples_seen"] == samples_seen for name in row}

    def last(self, name: str) -> float:
        return next(row[name] for row in reversed(self.history) if name in row)


def wandb_files(path: Path) -> list[Path]:
    """Return the .wandb files of a run folder, oldest first."""
    return sorted(path.glob("wandb/offline-run-*/*.wandb"))


def only(path: Path) -> Read:
    """Read the only .wandb file of a run folder."""
    (file,) = wandb_files(path)
    return Read(file)
