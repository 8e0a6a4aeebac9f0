"""Auto-Encoding Variational Bayes: Kingma & Welling (2014), figures 2, 4 and 5."""

from collections.abc import Mapping
from typing import Any

import torch

from vaelab.api import Runs
from vaelab.data.splits import SplitName
from vaelab.errors import ConfigError
from vaelab.evaluation import figures
from vaelab.objectives import ELBO
from vaelab.randomness import seed_draws
from vaelab.reproducing.base import Lab, Reproduction
from vaelab.reproducing.curves import CurveAtEpochs, curve, draw, first_examples, mean
from vaelab.reproducing.results import Row
from vaelab.training import VAEModule

SPLITS: dict[SplitName, str] = {"train": "bound/train", "test": "bound/test"}
METHODS = {"AEVB": "objective=elbo", "wake-sleep": "objective=wake_sleep"}
Setting = tuple[str, int]  # method and latent size


class BoundCurve(CurveAtEpochs):
    """Logs the ELBO of the first training examples and of the first test examples.

    Examples and noise are the same at each epoch, so only the model changes along the curve.

    Args:
        num_examples: how many of each.
    """

    def __init__(self, num_examples: int = 1000) -> None:
        self.num_examples = num_examples

    def measure(self, module: VAEModule) -> dict[str, float]:
        return {name: self.bound(module, split) for split, name in SPLITS.items()}

    def bound(self, module: VAEModule, split: SplitName) -> float:
        """Return the mean ELBO of the first examples of a split, in nats."""
        x = first_examples(module.data, split, self.num_examples)
        step = torch.zeros((), dtype=torch.int64, device=module.device)
        return ELBO()(module.vae, x, step).metrics["elbo"].double().mean().item()


class BoundCurves(Reproduction):
    """Figure 2: the bound in the course of training, AEVB against wake-sleep, for several latent sizes.

    Each setting is first trained briefly with each step size. The step size with the highest training bound is then
    used for the whole training, which begins anew. A budget has `data`, a list of data sets with `name`, `overrides`,
    `latent_dims`, `first_epochs` and `epochs`; and `step_sizes` and `seeds`.
    """

    def repeat(self, lab: Lab, budget: Mapping[str, Any]) -> list[Row]:
        rows, panels = [], []
        for data in budget["data"]:
            trained = self.train(lab, budget, data)
            ends = {setting: [curve(run, SPLITS["test"])[-1][1] for run in runs] for setting, runs in trained.items()}
            panels.append({})
            for size in data["latent_dims"]:
                title = f"{data['name']}, N_z = {size}"
                panels[-1][title] = {
                    f"{method}, {split}": mean([curve(run, name) for run in trained[method, size]])
                    for method in METHODS
                    for split, name in SPLITS.items()
                }
                lab.curves |= {f"{title}, {label}": points for label, points in panels[-1][title].items()}
                count = min(BoundCurve().num_examples, trained["AEVB", size][0].record["data"]["sizes"]["test"])
                quantity = f"bound of the first {count:,} test examples"
                rows += [Row(title, f"{quantity}, {method}, nats", ends[method, size]) for method in METHODS]
                better = [a - b for a, b in zip(ends["AEVB", size], ends["wake-sleep", size], strict=True)]
                rows.append(Row(title, "AEVB above wake-sleep, nats", better, claimed_above=0.0))
            before, most = data["latent_dims"][-2:]
            gain = [a - b for a, b in zip(ends["AEVB", most], ends["AEVB", before], strict=True)]
            rows.append(Row(f"{data['name']}, AEVB", f"bound of N_z = {most} minus N_z = {before}, nats", gain))
        lab.draw("The bound against training samples seen, in nats per example", draw(panels))
        return rows

    def train(self, lab: Lab, budget: Mapping[str, Any], data: Mapping[str, Any]) -> dict[Setting, Runs]:
        """Choose the step size of each method and latent size, and return the runs of the whole training."""
        common = f"{data['overrides']} +callbacks.bound._target_=vaelab.reproducing.BoundCurve"
        first, rates = data["first_epochs"], budget["step_sizes"]
        tried = {
            (method, size, rate): f"{objective} latent_dim={size} optimizer.lr={rate}"
            for method, objective in METHODS.items()
            for size in data["latent_dims"]
            for rate in rates
        }
        line = f"{common} trainer.max_epochs={first}"
        early = lab.sweep(f"{data['name']}-step_sizes", tried, line, 1, allow_failed=True)
        chosen = {}
        for method, size in dict.fromkeys(setting[:2] for setting in tried):
            runs = {rate: early[method, size, rate][0] for rate in rates}
            bounds = {rate: curve(run, SPLITS["train"])[-1][1] for rate, run in runs.items() if run.state == "done"}
            if not bounds:
                raise ConfigError(f"{data['name']}, {method}, N_z = {size}: no step size trains; add a smaller one")
            best = max(bounds, key=bounds.__getitem__)
            chosen[method, size] = tried[method, size, best]
            failed = "".join(f"; {rate} failed" for rate in rates if rate not in bounds)
            lab.notes.append(f"{data['name']}, {method}, N_z = {size}: step size {best}{failed}")
        return lab.sweep(data["name"], chosen, f"{common} trainer.max_epochs={data['epochs']}", budget["seeds"])


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
            seed_draws("cpu", "figures", 0)
            size = model.get("manifold")
            figure = figures.manifold(run.vae, size) if size else figures.samples(run.vae, 10, 10)
            lab.draw(title, figure, str(number))
            rows.append(Row(title, "ELBO of the test data, nats", [run.metrics["test/elbo"]]))
        return rows
