"""Write a sweep's report: `python -m vaelab.report sweep=logs/sweeps/NAME`.

The folders may be untrusted, and their jobs may be in any state; see `vaelab.reporting.reading`.
"""

import os
from pathlib import Path

from omegaconf import DictConfig

from vaelab.files import write_atomically
from vaelab.runs.cli import command
from vaelab.runs.validate import EVALUATION, check_choice


@command("reporting/report")
def main(cfg: DictConfig) -> None:
    """Write `report.html`, and its numbers as `.csv`, `.json`, `.md` and `.tex`, to the sweep's folder."""
    check_choice("wandb_mode", cfg.wandb_mode, EVALUATION["wandb_mode"])
    from vaelab.reporting.gathering import gather  # after the checks, because these are slow to import
    from vaelab.reporting.page import render
    from vaelab.reporting.pictures import pictures_of
    from vaelab.reporting.table import as_csv
    from vaelab.reporting.terminal import show_report
    from vaelab.reporting.tracking import log_report

    folder = Path(cfg.sweep)
    report = gather(folder)
    contents = {
        "html": render(report, *pictures_of(report)),
        "csv": as_csv(report.rows),
        "json": report.as_json(),
        "md": "\n".join(table.markdown for table in report.tables.values()),
        "tex": "\n".join(["% needs booktabs", *(table.latex for table in report.tables.values())]),
    }
    for ending, content in contents.items():
        write_atomically(folder / f"report.{ending}", content)
    show_report(
        report, f"written: {os.path.relpath(folder / 'report.html')}, report.csv, report.json, report.md and report.tex"
    )
    log_report(folder, report, cfg.wandb_mode)


if __name__ == "__main__":
    main()
