"""One evaluation of a run folder: build it from the command line, run it, and read its results."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from vaelab.data.batches import Tested
from vaelab.errors import ConfigError
from vaelab.estimators import Several
from vaelab.evaluation.advice import verdicts
from vaelab.evaluation.predictive import CHECKED, is_checked
from vaelab.objectives import ELBO
from vaelab.runs.build import make_trainer
from vaelab.runs.configuration import contents
from vaelab.runs.evaluating.cache import KeptEvaluation, digest
from vaelab.runs.evaluating.fitted_prior import FittedPrior
from vaelab.runs.evaluating.reopen import blaming, reopen, stored_config
from vaelab.runs.folder.contents import environment, other_code
from vaelab.runs.folder.names import shortened
from vaelab.runs.folder.weights import read_weights
from vaelab.runs.model import check_estimator
from vaelab.runs.processes.distributed import launch
from vaelab.runs.provenance import classes_of
from vaelab.runs.serving import not_advised, scored_as_mass
from vaelab.runs.validate import MODEL_PARTS, processes_of
from vaelab.security.allow_list import trusted_packages
from vaelab.training import ProgressBar

BOUND_AND_LATENT = (*(metric.name for metric in ELBO.metrics), "log_posterior", "log_prior")
log = logging.getLogger(__name__)


class Evaluation:
    """An evaluation that is ready to run. The constructor refuses whatever cannot be evaluated.

    After `complete`, `module.tested` has the values of each example.

    Raises:
        ConfigError: the command line asks for something that this run cannot do.
        RunFolderError: the folder is not a run folder, is damaged, or names a class that is not allowed.
        DataError: the data are missing or damaged.
    """

    def __init__(self, cfg: DictConfig) -> None:
        self.cfg, self.folder, self.trusted = cfg, Path(cfg.run_dir), trusted_packages(cfg.trust)
        own = stored_config(self.folder, cfg, self.trusted)
        with blaming(self.folder, self.trusted):
            weights = read_weights(self.folder, cfg.checkpoint)
            self.data, self.module = reopen(own, weights, self.folder, self.trusted)
            classes = classes_of(contents(own), self.module)
            for warning in other_code(self.folder, classes, "these numbers are of other code than it was trained by"):
                log.warning(warning)
            check_estimator(self.module.estimator, self.module.vae)
            if cfg.measure == "mass":
                scored_as_mass(self.module.vae, self.data)
            whole = [estimator for estimator in self.module.estimators.values() if estimator.part_size is None]
            if cfg.dequantizations > 1 and not (whole and self.data.pixels == "unit"):
                raise ConfigError(
                    "dequantizations above 1 need importance sampling and unit pixels, found "
                    f"estimator={self.module.estimator.name} and {self.data.pixels} pixels: type dequantizations=1"
                )
            self.module.dequantizations, self.module.inference_gap = cfg.dequantizations, cfg.inference_gap
            self.data.tested = Tested(cfg.split, cfg.limit)
            vae = self.module.vae
            self.fitted = FittedPrior(cfg.prior, vae, self.data, own.seed) if cfg.get("prior") else None
            self.module.fitted_prior = self.fitted.label if self.fitted else None
            self.trainer = make_trainer(own, self.folder, [ProgressBar()])
        self.comparability = self.module.comparability(self.data)
        # without the estimator's node, because it includes the memory limit
        told = [name for name in (*MODEL_PARTS, "latent_dim", "seed") if name != "estimator"]
        model = {
            "parts": OmegaConf.to_container(OmegaConf.masked_copy(own, told), resolve=True),
            "data": self.data.record(),
            "vaelab": environment()["versions"]["vaelab"],
        }
        identity = model | {
            "comparability": self.comparability,
            "inference_gap": cfg.inference_gap,
            "device": self.trainer.strategy.root_device.type,  # devices draw different random numbers
        }
        name = "-".join([cfg.split, cfg.checkpoint, *self.comparability["estimators"], digest(identity, weights.state)])
        self.kept = KeptEvaluation(self.folder, shortened(name))
        prior = self.module.fitted_prior or ""
        own_name = digest(model | {"prior": prior}, weights.state)
        self.prior_file = self.kept.folder / f"prior-{cfg.checkpoint}-{own_name}.safetensors"
        self.prior_samples = (
            self.folder / "figures" / f"samples_{prior.partition('(')[0]}-{cfg.checkpoint}-{own_name}.png"
        )

    def complete(self) -> bool:
        """Evaluate the remaining blocks, in as many processes as `cfg` asks for; return whether any remained."""
        num_processes = processes_of(self.cfg.runtime)
        with self.kept.held(anew=self.cfg.runtime.rerun):
            known, total = self.load()
            if known == total:
                if not self.kept.whole.exists():  # a process was stopped just before it wrote it
                    self.kept.finish(self.module.tested)
                return False
            if known:
                log.warning("resuming: %d of %d blocks were evaluated before", known, total)
            if self.fitted:
                self.fitted.complete(self.prior_file, anew=self.cfg.runtime.rerun)
                self.fitted.draw(self.prior_samples)
            if num_processes == 1:
                self.run()
            else:
                launch(evaluate_share, num_processes, contents(self.cfg))
            self.load()
        return True

    def load(self) -> tuple[int, int]:
        """Read the stored values. Return how many blocks and parts have values, and how many there are in all."""
        needed = {}
        for block in self.data.tested_blocks(self.module.part_size):
            estimates = [f"{prefix}log_likelihood" for prefix in self.module.estimators_of(block)]
            checked = CHECKED if is_checked(block) else ()
            needed[block.key] = (len(block), [*estimates, *checked, *([] if block.part else BOUND_AND_LATENT)])
        self.module.tested = self.kept.load(needed)
        self.data.tested.done = frozenset(self.module.tested.blocks)
        return len(self.data.tested.done), len(needed)

    def run(self) -> None:
        """Evaluate this process's share of the remaining blocks."""
        self.module.keep = self.kept.keep
        with blaming(self.folder, self.trusted), self.kept.keeping(self.module.tested):
            self.trainer.test(self.module, datamodule=self.data, verbose=False)
        if self.trainer.is_global_zero:
            self.kept.finish(self.module.tested)

    @property
    def kl_per_dimension(self) -> list[float]:
        """The mean KL of each latent dimension in nats; empty unless posterior and prior factorise."""
        tested = self.module.tested
        return tested.column("kl_per_dimension").mean(0).tolist() if "kl_per_dimension" in tested.names else []

    def notes(self, metrics: Mapping[str, float]) -> list[str]:
        """Return the sentences below the table: estimators left out and why, advice, and the KL of each dimension."""
        several, notes = self.module.estimator, []
        for estimator in several.estimators.values() if isinstance(several, Several) else ():
            if refusal := estimator.refusal(self.module.vae):
                notes.append(f"{estimator.label} was left out: {refusal}")
        notes += verdicts(metrics, self.module.estimators, not_advised(self.module.vae, self.data))
        largest = " ".join(f"{kl:.2f}" for kl in sorted(self.kl_per_dimension, reverse=True)[:50])
        return [*notes, *([f"KL of each latent dimension, largest first: {largest}"] if largest else [])]


def evaluate_share(cfg: Mapping[str, Any]) -> None:
    """Reopen the run in a child process, and evaluate this process's share of the blocks."""
    evaluation = Evaluation(OmegaConf.create(dict(cfg)))
    evaluation.load()
    if evaluation.fitted:
        evaluation.fitted.complete(evaluation.prior_file)
    evaluation.run()
