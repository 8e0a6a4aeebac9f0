"""Train one VAE, or a sweep of them: `python -m vaelab.train [-m] key=value ...`; `--help` tells more."""

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig

from vaelab.errors import ConfigError
from vaelab.runs.cli import command
from vaelab.runs.complete import complete_runs, value_of
from vaelab.runs.resolvers import register_resolvers
from vaelab.signals import heeding

register_resolvers()


@command("train")
def main(cfg: DictConfig) -> float:
    """Complete the run that `cfg` describes, or one for each of its seeds; return the (mean) validation bound in nats.

    `vaelab.runs.execute.complete` opens the run folder, builds the parts, fits and evaluates.
    """
    if name := cfg.runtime.sweep.name:
        raise ConfigError(f"sweep.name={name} names a sweep, and this is a single run: type -m, or name= for a run")
    path = Path(HydraConfig.get().runtime.output_dir)
    with heeding() as stop:
        columns, closing = complete_runs(cfg, path, None, stop)
    from vaelab.runs.processes.seeds import members_of  # after the checks of `complete_runs`, as this imports Lightning
    from vaelab.runs.results import refused_in, show

    show(columns, closing, instantiate(cfg.estimator).name, refused_in(members_of(cfg, path)[0].path))
    return value_of(columns)


if __name__ == "__main__":
    main()
