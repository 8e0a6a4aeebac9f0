"""Evaluates a run again, from its folder and the data alone: `python -m vaelab.evaluate run_dir=logs/runs/NAME`."""

import json
from pathlib import Path

import hydra
from omegaconf import DictConfig, OmegaConf

from vaelab.checks import ConfigError
from vaelab.cli import entry_point, job
from vaelab.config import CONF, build, make_trainer
from vaelab.module import VAEModule
from vaelab.progress import ProgressBar
from vaelab.redaction import at_home
from vaelab.results import evaluate, show
from vaelab.stored import RunFolderError, load_checkpoint, read_config, write_atomically


@hydra.main(version_base="1.3", config_path=CONF, config_name="evaluate")
@job
def run(cfg: DictConfig) -> float:
    """Evaluates the weights that `cfg` names, and returns the test bound in nats."""
    if cfg.checkpoint not in ("last", "best"):
        raise ConfigError(f"checkpoint must be last or best, found {cfg.checkpoint!r}")
    folder = Path(cfg.run_dir)
    stored = OmegaConf.create({**at_home(read_config(folder)), "data_dir": cfg.data_dir})
    if cfg.num_samples is not None:
        stored.estimator.num_samples = cfg.num_samples
    data, module = build(stored)
    load_weights(module, folder / "checkpoints" / f"{cfg.checkpoint}.ckpt")
    stored.trainer.accelerator, stored.trainer.devices = cfg.accelerator, 1
    trainer = make_trainer(stored, folder, [ProgressBar()])
    metrics = evaluate(trainer, module, data) | {"samples_seen": module.samples_seen, "steps": module.steps}
    write_atomically(folder / "evaluation.json", json.dumps(metrics | {"checkpoint": cfg.checkpoint}, indent=2))
    show({f"{cfg.checkpoint} weights": metrics}, f"written: {folder / 'evaluation.json'}")
    return metrics["test/elbo"]


def load_weights(module: VAEModule, path: Path) -> None:
    """Loads a checkpoint's weights and counts into `module`.

    Raises:
        RunFolderError: no such file, not a checkpoint, or one of another model.
    """
    checkpoint = load_checkpoint(path)
    try:
        module.load_state_dict(checkpoint["state_dict"])
        module.on_load_checkpoint(checkpoint)
    except (KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise RunFolderError(f"{path} cannot be loaded into the model of config.yaml: {reason}") from error


main = entry_point(run)

if __name__ == "__main__":
    main()
