"""List run folders, find the best, and remove what is not needed: `python -m vaelab.list`; `--help` tells more."""

import json
from pathlib import Path

from omegaconf import DictConfig

from vaelab.errors import ConfigError
from vaelab.reporting.values import COLUMNS, NEEDLESS, STATES, is_number
from vaelab.runs.cli import command
from vaelab.runs.validate import check_choice


@command("reporting/list")
def main(cfg: DictConfig) -> None:
    """Print a row for each run folder that matches, or remove what `prune` names of them."""
    choices = {"state": (None, *STATES), "sort": COLUMNS, "prune": (None, *NEEDLESS)}
    choices |= dict.fromkeys(("best", "json", "yes"), (False, True))
    for key, allowed in choices.items():
        check_choice(key, cfg[key], allowed)
    if not (cfg.at_least is None or is_number(cfg.at_least)):
        raise ConfigError(f"at_least must be a number of nats, found {cfg.at_least!r}: type at_least=-100")
    from vaelab.reporting.listing import as_lines, chosen, runs_in  # after the checks, because it is slow to import
    from vaelab.reporting.pruning import prune

    find = [cfg.find] if isinstance(cfg.find, str) else list(map(str, cfg.find or ()))
    runs = chosen(runs_in(Path(cfg.folder)), cfg.state, find, cfg.at_least, cfg.sort, cfg.best)
    if cfg.prune is not None:
        print(prune(runs, cfg.prune, cfg.yes))
    elif cfg.json:
        print(json.dumps([run.row for run in runs], indent=2))
    else:
        print(*as_lines(runs), sep="\n")


if __name__ == "__main__":
    main()
