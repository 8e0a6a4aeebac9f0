"""Callbacks: checkpoints, figures, a warning of collapse. They write to the trainer's `default_root_dir`."""

import logging
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, Checkpoint
from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger

from vaelab.distributions import mean_or_sample
from vaelab.errors import DivergedError, check_count
from vaelab.evaluation.declared import metric_of
from vaelab.evaluation.predictive import RANK_HISTOGRAM
from vaelab.files import replacing
from vaelab.objectives import kl_per_dimension
from vaelab.randomness import seed_draws
from vaelab.training.lightning_module import VAEModule

log = logging.getLogger(__name__)


class Checkpoints(Checkpoint):
    """Writes `checkpoints/last.ckpt` after every epoch, and `best.ckpt` after the best validation so far.

    `last.ckpt` is also written when a signal or a divergence stops the training. The former `last.ckpt` is
    kept as `previous.ckpt`. Files are replaced whole, and hold only plain data and tensors, so that they load with
    `weights_only=True`.

    Args:
        monitor: the metric of the best validation. Higher is better, unless the metric's declaration says otherwise.
        every_n_steps: also write `last.ckpt` within an epoch, at the end of a Lightning step, if at least this many
            optimiser steps were taken since the last write.
    """

    def __init__(self, monitor: str = "val/elbo", every_n_steps: int | None = None) -> None:
        self.monitor = monitor
        self.every_n_steps = every_n_steps
        self.best = float("inf")  # `Metric.badness` of the best value so far
        self.best_at = -1  # number of optimiser steps before that value
        self.saved_at = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not (Path(trainer.default_root_dir) / "checkpoints" / "best.ckpt").exists():
            self.best = float("inf")  # the file is gone, so the next validation writes it again
        self.saved_at = trainer.global_step

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        # not in on_train_batch_end, which runs before the validation that may follow the batch
        due = self.every_n_steps is not None and trainer.global_step >= self.saved_at + self.every_n_steps
        if due or (cast(VAEModule, pl_module).stopping and trainer.global_step > self.saved_at):
            self.save(trainer, "last")

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if isinstance(exception, DivergedError) and trainer.global_step > self.saved_at:
            try:
                self.save(trainer, "last")
            except OSError as error:
                log.warning("last.ckpt could not be written, and is older than the last step: %s", error)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        value = metric_of(self.monitor).badness(float(trainer.callback_metrics.get(self.monitor, float("nan"))))
        if trainer.state.fn == "fit" and not trainer.sanity_checking and value < self.best:  # False for NaN
            self.best, self.best_at = value, trainer.global_step
            self.save(trainer, "best")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.save(trainer, "last")

    def save(self, trainer: pl.Trainer, name: str) -> None:
        path = Path(trainer.default_root_dir) / "checkpoints" / f"{name}.ckpt"
        for logger in trainer.loggers:
            with cast(VAEModule, trainer.lightning_module).stop.excusing():
                logger.save()  # write the curves up to this checkpoint
        former = path.with_name("previous.ckpt") if name == "last" else None
        with replacing(path, former) if trainer.is_global_zero else nullcontext(path) as partial:
            trainer.save_checkpoint(partial, weights_only=False)  # include the optimiser's state
        if name == "last":
            self.saved_at = trainer.global_step

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.best == float("inf"):
            known = ", ".join(sorted(map(str, trainer.callback_metrics)))
            reason = f"callbacks.checkpoints.monitor={self.monitor} was never a number"
            log.warning("no best.ckpt: %s; choose one of %s", reason, known)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "best_at": self.best_at}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.best_at = state_dict["best"], state_dict["best_at"]


class Figures(Callback):
    """Writes the figures of the run to `figures/` after the test of the last weights, and sends them to the loggers.

    Args:
        num_images: how many examples to reconstruct.
        num_points: how many posterior means to scatter.
        every_n_epochs: also draw them after each so many epochs of training, in `figures/epoch_5/`. The predictive
            check needs the test, and is left out there.
    """

    def __init__(self, num_images: int = 12, num_points: int = 2000, every_n_epochs: int | None = None) -> None:
        if every_n_epochs is not None:
            check_count("callbacks.figures.every_n_epochs", every_n_epochs)
        self.num_images = num_images
        self.num_points = num_points
        self.every_n_epochs = every_n_epochs

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        module, epoch = cast(VAEModule, pl_module), trainer.current_epoch + 1
        if trainer.is_global_zero and self.every_n_epochs and epoch % self.every_n_epochs == 0:
            devices = [module.device] if module.device.type == "cuda" else []
            with torch.random.fork_rng(devices), module.vae.mode(training=False):
                module.begin()
                self.write(trainer, module, f"epoch_{epoch}")

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        module = cast(VAEModule, pl_module)
        if trainer.is_global_zero and module.weights == "last":
            self.write(trainer, module)

    def write(self, trainer: pl.Trainer, module: VAEModule, below: str = "") -> None:
        """Write the figures to `figures/`, or to a folder below it, and send them to the loggers."""
        folder = Path(trainer.default_root_dir) / "figures" / below
        folder.mkdir(parents=True, exist_ok=True)
        for name, figure in self.draw(module).items():
            path = folder / f"{name}.png"
            with replacing(path) as partial:
                figure.savefig(partial, dpi=150, format="png")
            for logger in trainer.loggers:
                if isinstance(logger, WandbLogger):
                    logger.log_image(f"figures/{name}", [str(path)], step=module.samples_seen)
                elif isinstance(logger, TensorBoardLogger):
                    from matplotlib.image import imread

                    step = module.samples_seen
                    logger.experiment.add_image(f"figures/{name}", imread(path), step, dataformats="HWC")

    def draw(self, module: VAEModule) -> dict[str, Any]:
        """Return the figures by name; their draws depend on the seed alone."""
        from vaelab.evaluation import figures  # matplotlib and SciPy are slow to import

        vae, data = module.vae, module.data
        labels = data.split["val"].labels
        indices = torch.arange(len(data.split["val"]))
        seed_draws(module.device, "figures", module.seed)
        with module.evaluating():
            q = vae.encode(data.draw("val", indices[: self.num_points]))
            means, kl = mean_or_sample(q), kl_per_dimension(q, vae.latent_prior())
            drawn = {
                "reconstructions": figures.reconstructions(vae, data.draw("val", indices[: self.num_images])),
                "samples": figures.samples(vae),
                "latent": figures.latent_scatter(means, None if labels is None else labels[: len(means)]),
            }
            if RANK_HISTOGRAM in module.tested.names:
                drawn["predictive_check"] = figures.predictive_check(module.tested.column(RANK_HISTOGRAM))
            if means.shape[1] == 2 and not vae.encoder.head.discrete:
                drawn["manifold"] = figures.manifold(vae)
            if kl is not None:
                drawn["kl_per_dimension"] = figures.kl_bars(kl.mean(0))
        return drawn


class CollapseWarning(Callback):
    """Warns of latent dimensions whose KL is close to 0, after the last weights are tested.

    Args:
        threshold: the KL in nats, as a mean over the tested examples, below which a dimension is reported.
    """

    def __init__(self, threshold: float = 0.01) -> None:
        self.threshold = threshold

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        module = cast(VAEModule, pl_module)
        if not trainer.is_global_zero or module.weights != "last" or "kl_per_dimension" not in module.tested.names:
            return
        kl = module.tested.column("kl_per_dimension").mean(0)
        dead = (kl < self.threshold).nonzero().flatten().tolist()
        if dead:
            log.warning(
                "posterior collapse: %d of %d latent dimensions carry less than %g nats: %s",
                *(len(dead), len(kl), self.threshold, ", ".join(map(str, dead))),
            )
