"""The LightningModule that evaluates a VAE: means over whole splits, by count, whatever the blocks and processes."""

from collections.abc import Callable
from typing import Literal

import pytorch_lightning as pl
import torch
from torch import Tensor
from torchmetrics import MeanMetric

from vaelab.conditional import VAE
from vaelab.data import ImageData
from vaelab.data.loader import Block
from vaelab.data.splits import SPLITS, SplitName
from vaelab.estimators import Estimate
from vaelab.interrupts import Stop
from vaelab.measures import bits_per_dim_of
from vaelab.objectives import Terms
from vaelab.randomness import seed_draws
from vaelab.steps import TERMS


class EvaluationModule(pl.LightningModule):
    """Evaluates a `VAE` on an `ImageData`, which the trainer's `datamodule` must be.

    Metrics are means over examples, in nats: `elbo`, `reconstruction`, `kl` of whole splits (the bound also in bits per
    dimension, `val/bits_per_dim`, where the pixels have them); of the test also `test/log_likelihood`, and per example
    its `test/standard_error` and `test/effective_sample_size`.

    Args:
        vae: the model.
        objective: `objective(vae, x) -> Terms`.
        estimator: `estimator(vae, x) -> Estimate`, for the test.
        seed: of z.

    Attributes:
        steps: optimiser steps that the weights have taken.
        samples_seen: training examples that they have seen, the x-axis of every curve.
        weights: which are evaluated; the loggers see `best/...`.

    Raises:
        Interrupted: between two blocks, after a signal.
    """

    def __init__(
        self,
        vae: VAE,
        objective: Callable[[VAE, Tensor], Terms],
        estimator: Callable[[VAE, Tensor], Estimate],
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.vae = vae
        self.objective = objective
        self.estimator = estimator
        self.seed = seed
        self.steps = 0
        self.samples_seen = 0
        self.weights: Literal["last", "best"] = "last"
        self.means: dict[str, MeanMetric] = {}
        self.stop = Stop()

    @property
    def data(self) -> ImageData:
        return self.trainer.datamodule  # type: ignore[attr-defined]

    def setup(self, stage: str) -> None:
        self.data.to(self.trainer.strategy.root_device)

    def on_validation_start(self) -> None:
        self.stop.install()

    def on_test_start(self) -> None:
        self.stop.install()

    def validation_step(self, block: Block, batch_idx: int) -> None:
        self.bound_on("val", block)

    def test_step(self, block: Block, batch_idx: int) -> None:
        estimate = self.estimator(self.vae, self.bound_on("test", block))
        self.average("test/log_likelihood", estimate.log_likelihood)
        self.average("test/standard_error", estimate.standard_error)
        self.average("test/effective_sample_size", estimate.effective_sample_size)

    def bound_on(self, split: SplitName, block: Block) -> Tensor:
        """Evaluates the objective on a block, with noise of the block's own; returns the pixels."""
        if self.trainer.state.fn != "fit":
            self.stop.check()
        x = self.data.draw_block(split, block)
        seed_draws(self.device, "evaluate", self.seed, SPLITS.index(split), block.number)
        terms = self.objective(self.vae, x)
        for name in TERMS[:-1]:  # the loss is training's
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

    def report_means(self) -> dict[str, Tensor]:
        metrics = {name: mean.compute() for name, mean in self.means.items()}
        metrics |= bits_per_dim_of(metrics, self.data, self.vae.decoder.head)
        self.means.clear()
        # for callbacks, and for what `trainer.test` returns; equal in all processes, and Lightning wants to see to that
        self.log_dict(metrics, logger=False, sync_dist=True)
        if not self.trainer.sanity_checking:
            self.report(metrics)
        return metrics

    def report(self, metrics: dict[str, Tensor]) -> dict[str, float]:
        """Sends metrics to the loggers, at x = samples seen; returns them as numbers."""
        values = {name: value.item() for name, value in metrics.items()}
        prefix = "" if self.weights == "last" else f"{self.weights}/"
        logged = {prefix + name: value for name, value in values.items()} | {"samples_seen": self.samples_seen}
        for logger in self.loggers:
            with self.stop.excusing():
                logger.log_metrics(logged, step=self.samples_seen)
        return values
