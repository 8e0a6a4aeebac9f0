"""Trains one VAE, or a sweep of them: `python -m vaelab.train [-m] key=value ...`; `--help` tells more."""

from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from vaelab.cli import entry_point, job
from vaelab.config import CONF
from vaelab.interrupts import heeding
from vaelab.jobs import complete_job, value_of
from vaelab.names import register_resolvers
from vaelab.results import show
from vaelab.sweep import concluding

register_resolvers()


@hydra.main(version_base="1.3", config_path=CONF, config_name="train")
@job
def run(cfg: DictConfig) -> float:
    """Completes the run that `cfg` describes, or those of its seeds; returns the (mean) validation bound in nats."""
    hydra_cfg = HydraConfig.get()
    path = Path(hydra_cfg.runtime.output_dir)
    group = path.parent.name if hydra_cfg.mode is RunMode.MULTIRUN else None
    with heeding() as stop:
        columns, closing = complete_job(cfg, path, group, stop)
    show(columns, closing)
    return value_of(columns)


main = entry_point(concluding(run))

if __name__ == "__main__":
    main()
