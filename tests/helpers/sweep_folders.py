"""Sweeps to report on: run folders that `RunFolder` writes, with numbers that are made up."""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from torch import Tensor

from tests.helpers.commands import composing
from vaelab.evaluation.comparability import comparability, settings
from vaelab.evaluation.per_example import Records
from vaelab.pixels import MEASURES
from vaelab.runs.configuration import plain
from vaelab.runs.evaluating.cache import TEST, KeptEvaluation
from vaelab.runs.folder.run_folder import RunFolder
from vaelab.sweeps.folder import SweepFolder
from vaelab.sweeps.job import JobSpec, Outcome

Numbers = dict[str, float]
EXAMPLES = 179
SHA256 = {name: name[0] * 64 for name in ("train", "val", "test")}
SHARED = ("data=digits", "hidden_features=8", "trainer.max_epochs=1", "logger=none")


def record(pixels: str, **more: Any) -> dict[str, Any]:
    """What the digits would have said of themselves."""
    protocol = {"pixels": pixels} | ({"binarize": "dynamic"} if pixels == "binary" else {})
    shape = {"event_shape": [1, 8, 8], "num_levels": 17, "sizes": {"train": 1438, "val": 180, "test": EXAMPLES}}
    return {"name": "digits", "seed": 0, **protocol, **shape, "sha256": SHA256, **more}


def metrics(
    log_likelihood: float,
    kl: float = 5.0,
    active: int = 2,
    pixels: str = "binary",
    bad: float = 0.01,
    validation: float | None = None,
) -> Numbers:
    """The part of a run's `metrics.json` that the report reads; `validation` is the ELBO unless told."""
    elbo = log_likelihood - 1
    found = {"elbo": elbo, "kl": kl, "reconstruction": elbo + kl, "active_units": active, "latent_dim": active}
    found |= {"rate": kl, "distortion": -elbo - kl}
    found |= {"log_likelihood": log_likelihood, "standard_error": 0.01, "pareto_k_bad": bad, "sampling_error": 0.5}
    found |= {"num_samples": 100}
    if pixels != "binary":
        found["log_likelihood_bits_per_dim"] = -log_likelihood / (64 * math.log(2)) + math.log2(17)
    counts = {"steps": 20, "samples_seen": 2000, "val/elbo": elbo if validation is None else validation}
    return {f"test/{name}": value for name, value in found.items()} | counts


def run_folder(sweep: Path, *overrides: str) -> RunFolder:
    """A job's folder, named as a sweep names it but for the hash."""
    name = "-".join(override.replace("=", "_") for override in sorted(overrides)) or "default"
    return RunFolder(sweep / name, plain(configuration(overrides)))


def configuration(overrides: Sequence[str]) -> DictConfig:
    """The configuration of a job; values are set after Hydra composed the choices, because to compose takes long."""
    values = [override for override in overrides if re.match(r"(seed|latent_dim)=\d+$", override)]
    cfg = composing(*SHARED, *(override for override in overrides if override not in values))
    for key, _, value in (override.partition("=") for override in values):
        cfg[key] = int(value)
    return cfg


@contextmanager
def running_job(sweep: Path, *overrides: str, pixels: str = "binary", **more: Any) -> Iterator[RunFolder]:
    """A job that runs while the block does, and ends as it does."""
    folder, data = run_folder(sweep, *overrides), record(pixels, **more)
    estimator = instantiate(OmegaConf.create(folder.config["estimator"]))
    chosen = getattr(estimator, "estimators", {estimator.name: estimator})
    estimators = {name: settings(each) for name, each in chosen.items()}
    key = comparability(data, "test", EXAMPLES, MEASURES[pixels], estimators)
    with folder.running({"data": data, "comparability": key}):
        yield folder


def finished_job(
    sweep: Path, *overrides: str, value: float, pixels: str = "binary", scores: Tensor | None = None, **more: Any
) -> Path:
    """A job that is done, with figures, and with scores of single examples whose mean is `value` unless told."""
    with running_job(sweep, *overrides, pixels=pixels) as folder:
        folder.finish(metrics(value, pixels=pixels, **more))
        keep_values(folder.path, value) if scores is None else keep_scores(folder.path, scores)
        (folder.path / "figures").mkdir()
        for i, name in enumerate(("reconstructions", "samples", "manifold")):
            Image.new("RGB", (300, 100), (40 + 60 * i, 90, 120)).save(folder.path / "figures" / f"{name}.png")
    return folder.path


def scores_around(mean: float, name: str) -> Tensor:
    """Make scores of single examples, which differ more between examples than between jobs of several names."""
    noise = torch.randn(EXAMPLES, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    own = torch.randn(EXAMPLES, dtype=torch.float64, generator=torch.Generator().manual_seed(crc32(name.encode())))
    return 10 * (noise - noise.mean()) + 0.1 * (own - own.mean()) + mean


def keep_values(path: Path, mean: float) -> None:
    """Store scores of single examples with this mean."""
    keep_scores(path, scores_around(mean, path.name))


def keep_scores(path: Path, scores: Tensor) -> None:
    """Store scores of single examples as a run does."""
    records = Records()
    for number, part in enumerate(scores.split(100)):
        records.add((number, 0), {"log_likelihood": part, "elbo": part - 1})
    KeptEvaluation(path, TEST).finish(records)


def keep_curve(path: Path, points: Sequence[tuple[float, float]]) -> None:
    """Store the validation's bound after so many training samples as a run does."""
    rows = [f"{seen:.0f},{seen / 100:.0f},{bound}" for seen, bound in points]
    (path / "curves.csv").write_text("\n".join(["samples_seen,steps,val/elbo", *rows, ""]))


def stopped_job(sweep: Path, error: BaseException, *overrides: str) -> Path:
    """A job that stopped with an error."""
    with pytest.raises(type(error)), running_job(sweep, *overrides) as folder:
        raise error
    return folder.path


def lost_job(sweep: Path, *overrides: str) -> Path:
    """A planned job that failed before it stored its configuration."""
    plan(sweep, overrides)
    path = run_folder(sweep, *overrides).path
    JobSpec({}, path, sweep, {}, path.name).record(Outcome("failed", error="it broke"))
    return path


def killed_job(sweep: Path, *overrides: str) -> Path:
    """A job whose process was killed."""
    with running_job(sweep, *overrides) as folder:
        said = (folder.path / "status.json").read_text()
    (folder.path / "status.json").write_text(said)
    return folder.path


def plan(sweep: Path, *jobs: Sequence[str]) -> None:
    """Writes down which jobs were planned, by their overrides."""
    name: Callable[[Sequence[str]], str] = lambda overrides: run_folder(sweep, *overrides).path.name  # noqa: E731
    SweepFolder(sweep).add({name(overrides): list(overrides) for overrides in jobs})


def grid(sweep: Path, latent_dims: Sequence[int] = (2, 5), seeds: Sequence[int] = (0, 1)) -> None:
    """Bernoulli and Gaussian decoders, finished: log p(x) rises with the latent, and a little with the seed."""
    for decoder, pixels, base in (("bernoulli", "binary", -30.0), ("gaussian", "unit", 40.0)):
        for size in latent_dims:
            for seed in seeds:
                overrides = (f"decoder={decoder}", f"latent_dim={size}", f"seed={seed}")
                value = base + math.log(size) + seed / 10
                finished_job(sweep, *overrides, value=value, pixels=pixels, kl=size + seed / 10, active=size)
