"""Auto-Encoding Variational Bayes: Kingma & Welling (2014), figures 2, 4 and 5."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import pytorch_lightning as pl
import torch
from matplotlib.figure import Figure

from vaelab.api import Run
from vaelab.data.splits import SplitName
from vaelab.evaluation import figures
from vaelab.objectives import ELBO
from vaelab.randomness import seed_draws
from vaelab.reproducing.base import Lab, Reproduction
from vaelab.reproducing.results import Row
from vaelab.training import VAEModule

TRAIN, TEST = "bound/train", "bound/test"
POINTS_PER_DOUBLING = 2


class BoundCurve(pl.Callback):
    """Logs the ELBO of the first examples of the training data and of the test data, at epochs 1, 2, 3, 4, 6, 8, ...

    The examples are the same each time, with the same noise, in contrast to a mean over the training of an epoch.

    Args:
        num_examples: how many of each.
    """

    def __init__(self, num_examples: int = 1000) -> None:
        self.num_examples = num_examples

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        module, epoch = cast(VAEModule, pl_module), trainer.current_epoch + 1
        if trainer.is_global_zero and (epoch in drawn(epoch) or epoch == trainer.max_epochs):
            devices = [module.device] if module.device.type == "cuda" else []
            with torch.random.fork_rng(devices), module.vae.mode(training=False):
                bounds = {TRAIN: self.bound(module, "train"), TEST: self.bound(module, "test")}
            for logger in trainer.loggers:
                logger.log_metrics(bounds, step=module.samples_seen)

    @torch.no_grad()
    def bound(self, module: VAEModule, split: SplitName) -> float:
        """Return the mean ELBO of the first examples of a split, in nats."""
        seed_draws(module.device, "figures", module.seed)
        count = min(self.num_examples, len(module.data.split[split]))
        x = module.data.draw(split, torch.arange(count))
        step = torch.zeros((), dtype=torch.int64, device=module.device)
        return ELBO()(module.vae, x, step).metrics["elbo"].double().mean().item()


def drawn(last: int) -> set[int]:
    """Return the epochs up to `last` at which curves have points, evenly spaced on a logarithmic axis."""
    points = (round(2 ** (i / POINTS_PER_DOUBLING)) for i in range(POINTS_PER_DOUBLING * last.bit_length() + 1))
    return {epoch for epoch in points if epoch <= last}


class BoundCurves(Reproduction):
    """Figure 2: the bound in the course of training, AEVB against wake-sleep, for several latent sizes.

    Each setting is first trained with each of the step sizes for some epochs, and the one with the highest training
    bound is trained on. `published` has the claims. A budget has `data`, a list of data sets with `name`, `overrides`,
    `latent_dims`, `first_epochs` and `epochs`; and `step_sizes` and `seeds`.
    """

    def repeat(self, lab: Lab, budget: Mapping[str, Any]) -> list[Row]:
        rows = []
        drawings = []
        for data in budget["data"]:
            curves = self.train(lab, budget, data)
            drawings.append((data["name"], curves))
            for (method, size), runs in curves.items():
                for split in (TRAIN, TEST):
                    lab.curves[f"{data['name']}, {method}, N_z = {size}, {split}"] = mean_curve(runs, split)
            for size in data["latent_dims"]:
                ends = {m: [end(run) for run in curves[m, size]] for m in ("AEVB", "wake-sleep")}
                better = [ours - other for ours, other in zip(ends["AEVB"], ends["wake-sleep"], strict=True)]
                setting = f"{data['name']}, N_z = {size}"
                rows += [Row(setting, f"bound of {m} on the test data, nats", values) for m, values in ends.items()]
                rows.append(Row(setting, "AEVB above wake-sleep, nats", better, claimed_above=0.0))
            many, before = data["latent_dims"][-1], data["latent_dims"][-2]
            gain = [end(a) - end(b) for a, b in zip(curves["AEVB", many], curves["AEVB", before], strict=True)]
            rows.append(Row(f"{data['name']}, AEVB", f"bound of N_z = {many} above N_z = {before}, nats", gain))
        lab.draw("The bound against training samples seen: AEVB (red) and wake-sleep (green)", curves_of(drawings))
        return rows

    def train(self, lab: Lab, budget: Mapping[str, Any], data: Mapping[str, Any]) -> dict[tuple[str, int], list[Run]]:
        """Choose the step size of each method and latent size, and return the runs of the whole training."""
        methods = {"AEVB": "objective=elbo", "wake-sleep": "objective=wake_sleep"}
        common = f"{data['overrides']} +callbacks.bound._target_=vaelab.reproducing.BoundCurve"
        tried = {
            (method, size, rate): f"{objective} latent_dim={size} optimizer.lr={rate}"
            for method, objective in methods.items()
            for size in data["latent_dims"]
            for rate in budget["step_sizes"]
        }
        part = data["name"].lower().replace(" ", "_")
        first = lab.sweep(part, tried, f"{common} trainer.max_epochs={data['first_epochs']}", 1)
        chosen = {}
        for method in methods:
            for size in data["latent_dims"]:
                rates = {rate: at(first[method, size, rate][0], data["first_epochs"]) for rate in budget["step_sizes"]}
                best = max(rates, key=rates.__getitem__)
                chosen[method, size] = tried[method, size, best]
                lab.notes.append(f"{data['name']}, {method}, N_z = {size}: step size {best}")
        return lab.sweep(part, chosen, f"{common} trainer.max_epochs={data['epochs']}", budget["seeds"])


def at(run: Run, epochs: int) -> float:
    """Return the training bound of a run after so many epochs, whatever it was trained for."""
    number = sorted(drawn(epochs) | {epochs}).index(epochs)
    return run.history[TRAIN].values[number]


def end(run: Run) -> float:
    """Return the last test bound of a run."""
    return float(run.history[TEST].values[-1])


def mean_curve(runs: Sequence[Run], name: str) -> list[list[float]]:
    """Return the points (samples seen, mean over the seeds) of a curve."""
    curves = [run.history[name] for run in runs]
    means = np.mean([curve.values for curve in curves], axis=0)
    return [[float(x), float(y)] for x, y in zip(curves[0].samples_seen, means, strict=True)]


def curves_of(drawings: Sequence[tuple[str, Mapping[tuple[str, int], Sequence[Run]]]]) -> Figure:
    """Draw the curves: a row of axes for each data set, one for each latent size, as in the paper's figure 2."""
    columns = max(len({size for _, size in curves}) for _, curves in drawings)
    figure = Figure(figsize=(2.6 * columns, 2.6 * len(drawings)), layout="constrained")
    grid = figure.subplots(len(drawings), columns, squeeze=False)
    for line, (name, curves) in zip(grid, drawings, strict=True):
        sizes = list(dict.fromkeys(size for _, size in curves))
        for axes in line[len(sizes) :]:
            axes.set_axis_off()
        for axes, size in zip(line, sizes, strict=False):
            for method, colour in {"AEVB": "tab:red", "wake-sleep": "tab:green"}.items():
                for split, style in {TRAIN: "-", TEST: ":"}.items():
                    points = mean_curve(curves[method, size], split)
                    axes.plot(*zip(*points, strict=True), style, color=colour, label=f"{method}, {split.split('/')[1]}")
            axes.set_xscale("log")
            axes.set_title(f"{name}, N_z = {size}", fontsize=9)
            axes.tick_params(labelsize=7)
    grid[0, 0].set_ylabel("bound, nats per example", fontsize=8)
    grid[0, 0].set_xlabel("training samples seen", fontsize=8)
    grid[0, 0].legend(fontsize=6)
    return figure


class Pictures(Reproduction):
    """Figures 4 and 5: the manifold of models with two latent dimensions, and samples of models with more.

    A budget has `models`: for each title of a figure, the `overrides` of a model, and with `manifold: n` a grid of
    n x n means; without, samples.
    """

    def repeat(self, lab: Lab, budget: Mapping[str, Any]) -> list[Row]:
        models = budget["models"]
        trained = lab.sweep("", {title: model["overrides"] for title, model in models.items()}, budget["overrides"], 1)
        rows = []
        for number, (title, model) in enumerate(models.items(), start=1):
            (run,) = trained[title]
            if "manifold" in model:
                figure = figures.manifold(run.vae, model["manifold"])
            else:
                seed_draws("cpu", "figures", 0)
                figure = figures.samples(run.vae, 10, 10)
            lab.draw(title, figure, str(number))
            rows.append(Row(title, "ELBO of the test data, nats", [run.metrics["test/elbo"]]))
        return rows
