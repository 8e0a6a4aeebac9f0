"""Repeat a published experiment: `python -m vaelab.reproduce NAME budget=smoke`; `--help` lists the names."""

import re
import sys
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig

from vaelab.errors import ConfigError
from vaelab.runs.cli import command
from vaelab.runs.command_line import quoted
from vaelab.runs.resolvers import register_resolvers
from vaelab.runs.validate import check_choice

register_resolvers()

BUDGETS = ("cpu", "smoke", "paper")
OPTIONS = "hydra.launcher."
FREE = ("hydra/launcher=", OPTIONS, "hydra.mode")  # of Hydra's keys, those that cannot change the experiment


@command("reproduce")
def repeat(cfg: DictConfig) -> None:
    """Train what is left of the reproduction's sweeps, measure, and write the results."""
    if cfg.get("reproduction") is None:
        raise ConfigError("a name is missing: type python -m vaelab.reproduce NAME; --help lists the names")
    check_choice("budget", cfg.budget, BUDGETS)
    hydra = HydraConfig.get()
    for word in (*hydra.overrides.task, *hydra.overrides.hydra):
        key = word.lstrip("+~")
        if key.startswith("reproduction.") or (key.startswith("hydra") and not key.startswith(FREE)):
            raise ConfigError(f"{word} would be another experiment than the one that the results name: leave it out")
    from vaelab.reproducing import Lab  # after the checks, because it is slow to import

    everywhere = [f"runtime.{key}={quoted(value)}" for key, value in cfg.runtime.items()]
    everywhere.append(f"hydra/launcher={hydra.runtime.choices['hydra/launcher']}")
    everywhere += [word for word in hydra.overrides.hydra if word.lstrip("+~").startswith(OPTIONS)]
    name = hydra.runtime.choices["reproduction"]
    lab = Lab(name, cfg.budget, everywhere, Path(cfg.output))
    results = instantiate(cfg.reproduction, _convert_="all").results(lab)
    print(results.as_markdown())
    print(f"written: {lab.output / f'{lab.name}-{lab.budget}'}.json and .md")


def main() -> None:
    """Read a first word `NAME` as `reproduction=NAME`, and `NAME figure=2` as `reproduction=NAME_figure_2`."""
    words = sys.argv[1:]
    figures = [f"_figure_{word.partition('=')[2]}" for word in words if word.startswith("figure=")]
    words = [word for word in words if not word.startswith("figure=")]
    if words and re.fullmatch(r"[\w-]+", words[0]) and not words[0].startswith("-"):
        words[0] = f"reproduction={words[0]}{''.join(figures)}"
    sys.argv[1:] = words
    repeat()


if __name__ == "__main__":
    main()
