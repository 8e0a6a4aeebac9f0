"""The LightningModule: a VAE, an objective and an optimiser. It owns the step and the counts, and averages once."""

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torchmetrics import MeanMetric

from vaelab.conditional import VAE
from vaelab.data import ImageData
from vaelab.data.loader import Block, Chunk, ShuffledIndices
from vaelab.data.splits import SPLITS, SplitName
from vaelab.estimators import Estimate
from vaelab.measures import bits_per_dim
from vaelab.objectives import Terms
from vaelab.randomness import seed_draws

TERMS = ("elbo", "reconstruction", "kl")


class DivergedError(ArithmeticError):
    """Training whose bound is no longer a number."""


class VAEModule(pl.LightningModule):
    """Trains a `VAE` on an `ImageData`, which the trainer's `datamodule` must be.

    One Lightning step is one `Chunk` of minibatches, each an optimiser step of its own. The counts that matter are
    `steps` (optimiser steps) and `samples_seen` (training examples, over all processes): both are saved, and
    `samples_seen` is the x-axis of every curve, as in the paper. `trainer.global_step` counts chunks.

    Metrics are means over examples, in nats: `train/loss`, and `elbo`, `reconstruction`, `kl` of each stage (the bound
    of whole splits also in bits per dimension, `val/bits_per_dim`, where the pixels have them); of the
    test also `test/log_likelihood`, and per example its `test/standard_error` and `test/effective_sample_size`.

    Args:
        vae: the model.
        objective: `objective(vae, x) -> Terms`.
        optimizer: makes the optimiser from the parameters.
        estimator: `estimator(vae, x) -> Estimate`, for the test.
        weight_prior: `weight_prior(vae)` is -log p(theta) in nats; over N_train it joins the loss.
        seed: of the noise in training and of z in evaluation.
        max_steps: stop after so many optimiser steps; -1 for no limit.

    Raises:
        DivergedError: in training, when the bound of a chunk is infinite or not a number.
    """

    def __init__(
        self,
        vae: VAE,
        objective: Callable[[VAE, Tensor], Terms],
        optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer],
        estimator: Callable[[VAE, Tensor], Estimate],
        weight_prior: Callable[[VAE], Tensor] | None = None,
        seed: int = 0,
        max_steps: int = -1,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False  # the step below does many optimiser steps
        self.vae = vae
        self.objective = objective
        self.optimizer = optimizer
        self.estimator = estimator
        self.weight_prior = weight_prior
        self.seed = seed
        self.max_steps = max_steps
        self.steps = 0
        self.samples_seen = 0
        self.train_elbo = float("nan")  # of the chunk before
        self.weights: Literal["last", "best"] = "last"  # which are evaluated; the loggers see `best/...`
        self.means: dict[str, MeanMetric] = {}

    @property
    def data(self) -> ImageData:
        return self.trainer.datamodule  # type: ignore[attr-defined]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.optimizer(self.vae.parameters())

    def setup(self, stage: str) -> None:
        self.data.to(self.trainer.strategy.root_device)

    def on_train_start(self) -> None:
        self.trainer.should_stop |= self.steps == self.max_steps  # an interruption may have come after the last one

    def on_train_epoch_start(self) -> None:
        cast(ShuffledIndices, self.trainer.train_dataloader).steps_done = self.steps

    def training_step(self, chunk: Chunk, batch_idx: int) -> None:
        left = len(chunk.batches) if self.max_steps < 0 else self.max_steps - self.steps
        batches = list(zip(chunk.batches, chunk.sizes, strict=True))[:left]
        terms = [
            self.optimizer_step_on(indices, size, (chunk.epoch, chunk.first_step + i), last=i + 1 == len(batches))
            for i, (indices, size) in enumerate(batches)
        ]
        self.steps += len(batches)
        self.samples_seen += sum(size for _, size in batches)
        self.trainer.should_stop |= self.steps == self.max_steps
        means = {f"train/{name}": torch.cat([getattr(t, name) for t in terms]).mean() for name in (*TERMS, "loss")}
        monitors = {f"train/{name}": value for name, value in self.vae.decoder.head.monitors().items()}
        self.train_elbo = self.report(means | monitors)["train/elbo"]
        if not math.isfinite(self.train_elbo):
            raise DivergedError(
                f"training diverged: the bound is {self.train_elbo} after step {self.steps}; lower optimizer.lr, or "
                "raise the floor of the scale if the decoder has one; last.ckpt is from before"
            )

    def optimizer_step_on(self, indices: Tensor, size: int, position: tuple[int, int], last: bool) -> Terms:
        """One optimiser step: draw the pixels, bound them, descend. Returns the detached terms of this process's share.

        Args:
            indices: this process's examples of the minibatch.
            size: how many examples the minibatch has over all processes.
            position: (epoch, step in the epoch), which names the noise.
            last: whether this is the chunk's last step; Lightning is told of that one, so that its count rises by
                one a chunk and checkpoints are due.
        """
        wrapped = cast(LightningOptimizer, self.optimizers())
        optimizer = wrapped if last else wrapped.optimizer
        seed_draws(self.device, "train", self.seed, *position, self.trainer.global_rank)
        terms = self.objective(self.vae, self.data.draw("train", indices))
        # processes average their gradients, so a share counts by its size
        loss = terms.loss.sum() * (self.trainer.world_size / size)
        if self.weight_prior is not None:
            loss = loss + self.weight_prior(self.vae) / self.data.num_train
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        return Terms(**{name: value.detach() for name, value in vars(terms).items()})

    def validation_step(self, block: Block, batch_idx: int) -> None:
        self.bound_on("val", block)

    def test_step(self, block: Block, batch_idx: int) -> None:
        estimate = self.estimator(self.vae, self.bound_on("test", block))
        self.average("test/log_likelihood", estimate.log_likelihood)
        self.average("test/standard_error", estimate.standard_error)
        self.average("test/effective_sample_size", estimate.effective_sample_size)

    def bound_on(self, split: SplitName, block: Block) -> Tensor:
        """Evaluates the objective on a block, with noise of the block's own; returns the pixels."""
        x = self.data.draw_block(split, block)
        seed_draws(self.device, "evaluate", self.seed, SPLITS.index(split), block.number)
        terms = self.objective(self.vae, x)
        for name in TERMS:
            self.average(f"{split}/{name}", getattr(terms, name))
        return x

    def average(self, name: str, values: Tensor) -> None:
        """Adds per-example values to the mean that the end of the evaluation reports, by count, over all processes."""
        if name not in self.means:
            self.means[name] = mean = MeanMetric().to(values.device)
            mean.set_dtype(torch.float64)
        self.means[name].update(values)

    def on_validation_epoch_end(self) -> None:
        self.report_means()

    def on_test_epoch_end(self) -> None:
        self.report_means()

    def report_means(self) -> None:
        metrics = {name: mean.compute() for name, mean in self.means.items()}
        metrics |= self.in_bits(metrics)
        self.means.clear()
        self.log_dict(metrics, logger=False)  # for callbacks, and for what `trainer.test` returns
        if not self.trainer.sanity_checking:
            self.report(metrics)

    def in_bits(self, metrics: dict[str, Tensor]) -> dict[str, Tensor]:
        """Each split's bound in bits per dimension, `<split>/bits_per_dim`, where there is such a thing."""
        head, found = self.vae.decoder.head, {}
        for split in SPLITS:
            if f"{split}/elbo" in metrics:
                nats = metrics[f"{split}/elbo"].item()
                bits = bits_per_dim(nats, self.data.event_shape, head.measure, head.pixels, self.data.num_levels)
                found |= {} if bits is None else {f"{split}/bits_per_dim": torch.tensor(bits, dtype=torch.float64)}
        return found

    def report(self, metrics: dict[str, Tensor]) -> dict[str, float]:
        """Sends metrics to the loggers, at x = samples seen; returns them as numbers."""
        values = {name: value.item() for name, value in metrics.items()}
        prefix = "" if self.weights == "last" else f"{self.weights}/"
        logged = {prefix + name: value for name, value in values.items()} | {"samples_seen": self.samples_seen}
        for logger in self.loggers:
            logger.log_metrics(logged, step=self.samples_seen)
        return values

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["counts"] = {"steps": self.steps, "samples_seen": self.samples_seen}
        if self.steps == self.max_steps and self.steps % self.data.train_dataloader().batches_per_epoch:
            # an epoch that `max_steps` cut short goes on if more steps are asked for, so it does not count as done
            progress = checkpoint["loops"]["fit_loop"]["epoch_progress"]
            progress["current"] = dict.fromkeys(progress["current"], progress["current"]["processed"] - 1)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.steps, self.samples_seen = (checkpoint["counts"][name] for name in ("steps", "samples_seen"))
