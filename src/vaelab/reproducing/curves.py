"""Curves of training: when they have points, their means over seeds, and their drawing."""

from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from typing import cast

import numpy as np
import pytorch_lightning as pl
import torch
from matplotlib.figure import Figure
from torch import Tensor

from vaelab.api import Run
from vaelab.data import ImageData
from vaelab.data.splits import SplitName
from vaelab.randomness import seed_draws
from vaelab.training import VAEModule

POINTS_PER_DOUBLING = 2
COLOURS = ("tab:red", "tab:green", "tab:blue")
Points = list[list[float]]  # (training samples, value)


class CurveAtEpochs(pl.Callback):
    """Base class of the callbacks that measure the model in the course of training.

    After epochs 1, 2, 3, 4, 6, 8, ..., evenly spaced on a logarithmic axis, and after the last one, it logs the metrics
    that `measure` returns. Meanwhile the model is in evaluation mode. The random numbers of training stay the same, so
    measuring changes no bit of a run.
    """

    measure: Callable[[VAEModule], dict[str, float]]

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        module, epoch = cast(VAEModule, pl_module), trainer.current_epoch + 1
        if trainer.is_global_zero and (epoch in drawn(epoch) or epoch == trainer.max_epochs):
            devices = [module.device] if module.device.type == "cuda" else []
            with torch.random.fork_rng(devices), torch.no_grad(), module.vae.mode(training=False):
                found = self.measure(module)
            for logger in trainer.loggers:
                logger.log_metrics(found, step=module.samples_seen)


def first_examples(data: ImageData, split: SplitName, count: int) -> Tensor:
    """Draw the first examples of a split, at most `count`, with the same pixels at each call."""
    seed_draws(data.device, "figures", 0)
    return data.draw(split, torch.arange(min(count, len(data.split[split]))))


def drawn(last: int) -> set[int]:
    """Return the epochs up to `last` at which curves have points."""
    points = (round(2 ** (i / POINTS_PER_DOUBLING)) for i in range(POINTS_PER_DOUBLING * last.bit_length() + 1))
    return {epoch for epoch in points if epoch <= last}


def curve(run: Run, name: str) -> Points:
    """Return a curve of a run."""
    samples_seen, values = run.history[name]
    return [[float(x), float(y)] for x, y in zip(samples_seen, values, strict=True)]


def mean(curves: Sequence[Points]) -> Points:
    """Return the mean of curves that have points at the same places."""
    return np.mean(np.array(curves), axis=0).tolist()


def draw(rows: Sequence[Mapping[str, Mapping[str, Points]]]) -> Figure:
    """Draw rows of panels by their titles, each with curves by their labels.

    A label is `METHOD, train` or `METHOD, test`: a method has a colour, and test curves are dotted.
    """
    columns = max(map(len, rows))
    figure = Figure(figsize=(2.8 * columns, 2.8 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for line, panels in zip(grid, rows, strict=True):
        for axes in line[len(panels) :]:
            axes.set_axis_off()
        for axes, (title, curves) in zip(line, panels.items(), strict=False):
            methods = dict.fromkeys(label.rpartition(", ")[0] for label in curves)
            colours = dict(zip(methods, cycle(COLOURS)))
            for label, points in curves.items():
                method, _, split = label.rpartition(", ")
                axes.plot(*np.array(points).T, ":" if split == "test" else "-", color=colours[method], label=label)
            axes.set_xscale("log")
            axes.set_title(title, fontsize=9)
            axes.tick_params(labelsize=7, which="both")
    grid[0, 0].set_ylabel("nats per example", fontsize=8)
    grid[0, 0].set_xlabel("training samples", fontsize=8)
    grid[0, 0].legend(fontsize=6)
    return figure
