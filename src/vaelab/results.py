"""The numbers that a run ends with: validation and test of the last weights and of the best, as flat metrics."""

from pathlib import Path

import pytorch_lightning as pl
import torch
from rich.console import Console
from rich.table import Table

from vaelab.data import ImageData
from vaelab.measures import bits_per_dim
from vaelab.module import VAEModule

Metrics = dict[str, float]
ROWS = {
    "elbo": "ELBO",
    "reconstruction": "reconstruction",
    "kl": "KL",
    "log_likelihood": "log p(x), importance-weighted",
}


def evaluate(trainer: pl.Trainer, module: VAEModule, data: ImageData) -> Metrics:
    """Validates and tests the module's weights: flat names, means over examples, in nats (and bits per dimension)."""
    metrics: Metrics = {}
    for stage in (trainer.validate, trainer.test):
        stage(module, datamodule=data, verbose=False)
        metrics |= {name: float(value) for name, value in trainer.callback_metrics.items()}
    head = module.vae.decoder.head
    bits = bits_per_dim(metrics["test/elbo"], data.event_shape, head.measure, head.pixels, data.num_levels)
    if bits is not None:
        metrics["test/bits_per_dim"] = bits
    num_samples = getattr(module.estimator, "num_samples", None)
    return metrics | ({} if num_samples is None else {"test/num_samples": num_samples})


def evaluate_last_and_best(trainer: pl.Trainer, module: VAEModule, data: ImageData, best: Path) -> Metrics:
    """Metrics of the weights that training ended with, and under `best/` those of the checkpoint with the best bound."""
    metrics = evaluate(trainer, module, data)
    counts = {"steps": module.steps, "samples_seen": module.samples_seen, "epochs": trainer.current_epoch}
    if best.exists():
        metrics |= {f"best/{name}": value for name, value in _evaluate_best(trainer, module, data, best, metrics).items()}
    return metrics | counts


def _evaluate_best(trainer: pl.Trainer, module: VAEModule, data: ImageData, best: Path, last: Metrics) -> Metrics:
    checkpoint = torch.load(best, map_location="cpu", weights_only=True)
    counts = checkpoint["counts"]
    if counts["steps"] == module.steps:
        return last | counts
    last_weights = {name: value.clone() for name, value in module.state_dict().items()}
    module.load_state_dict(checkpoint["state_dict"])
    module.weights, module.samples_seen, last_seen = "best", counts["samples_seen"], module.samples_seen
    metrics = evaluate(trainer, module, data)
    module.weights, module.samples_seen = "last", last_seen
    module.load_state_dict(last_weights)
    return metrics | counts


def show(metrics: Metrics, closing: str) -> None:
    """Prints the short table that a run ends with."""
    columns = {"last weights": "", "best weights": "best/"}
    table = Table("", *columns, title="test split, nats per example", title_justify="left")
    for name, label in ROWS.items():
        if name == "log_likelihood":
            label += f" (K = {metrics.get('test/num_samples', '?')})"
        table.add_row(label, *(f"{metrics.get(f'{prefix}test/{name}', float('nan')):.2f}" for prefix in columns.values()))
    if "test/bits_per_dim" in metrics:
        bits = (f"{metrics.get(f'{prefix}test/bits_per_dim', float('nan')):.3f}" for prefix in columns.values())
        table.add_row("ELBO in bits per dimension", *bits)
    table.add_row("after training samples", *(f"{metrics.get(f'{p}samples_seen', 0):,.0f}" for p in columns.values()))
    console = Console()
    console.print(table)
    console.print(closing, highlight=False, soft_wrap=True)
