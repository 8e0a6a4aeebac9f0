"""Train one VAE, or a sweep of them: `python -m vaelab.train [-m] key=value ...`; `--help` tells more."""

from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from vaelab.errors import ConfigError
from vaelab.runs.cli import entry_point, task
from vaelab.runs.complete import complete_runs, value_of
from vaelab.runs.configuration import CONF
from vaelab.runs.folder.names import register_resolvers
from vaelab.runs.results import show
from vaelab.signals import heeding

register_resolvers()


@hydra.main(version_base="1.3", config_path=CONF, config_name="train")
@task
def run(cfg: DictConfig) -> float:
    """Complete the run that `cfg` describes, or those of its seeds; return the (mean) validation bound in nats.

    `vaelab.runs.execute.complete` opens the run folder, builds the parts, fits and evaluates.
    """
    check_single(cfg)
    with heeding() as stop:
        columns, closing = complete_runs(cfg, Path(HydraConfig.get().runtime.output_dir), None, stop)
    show(columns, closing)
    return value_of(columns)


def check_single(cfg: DictConfig) -> None:
    """Refuse a name of a sweep, which is for sweeps.

    Raises:
        ConfigError: there is one.
    """
    if (name := OmegaConf.select(cfg, "runtime.sweep.name")) is not None:
        raise ConfigError(f"sweep.name={name} names a sweep, and this is a single run: type -m, or name=")


main = entry_point(run, "train", sweeps=True)

if __name__ == "__main__":
    main()
