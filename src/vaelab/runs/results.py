"""The final metrics of a run: validation and test of the last weights and of the best weights."""

import logging
import re
from collections.abc import Collection
from pathlib import Path

import pytorch_lightning as pl
from rich.console import Console
from rich.table import Table

from vaelab.data import ImageData
from vaelab.errors import RunFolderError
from vaelab.evaluation.advice import on_estimate
from vaelab.evaluation.declared import metric_of
from vaelab.evaluation.lightning_module import EvaluationModule
from vaelab.evaluation.per_example import Records
from vaelab.evaluation.trust import is_poor
from vaelab.runs.evaluating.cache import TEST, KeptEvaluation
from vaelab.runs.folder.contents import START_OVER, load_checkpoint, read_json
from vaelab.training import Checkpoints, VAEModule

Metrics = dict[str, float]
log = logging.getLogger(__name__)


def evaluate(trainer: pl.Trainer, module: EvaluationModule, data: ImageData) -> Metrics:
    """Validate and test the module's weights; return means over examples, in nats (and bits per dimension)."""
    module.found, module.tested = {}, Records()
    for stage in (trainer.validate, trainer.test):
        stage(module, datamodule=data, verbose=False)
    return module.found


def evaluate_last_and_best(trainer: pl.Trainer, module: VAEModule, data: ImageData, folder: Path) -> Metrics:
    """Return the metrics of the last weights, and those of `best.ckpt` under names that begin with `best/`.

    The values of each test example with the last weights are stored, so that runs can be compared in pairs. The best
    weights, if they are evaluated, stay in the module.
    """
    metrics = evaluate(trainer, module, data)
    if trainer.is_global_zero:
        KeptEvaluation(folder, TEST).finish(module.tested.of_one_number())
    best = folder / "checkpoints" / "best.ckpt"
    epochs = -(-module.steps // data.batches_per_epoch)  # a partial last epoch counts as one
    counts = {"steps": module.steps, "samples_seen": module.samples_seen, "epochs": epochs}
    counts |= {"skipped_steps": module.guard.skipped} if module.guard.on_nan != "stop" else {}
    found = _evaluate_best(trainer, module, data, best, metrics) if best.exists() else {}
    return metrics | {f"best/{name}": value for name, value in found.items()} | counts


def _evaluate_best(trainer: pl.Trainer, module: VAEModule, data: ImageData, best: Path, last: Metrics) -> Metrics:
    best_at = [callback.best_at for callback in trainer.checkpoint_callbacks if isinstance(callback, Checkpoints)]
    if module.steps in best_at:
        return last | {"steps": module.steps, "samples_seen": module.samples_seen}
    try:
        checkpoint = load_checkpoint(best)
    except RunFolderError as error:  # only warn, because this training has no other copy of the best weights
        log.warning("the best weights are not evaluated: %s", str(error).removesuffix(f"; {START_OVER}"))
        return {}
    module.load_state_dict(checkpoint["state_dict"])
    module.weights, module.samples_seen = "best", checkpoint["counts"]["samples_seen"]
    return evaluate(trainer, module, data) | checkpoint["counts"]


def both(metrics: Metrics) -> dict[str, Metrics]:
    """Return the metrics of a run as columns for `show`."""
    best = {name.removeprefix("best/"): value for name, value in metrics.items() if name.startswith("best/")}
    return {"last weights": metrics} | ({"best weights": best} if best else {})


def refused_in(folder: Path) -> list[str]:
    """Return the names of the estimators that do not work for the model of the run in this folder."""
    found = read_json(folder / "record.json").get("refused_estimators")
    return [name for name in found if isinstance(name, str)] if isinstance(found, list) else []


def show(columns: dict[str, Metrics], closing: str, estimator: str, refused: Collection[str] = ()) -> None:
    """Print the table at the end of a run, the notes on it, and a last line."""
    table, notes = summary(columns, estimator, refused)
    console = Console()
    console.print(table)
    for line in [*notes, closing]:
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def summary(columns: dict[str, Metrics], estimator: str, refused: Collection[str]) -> tuple[Table, list[str]]:
    """Return the table of a run, with a column for each set of weights, and notes on how far to trust its estimates.

    Args:
        columns: the metrics of each set of weights.
        estimator: the name of the run's estimator.
        refused: the names of the estimators that cannot be advised, because they do not work for the model.
    """
    table = Table("", *columns, title="test split, nats per example", title_justify="left")

    def add(name: str, label: str | None = None) -> None:
        metric, values = metric_of(name), [metrics.get(name) for metrics in columns.values()]
        if any(value is not None for value in values):
            table.add_row(label or metric.label, *map(metric.shown, values))

    for name in ("elbo", "reconstruction", "kl", "bound"):
        add(f"test/{name}")
    weights, first = next(iter(columns.items()))
    notes = []
    matches = (re.fullmatch(r"test/((?:\w+/)?)log_likelihood", name) for name in sorted(first))  # not best/test/...
    prefixes = [match[1] for match in matches if match]
    used = [prefix.rstrip("/") or estimator for prefix in prefixes]
    for prefix, way in zip(prefixes, used, strict=True):
        full = f"test/{prefix}"
        own = {name.removeprefix(full): value for name, value in first.items() if name.startswith(full)}
        add(f"{full}log_likelihood", f"{'lower bound of ' if is_poor(own) else ''}log p(x), {way}")
        add(f"{full}num_samples", "  samples per example")
        notes += [f"- {way}, {weights}: {sentence}" for sentence in on_estimate(own, prefix, {*used, *refused})]
    add("test/bits_per_dim")
    add("samples_seen")
    return table, notes
