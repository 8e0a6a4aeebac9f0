"""Evaluates a run again, from its folder and the data alone: `python -m vaelab.evaluate run_dir=logs/runs/NAME`.

The folder may be a stranger's: see `vaelab.reopen`.
"""

import json
from pathlib import Path

import hydra
from omegaconf import DictConfig

from vaelab.checks import check_choice
from vaelab.cli import entry_point, job
from vaelab.config import CONF, make_trainer
from vaelab.progress import ProgressBar
from vaelab.reopen import blaming, reopen, stored_config
from vaelab.results import evaluate, show
from vaelab.stored import write_atomically
from vaelab.trust import trusted_packages
from vaelab.weights import read_weights


@hydra.main(version_base="1.3", config_path=CONF, config_name="evaluate")
@job
def run(cfg: DictConfig) -> float:
    """Evaluates the weights that `cfg` names, and returns the test bound in nats."""
    check_choice("checkpoint", cfg.checkpoint, ("last", "best"))
    folder, trusted = Path(cfg.run_dir), trusted_packages(cfg.trust)
    stored = stored_config(folder, cfg, trusted)
    with blaming(folder, trusted):
        data, module = reopen(stored, read_weights(folder, cfg.checkpoint), folder, trusted)
        trainer = make_trainer(stored, folder, [ProgressBar()])
        metrics = evaluate(trainer, module, data) | {"samples_seen": module.samples_seen, "steps": module.steps}
    write_atomically(folder / "evaluation.json", json.dumps(metrics | {"checkpoint": cfg.checkpoint}, indent=2))
    show({f"{cfg.checkpoint} weights": metrics}, f"written: {folder / 'evaluation.json'}")
    return metrics["test/elbo"]


main = entry_point(run)

if __name__ == "__main__":
    main()
