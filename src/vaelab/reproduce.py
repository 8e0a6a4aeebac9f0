"""Repeat a published experiment: `python -m vaelab.reproduce NAME budget=smoke`; `--help` lists the names."""

import re
import sys
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig

from vaelab.errors import ConfigError
from vaelab.runs.cli import command
from vaelab.runs.resolvers import register_resolvers
from vaelab.runs.validate import check_choice

register_resolvers()

BUDGETS = ("cpu", "smoke", "paper")


@command("reproduce")
def repeat(cfg: DictConfig) -> None:
    """Train what is left of the reproduction's sweeps, measure, and write the results."""
    if cfg.get("reproduction") is None:
        raise ConfigError("a name is missing: type python -m vaelab.reproduce NAME; --help lists the names")
    check_choice("budget", cfg.budget, BUDGETS)
    from vaelab.reproducing import Lab  # after the checks, because it is slow to import

    hydra = HydraConfig.get()
    launcher = f"hydra/launcher={hydra.runtime.choices['hydra/launcher']}"
    typed = [word for word in hydra.overrides.hydra if word.startswith("hydra.launcher.")]
    runtime = [f"runtime.{key}={value}" for key, value in cfg.runtime.items()]
    lab = Lab(hydra.runtime.choices["reproduction"], cfg.budget, [*runtime, launcher, *typed], Path(cfg.output))
    results = instantiate(cfg.reproduction, _convert_="all").results(lab)
    print(results.as_markdown())
    print(f"written: {lab.output / f'{lab.name}-{lab.budget}'}.json and .md")


def main() -> None:
    """Read `NAME` as `reproduction=NAME`, and `NAME figure=2` as `reproduction=NAME_figure_2`."""
    words = sys.argv[1:]
    figures = [f"_figure_{word.partition('=')[2]}" for word in words if word.startswith("figure=")]
    words = [word for word in words if not word.startswith("figure=")]
    sys.argv[1:] = [f"reproduction={word}{''.join(figures)}" if re.fullmatch(r"\w+", word) else word for word in words]
    repeat()


if __name__ == "__main__":
    main()
