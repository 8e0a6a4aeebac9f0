"""Callbacks: checkpoints, figures, a warning of collapse. The run folder is the trainer's `default_root_dir`."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, Checkpoint
from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger
from torch import Tensor

from vaelab.distributions import mean_or_sample
from vaelab.errors import DivergedError
from vaelab.evaluation.declared import metric_of
from vaelab.files import replacing
from vaelab.objectives import kl_per_dimension
from vaelab.randomness import seed_draws
from vaelab.training.lightning_module import VAEModule

log = logging.getLogger(__name__)


class Checkpoints(Checkpoint):
    """`checkpoints/last.ckpt` after every epoch, and `best.ckpt`: the one with the best validation bound.

    `last.ckpt` is also written when a signal stops the training, or a step that breaks the numbers; the one before it
    stays as `previous.ckpt`. Files hold plain data and tensors (they load with `weights_only=True`) and are replaced
    whole.

    Args:
        monitor: the metric of which `best.ckpt` has the best value of all validations; its declaration says whether a
            higher or a lower one is better.
        every_n_steps: write `last.ckpt` inside an epoch too, once so many optimiser steps have passed since the last
            (at the end of the Lightning step that they end in).
    """

    def __init__(self, monitor: str = "val/elbo", every_n_steps: int | None = None) -> None:
        self.monitor = monitor
        self.every_n_steps = every_n_steps
        self.best = float("inf")  # badness of the best value so far
        self.best_at = -1  # optimiser steps
        self.saved_at = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not (Path(trainer.default_root_dir) / "checkpoints" / "best.ckpt").exists():
            self.best = float("inf")  # the file was lost since the checkpoint that training resumes from
        self.saved_at = trainer.global_step

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        # not at the end of the batch before, which a validation may have followed
        due = self.every_n_steps is not None and trainer.global_step >= self.saved_at + self.every_n_steps
        if due or (cast(VAEModule, pl_module).stopping and trainer.global_step > self.saved_at):
            self.save(trainer, "last")

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if isinstance(exception, DivergedError) and trainer.global_step > self.saved_at:
            try:
                self.save(trainer, "last")
            except OSError as error:
                log.warning("last.ckpt is older than the step before: %s", error)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        value = metric_of(self.monitor).badness(float(trainer.callback_metrics.get(self.monitor, float("nan"))))
        if trainer.state.fn == "fit" and not trainer.sanity_checking and value < self.best:  # not NaN
            self.best, self.best_at = value, trainer.global_step
            self.save(trainer, "best")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.save(trainer, "last")

    def save(self, trainer: pl.Trainer, name: str) -> None:
        path = Path(trainer.default_root_dir) / "checkpoints" / f"{name}.ckpt"
        for logger in trainer.loggers:
            with cast(VAEModule, trainer.lightning_module).stop.excusing():
                logger.save()  # what led here
        former = path.with_name("previous.ckpt") if name == "last" else None
        with replacing(path, former) if trainer.is_global_zero else nullcontext(path) as partial:
            trainer.save_checkpoint(partial, weights_only=False)  # the optimiser's state as well
        if name == "last":
            self.saved_at = trainer.global_step

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.best == float("inf"):
            known = ", ".join(sorted(map(str, trainer.callback_metrics)))
            log.warning("no best.ckpt: callbacks.checkpoints.monitor=%s was never a number (%s)", self.monitor, known)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "best_at": self.best_at}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.best_at = state_dict["best"], state_dict["best_at"]


class Figures(Callback):
    """Draws `figures` into `figures/` when the last weights are tested, and shows them to the loggers.

    Args:
        num_images: examples to reconstruct.
        num_points: posterior means in the scatter.
    """

    def __init__(self, num_images: int = 12, num_points: int = 2000) -> None:
        self.num_images = num_images
        self.num_points = num_points

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, VAEModule)
        if not trainer.is_global_zero or pl_module.weights != "last":
            return
        folder = Path(trainer.default_root_dir) / "figures"
        folder.mkdir(exist_ok=True)
        for name, figure in self.draw(pl_module).items():
            path = folder / f"{name}.png"
            with replacing(path) as partial:
                figure.savefig(partial, dpi=150, format="png")
            show(trainer, pl_module, f"figures/{name}", path)

    def draw(self, module: VAEModule) -> dict[str, Any]:
        from vaelab.evaluation import figures  # matplotlib and SciPy are slow to import

        vae, data = module.vae, module.data
        labels = data.split["val"].labels
        shown = torch.arange(min(self.num_images, len(data.split["val"])))
        with watching(module):
            means, kl = posterior(module, self.num_points)
            drawn = {
                "reconstructions": figures.reconstructions(vae, data.draw("val", shown)),
                "samples": figures.samples(vae),
                "latent": figures.latent_scatter(means, None if labels is None else labels[: len(means)]),
            }
            if means.shape[1] == 2:
                drawn["manifold"] = figures.manifold(vae)
            if kl is not None:
                drawn["kl_per_dimension"] = figures.kl_bars(kl)
        return drawn


class CollapseWarning(Callback):
    """Warns, when the last weights are tested, of latent dimensions that carry next to nothing, and names them.

    Args:
        threshold: a dimension whose mean KL on the validation split lies below, in nats, counts as dead.
        num_points: examples that the mean is over.
    """

    def __init__(self, threshold: float = 0.01, num_points: int = 2000) -> None:
        self.threshold = threshold
        self.num_points = num_points

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, VAEModule)
        if not trainer.is_global_zero or pl_module.weights != "last":
            return
        with watching(pl_module):
            _, kl = posterior(pl_module, self.num_points)
        if kl is None:
            return
        dead = (kl < self.threshold).nonzero().flatten().tolist()
        if dead:
            log.warning(
                "posterior collapse: %d of %d latent dimensions carry less than %g nats: %s",
                *(len(dead), len(kl), self.threshold, ", ".join(map(str, dead))),
            )


def posterior(module: VAEModule, num_points: int) -> tuple[Tensor, Tensor | None]:
    """Means of q(z|x) for the first validation examples, and the mean KL of each dimension if q and p factorise."""
    size = min(num_points, len(module.data.split["val"]))
    q = module.vae.encode(module.data.draw("val", torch.arange(size)))
    kl = kl_per_dimension(q, module.vae.latent_prior())
    return mean_or_sample(q), None if kl is None else kl.mean(0)


@contextmanager
def watching(module: VAEModule) -> Iterator[None]:
    """Evaluation mode, no gradients, and draws that depend on the seed alone."""
    was_training = module.training
    module.eval()
    seed_draws(module.device, "figures", module.seed)
    with torch.no_grad():
        yield
    module.train(was_training)


def show(trainer: pl.Trainer, module: VAEModule, name: str, path: Path) -> None:
    """Hands a picture to the loggers that take pictures."""
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            logger.log_image(name, [str(path)], step=module.samples_seen)
        elif isinstance(logger, TensorBoardLogger):
            from matplotlib.image import imread

            logger.experiment.add_image(name, imread(path), module.samples_seen, dataformats="HWC")
