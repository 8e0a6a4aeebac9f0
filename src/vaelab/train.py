"""Trains one VAE, or a sweep of them: `python -m vaelab.train [-m] key=value ...`; `--help` tells more."""

from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from vaelab.checks import check
from vaelab.cli import entry_point, job
from vaelab.complete import complete
from vaelab.config import CONF
from vaelab.interrupts import heeding
from vaelab.names import register_resolvers
from vaelab.results import both, show
from vaelab.seeds import complete_seeds

register_resolvers()


@hydra.main(version_base="1.3", config_path=CONF, config_name="train")
@job
def run(cfg: DictConfig) -> float:
    """Completes the run that `cfg` describes, or those of its seeds; returns the (mean) validation bound in nats."""
    check(cfg)
    hydra_cfg = HydraConfig.get()
    path = Path(hydra_cfg.runtime.output_dir)
    group = path.parent.name if hydra_cfg.mode is RunMode.MULTIRUN else None
    with heeding() as stop:
        if cfg.seeds == 1:
            metrics, closing = complete(cfg, path, group, stop)
            columns = both(metrics)
        else:
            columns, closing = complete_seeds(cfg, path, group, stop)
    show(columns, closing)
    return next(iter(columns.values()))["val/elbo"]


main = entry_point(run)

if __name__ == "__main__":
    main()
