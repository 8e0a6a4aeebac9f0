"""Make W&B dashboards for a sweep: `python -m vaelab.dashboard sweep=logs/sweeps/NAME`; `save=true` uploads them."""

import json
import os
from pathlib import Path

from omegaconf import DictConfig

from vaelab.files import write_atomically
from vaelab.runs.cli import command
from vaelab.security.redaction import redacted


@command("reporting/dashboard")
def main(cfg: DictConfig) -> None:
    """Write the two dashboards to `workspace.json` and `dashboard-report.json` in the sweep's folder."""
    from vaelab.reporting import wandb_workspace as workspaces  # here, because it is slow to import
    from vaelab.runs.tracking.wandb_runs import check_login

    folder = Path(cfg.sweep)
    sweep = workspaces.LoggedSweep.read(folder, group=cfg.group, entity=cfg.entity, project=cfg.project)
    if cfg.save:
        check_login()
    workspace, report = workspaces.workspace(sweep), workspaces.report(sweep)
    for name, dashboard in (("workspace", workspace), ("dashboard-report", report)):
        file = folder / f"{name}.json"
        write_atomically(file, json.dumps(redacted(workspaces.specification(dashboard)), indent=2))
        print(f"written: {os.path.relpath(file)}")
    if cfg.save:
        for address in workspaces.save(workspace, report):
            print(f"saved: {address}")


if __name__ == "__main__":
    main()
