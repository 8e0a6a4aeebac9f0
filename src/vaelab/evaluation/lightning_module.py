"""The LightningModule that evaluates a VAE: per example, in fixed blocks, whatever the number of processes."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Literal
from zlib import crc32

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.distributions import Distribution

from vaelab.data import ImageData
from vaelab.data.batches import Block
from vaelab.data.splits import SPLITS, SplitName
from vaelab.errors import ConfigError
from vaelab.estimators import Estimator, Several
from vaelab.estimators.base import of_weights
from vaelab.evaluation.comparability import Key, comparability, settings
from vaelab.evaluation.declared import OF_TRAINING
from vaelab.evaluation.inference_gap import gap_values
from vaelab.evaluation.latent_usage import aggregate_of, latent_values
from vaelab.evaluation.metrics import bound_summary, summary
from vaelab.evaluation.per_example import Records
from vaelab.evaluation.predictive import RANK_HISTOGRAM, is_checked, predictive_check
from vaelab.objectives import ELBO, Objective, Terms
from vaelab.objectives.base import BOUND
from vaelab.randomness import seed_draws
from vaelab.signals import Stop
from vaelab.vae import VAE

Values = dict[str, Tensor]


class EvaluationModule(pl.LightningModule):
    """Evaluates a `VAE` on an `ImageData`, which must be the trainer's `datamodule`.

    Validation computes the means of `elbo`, `reconstruction` and `kl`; the test computes all of `metrics.summary`.
    Examples are evaluated in fixed blocks. The random draws of a block depend only on the seeds and its number.

    Args:
        vae: the model.
        objective: what training minimises; if it has its own bound, the test reports that beside the plain ELBO.
        estimator: `estimator(vae, x) -> Estimate`, or `Several` of them, for the test.
        seed: the seed of z.

    Raises:
        ConfigError: the objective declares a metric under a name that training itself reports.
        Interrupted: between two blocks, after a signal.
        PointMassError: in the test, if a posterior has no density.
    """

    def __init__(self, vae: VAE, objective: Objective, estimator: Estimator | Several, seed: int = 0) -> None:
        super().__init__()
        if taken := {metric.name for metric in objective.metrics} & {metric.name for metric in OF_TRAINING}:
            raise ConfigError(
                f"{type(objective).__name__} declares the metric {min(taken)}, which training reports itself: give it "
                "another name"
            )
        self.vae, self.objective, self.estimator = vae, objective, estimator
        self.seed = seed
        self.dequantizations = 1  # how often the test dequantises an example; more than once also bounds its mass
        self.fitted_prior: str | None = None  # describes a prior that has taken the place of the trained one
        self.inference_gap = False  # whether the test also splits the inference gap, which takes longer than the rest
        self.steps = self.samples_seen = 0  # optimiser steps and training examples behind the weights
        self.weights: Literal["last", "best"] = "last"  # loggers get the metrics of the best ones as `best/...`
        self.validated, self.tested = Records(), Records()  # the values of the last validation and of the last test
        self.found: dict[str, float] = {}  # the metrics of both
        self.keep: Callable[[Records], None] = lambda records: None  # called with `tested` after each block
        self.stop = Stop()
        self.fixed: Distribution | None = None  # p(z), computed once per evaluation

    @property
    def data(self) -> ImageData:
        return self.trainer.datamodule  # type: ignore[attr-defined]

    @property
    def estimators(self) -> dict[str, Estimator]:
        """The estimators that work for this model, by the prefix of their metrics; a single one has an empty prefix."""
        if not isinstance(self.estimator, Several):
            return {"": self.estimator}
        several = self.estimator.estimators.items()
        return {f"{name}/": estimator for name, estimator in several if not estimator.refusal(self.vae)}

    def comparability(self, data: ImageData) -> Key:
        """Return the comparability key of a test on `data`."""
        estimators = {prefix.removesuffix("/") or e.name: settings(e) for prefix, e in self.estimators.items()}
        measure = self.vae.decoder.head.measure
        tested, more = data.tested, (self.dequantizations, self.fitted_prior)
        return comparability(data.record(), tested.split, data.num_tested, measure, estimators, *more)

    def setup(self, stage: str) -> None:
        self.data.tested.part_size = self.part_size
        self.data.to(self.trainer.strategy.root_device)

    def on_validation_start(self) -> None:
        self.stop.install()

    def on_validation_epoch_start(self) -> None:  # not in on_validation_start, where callbacks may change the weights
        self.begin()
        self.validated = Records()

    def validation_step(self, block: Block, batch_idx: int) -> None:
        if len(block) > 0:
            with self.evaluating():
                self.validated.add(block.key, self.bound("val", block)[1])

    def on_validation_epoch_end(self) -> None:
        self.validated.gather()
        self.publish("val", bound_summary(self.validated, self.data, self.vae.decoder.head))

    def on_test_start(self) -> None:
        self.stop.install()

    def on_test_epoch_start(self) -> None:
        self.begin()
        split = self.data.tested.split
        with self.evaluating():
            blocks = (self.data.draw_block(split, block) for block in self.data.tested_blocks())
            self.aggregate = aggregate_of(self.vae, blocks)

    def test_step(self, block: Block, batch_idx: int) -> None:
        if len(block) == 0:
            return
        split, values = self.data.tested.split, Values()
        with self.evaluating():
            if block.part == 0:
                x, values = self.bound(split, block)
                if self.objective.has_own_bound:
                    self.seed_for(split, block, BOUND.name)
                    values[BOUND.name] = self.terms_of(self.objective, x).metrics[BOUND.name]
                self.seed_for(split, block, "posterior")
                values |= latent_values(self.vae, x, self.aggregate)
                if is_checked(block):
                    self.seed_for(split, block, RANK_HISTOGRAM)
                    values |= predictive_check(self.vae, x)
                if self.inference_gap:
                    self.seed_for(split, block, "inference gap")
                    values |= gap_values(self.vae, x)
            for prefix, estimator in self.estimators_of(block).items():
                estimates = self.estimate(estimator, prefix.removesuffix("/") or estimator.name, split, block)
                values |= {prefix + name: value for name, value in estimates.items()}
        self.tested.add(block.key, values)
        self.keep(self.tested)

    def estimators_of(self, block: Block) -> dict[str, Estimator]:
        """Return the estimators that take parts of blocks if `block` is a part, else those that take whole blocks."""
        return {prefix: e for prefix, e in self.estimators.items() if (e.part_size is None) == (block.part == 0)}

    @property
    def part_size(self) -> int | None:
        """The number of examples in a part of a block; None if every estimator takes whole blocks."""
        return min((e.part_size for e in self.estimators.values() if e.part_size is not None), default=None)

    def on_test_epoch_end(self) -> None:
        self.tested.gather()
        self.publish(self.data.tested.split, self.test_summary(self.data))

    def test_summary(self, data: ImageData) -> dict[str, float]:
        """Return the metrics of all examples, named without the split; see `metrics.summary`."""
        return summary(self.tested, self.estimators, data, self.vae.decoder.head)

    def begin(self) -> None:
        """Compute the prior once for the whole evaluation."""
        self.fixed = None
        with self.evaluating():
            self.fixed = self.vae.latent_prior()

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Hold the prior constant, and disable gradients and autocast. Outside `fit`, first check for a signal.

        Inference mode is off, because some estimators enable gradients again.
        """
        if self.trainer.state.fn != "fit":
            self.stop.check()
        with (
            torch.inference_mode(False),
            torch.no_grad(),
            torch.autocast(self.device.type, enabled=False),
            self.vae.fixed_prior(self.fixed),
        ):
            yield

    def bound(self, split: SplitName, block: Block) -> tuple[Tensor, Values]:
        """Return the pixels of a block and the per-example terms of the plain ELBO, whatever the training objective."""
        x = self.data.draw_block(split, block)
        self.seed_for(split, block)
        return x, dict(self.terms_of(ELBO(), x).metrics)

    def terms_of(self, objective: Objective, x: Tensor) -> Terms:
        """Return the terms of an objective on these pixels, at the current count of optimiser steps."""
        return objective(self.vae, x, torch.tensor(self.steps, device=x.device))

    def estimate(self, estimator: Estimator, purpose: str, split: SplitName, block: Block) -> Values:
        """Return the values of an estimator on a block or a part of a block, at one draw of its pixels.

        M > 1 dequantisations also give `log_mass`, by importance sampling of the noise:
        `log P(level) >= E log 1/M sum_m p(x_m) / num_levels^D`, a bound that rises with M (Hoogeboom, Cohen & Tomczak
        2020, section 3.2, with uniform noise).
        """
        estimates = []
        for again in range(1 if block.part else self.dequantizations):
            x = self.data.draw_block(split, block, again)[block.rows]
            self.seed_for(split, block, purpose, again)
            estimates.append(estimator(self.vae, x))
        values = estimates[0].known()
        if len(estimates) == 1:
            return values
        mass = of_weights(torch.stack([estimate.log_likelihood for estimate in estimates]).double())
        log_volume = math.prod(self.data.event_shape) * math.log(self.data.num_levels)
        return values | {
            "log_mass": mass.log_likelihood - log_volume,
            "log_mass_standard_error": mass.standard_error,
            "log_mass_effective_sample_size": mass.effective_sample_size,
        }

    def seed_for(self, split: SplitName, block: Block, purpose: str = "", again: int = 0) -> None:
        """Seed the draws for one purpose on a block, independently of the process and of what else is evaluated."""
        key = [crc32(purpose.encode())] if purpose else []
        key += [number for number in (again, block.part) if number]
        seed_draws(self.device, "evaluate", self.seed, SPLITS.index(split), block.number, *key)

    def publish(self, split: SplitName, metrics: dict[str, float]) -> None:
        """Give the metrics of a split to callbacks and loggers, and add them to `found`."""
        named = {f"{split}/{name}": value for name, value in metrics.items()}
        self.found |= named
        # the values are equal in all processes; sync_dist avoids Lightning's warning
        tensors = {name: torch.tensor(value, dtype=torch.float64) for name, value in named.items()}
        self.log_dict(tensors, logger=False, sync_dist=True)
        if not self.trainer.sanity_checking:
            self.report(named)

    def report(self, metrics: Mapping[str, Tensor | float]) -> dict[str, float]:
        """Send metrics to the loggers at x = `samples_seen`, and return them as floats."""
        values = {name: float(value) for name, value in metrics.items()}
        prefix = "" if self.weights == "last" else f"{self.weights}/"
        logged = {prefix + name: value for name, value in values.items()} | {"samples_seen": self.samples_seen}
        for logger in self.loggers:
            with self.stop.excusing():
                logger.log_metrics(logged, step=self.samples_seen)
        return values
