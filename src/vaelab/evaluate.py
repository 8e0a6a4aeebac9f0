"""Evaluate a run again, or all finished runs of a sweep, from their folders and the data alone.

`python -m vaelab.evaluate run_dir=logs/runs/NAME` or `sweep=logs/sweeps/NAME`. The folders may be untrusted: see
`vaelab.runs.evaluating.reopen`.
"""

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig

from hydra_plugins.vaelab import ours
from vaelab.runs.cli import command
from vaelab.runs.validate import check_evaluation


@command("evaluate")
def main(cfg: DictConfig) -> None:
    """Complete the evaluation of a run, or one for each finished run of a sweep."""
    check_evaluation(cfg)
    if cfg.runtime.sweep:
        from vaelab.sweeps.evaluating import evaluate_sweep  # after the checks, because it is slow to import

        hydra = HydraConfig.get()
        evaluate_sweep(cfg, ours(instantiate(hydra.launcher)).make(), hydra.job.env_set)
    else:
        from vaelab.runs.evaluating.complete import complete_evaluation  # likewise

        complete_evaluation(cfg)


if __name__ == "__main__":
    main()
