"""Trains one VAE, or a sweep of them: `python -m vaelab.train [-m] key=value ...`; `--help` tells more."""

import os
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig
from pytorch_lightning.loggers.logger import Logger

from vaelab import loggers
from vaelab.checks import check, refusing
from vaelab.cli import entry_point, job
from vaelab.config import CONF, build, make_trainer, plain
from vaelab.names import register_resolvers
from vaelab.results import both, evaluate_last_and_best, show
from vaelab.run import RunFolder
from vaelab.stored import load_checkpoint

register_resolvers()


@hydra.main(version_base="1.3", config_path=CONF, config_name="train")
@job
def run(cfg: DictConfig) -> float:
    """Completes the run that `cfg` describes, and returns its validation bound in nats."""
    check(cfg)
    hydra_cfg = HydraConfig.get()
    path = Path(hydra_cfg.runtime.output_dir)
    folder = RunFolder(path, plain(cfg), rerun=cfg.rerun)
    if folder.finished:
        show(both(folder.metrics), f"finished before: {os.path.relpath(path)} (rerun=true starts over)")
        return folder.metrics["val/elbo"]
    data, module = build(cfg)
    group = path.parent.name if hydra_cfg.mode is RunMode.MULTIRUN else None
    trainer = make_trainer(cfg, path, list(instantiate(cfg.get("callbacks") or {}).values()))
    if folder.last_checkpoint is not None:
        load_checkpoint(folder.last_checkpoint)  # to say so if it is damaged, before anything is written
    with folder.running({"data": data.record()}), loggers.closing(make_logger(cfg, folder, group)) as logger:
        trainer.logger = logger
        trainer.fit(module, data, ckpt_path=folder.last_checkpoint, weights_only=True)
        metrics = evaluate_last_and_best(trainer, module, data, folder.checkpoints / "best.ckpt")
        folder.finish(metrics)
    show(both(metrics), f"run folder: {os.path.relpath(path)}")
    return metrics["val/elbo"]


def make_logger(cfg: DictConfig, folder: RunFolder, group: str | None) -> Logger | None:
    """The logger that `cfg` chooses, for a run folder that is held."""
    with refusing("the logger"):
        return instantiate(cfg.logger)(folder, group)


main = entry_point(run)

if __name__ == "__main__":
    main()
