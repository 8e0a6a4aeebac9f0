"""One evaluation of a run folder: what was asked for, the parts that it takes, and what comes out."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from vaelab.data import ImageData
from vaelab.data.base import Tested
from vaelab.errors import ConfigError, RunFolderError
from vaelab.estimators import Estimator, Several
from vaelab.evaluation.advice import verdicts
from vaelab.evaluation.comparability import Key, comparability, settings
from vaelab.evaluation.lightning_module import EvaluationModule
from vaelab.objectives import ELBO
from vaelab.runs.build import check_estimator, make_trainer
from vaelab.runs.evaluating.cache import KeptEvaluation, Needed, digest
from vaelab.runs.evaluating.reopen import blaming, reopen, stored_config
from vaelab.runs.folder.contents import environment
from vaelab.runs.folder.weights import read_weights
from vaelab.runs.model import scored_as_mass
from vaelab.runs.processes.cores import this_process
from vaelab.runs.validate import MODEL_PARTS
from vaelab.security.allow_list import trusted_packages
from vaelab.training import ProgressBar

BOUND_AND_LATENT = (*(metric.name for metric in ELBO.metrics), "log_posterior", "log_aggregate", "log_prior")
log = logging.getLogger(__name__)


@dataclass
class Evaluated:
    """What an evaluation comes to.

    Attributes:
        metrics: flat, by `SPLIT/NAME`; see `vaelab.evaluation.metrics.summary`.
        kl_per_dimension: means over examples, in nats, where posterior and prior factorise.
        comparability: what another evaluation must share for its numbers to stand in one ranking with these.
        notes: what is to be thought of the numbers.
        estimators: those that were used, by what the names of their metrics begin with.
        found_before: nothing was left to evaluate.
    """

    metrics: dict[str, float]
    kl_per_dimension: list[float]
    comparability: Key
    notes: list[str]
    estimators: dict[str, Estimator]
    found_before: bool


class Evaluation:
    """An evaluation that is ready to begin: everything that can be refused was looked at.

    Args:
        cfg: the command line's configuration, as `conf/evaluate.yaml` has it.

    Raises:
        ConfigError: it asks for what cannot be done with this run.
        RunFolderError: the folder is no run, is damaged, or asks for what it may not.
        DataError: data that are missing or damaged.
    """

    def __init__(self, cfg: DictConfig) -> None:
        self.cfg = cfg
        self.folder = Path(cfg.run_dir)
        self.trusted = trusted_packages(cfg.trust)
        self.own = stored_config(self.folder, cfg, self.trusted)
        with blaming(self.folder, self.trusted):
            weights = read_weights(self.folder, cfg.checkpoint)
            self.data, self.module = reopen(self.own, weights, self.folder, self.trusted)
            check_estimator(self.module.estimator, self.own.latent_dim)
            self.describe_data()
            self.trainer = make_trainer(self.own, self.folder, [ProgressBar()])
        names = "-".join(self.comparability["estimators"])
        # without the estimator's node, which also says how much memory it may take
        told = [name for name in (*MODEL_PARTS, "latent_dim", "seed") if name != "estimator"]
        identity = {
            "comparability": self.comparability,
            "parts": OmegaConf.to_container(OmegaConf.masked_copy(self.own, told), resolve=True),
            "device": self.trainer.strategy.root_device.type,  # which draws other numbers
            "data": self.record,
            "vaelab": environment()["versions"]["vaelab"],
        }
        self.name = f"{cfg.split}-{cfg.checkpoint}-{names}-{digest(identity, weights.state)}"

    def describe_data(self) -> None:
        """Settle what the pixels are."""
        if self.cfg.measure == "mass":
            scored_as_mass(self.module.vae, self.data)
        if self.cfg.dequantizations > 1:
            check_dequantized(self.data, self.module.estimators.values())
        self.module.dequantizations = self.cfg.dequantizations
        self.data.tested = Tested(self.cfg.split, self.cfg.limit)

    @property
    def needed(self) -> Needed:
        """Return, of each block and part, how many examples it has, and which values each needs."""
        module, found = self.module, {}
        for block in self.data.tested_blocks(module.part_size):
            estimates = [f"{prefix}log_likelihood" for prefix in module.estimators_of(block)]
            found[block.key] = (len(block), [*estimates, *([] if block.part else BOUND_AND_LATENT)])
        return found

    @cached_property
    def record(self) -> dict[str, Any]:
        """Return what the data serve; hashing it takes a while."""
        return self.data.record()

    @cached_property
    def comparability(self) -> Key:
        """Return what another evaluation must share for its numbers to stand in one ranking with these."""
        size = len(self.data.split[self.cfg.split])
        return comparability(
            self.record,
            self.cfg.split,
            examples=min(size, self.cfg.limit or size),
            measure=self.module.vae.decoder.head.measure,
            estimators={p.removesuffix("/") or e.name: settings(e) for p, e in self.module.estimators.items()},
            dequantizations=self.cfg.dequantizations,
        )

    def run(self) -> Evaluated:
        """Evaluate what is left, in this process or, as one of several, its share."""
        kept = KeptEvaluation(self.folder, self.name, *this_process())
        needed = self.needed
        self.module.tested = kept.load(needed)
        self.module.keep = kept.keep
        self.data.tested.done = frozenset(self.module.tested.blocks)
        left = len(needed) - len(self.data.tested.done)
        if 0 < left < len(needed) and kept.rank == 0:
            log.warning("going on: %d of %d blocks were evaluated before", len(needed) - left, len(needed))
        if left:
            with blaming(self.folder, self.trusted), kept.keeping(self.module.tested):
                self.trainer.test(self.module, datamodule=self.data, verbose=False)
            if len(self.module.tested.blocks) < len(needed):
                raise RunFolderError(
                    f"{kept.folder} was changed meanwhile, and blocks are missing: type the command again"
                )
            if self.trainer.is_global_zero:
                kept.finish(self.module.tested)
        return self.evaluated(found_before=left == 0)

    def evaluated(self, found_before: bool) -> Evaluated:
        """Return what all values come to, once they are all there."""
        module, estimators = self.module, self.module.estimators
        metrics = module.test_summary(self.data)
        names = module.tested.names
        per_dimension = module.tested.column("kl_per_dimension").mean(0).tolist() if "kl_per_dimension" in names else []
        counts = {"steps": module.steps, "samples_seen": module.samples_seen}
        named = {f"{self.cfg.split}/{name}": value for name, value in metrics.items()}
        largest = " ".join(f"{value:.2f}" for value in sorted(per_dimension, reverse=True)[:50])
        notes = [*left_out(module), *verdicts(metrics, estimators)]
        notes += [f"KL of each latent dimension, largest first: {largest}"] if per_dimension else []
        return Evaluated(named | counts, per_dimension, self.comparability, notes, estimators, found_before)


def evaluate_share(cfg: Mapping[str, Any]) -> Evaluated:
    """Evaluate the share of one of several processes."""
    return Evaluation(OmegaConf.create(dict(cfg))).run()


def check_dequantized(data: ImageData, estimators: Iterable[Estimator]) -> None:
    """Refuse to draw dequantisation noise where there is none, or for estimators that do not take it.

    Raises:
        ConfigError: the pixels are not dequantised, or there is no importance sampling.
    """
    if all(estimator.part_size is not None for estimator in estimators):
        raise ConfigError("dequantizations is for importance sampling: type estimator=importance or dequantizations=1")
    if data.pixels != "unit":
        raise ConfigError(
            f"dequantizations is for densities over dequantised pixels, and {data.pixels} pixels are scored here: "
            "type dequantizations=1"
        )


def left_out(module: EvaluationModule) -> list[str]:
    """Return which of several estimators are not for this model, and why."""
    if not isinstance(module.estimator, Several):
        return []
    named = module.estimator.for_latent(module.vae.latent_dim)
    return [f"{estimator.label} was left out: {refused}" for _, estimator, refused in named if refused is not None]
