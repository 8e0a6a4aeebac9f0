"""Complete one evaluation of a run folder: evaluate what is left, write the results, and show them in 80 columns."""

import json
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Column, Table
from torch import Tensor

from vaelab.evaluation.declared import metric_of
from vaelab.evaluation.lightning_module import EvaluationModule
from vaelab.evaluation.trust import is_poor
from vaelab.files import write_atomically
from vaelab.runs.evaluating.cache import read_examples
from vaelab.runs.evaluating.session import Evaluation
from vaelab.runs.processes.cores import limit_threads
from vaelab.runs.tracking.loggers import log_evaluation

Metrics = Mapping[str, float]
DIAGNOSTICS = {"num_samples": "K={:.0f}", "effective_sample_size": "ESS {:.1f}", "pareto_k": "k {:.2f}"}
DIAGNOSTICS |= {"acceptance_rate": "accept {:.2f}"}


class Evaluated(dict[str, float]):
    """The metrics of an evaluation, by their names without the split: `evaluated["log_likelihood"]`.

    Attributes:
        file: the file with the values of each example.
    """

    def __init__(self, metrics: Metrics, file: Path) -> None:
        super().__init__(metrics)
        self.file = file

    @cached_property
    def examples(self) -> dict[str, Tensor]:
        """The values of each example by name, in the order of the split; NaN where one could not be evaluated.

        Some names have the first examples only, and those that begin with `simulated_` have examples that the model
        drew. Of several estimators, each value has the estimator's name before its own, as in `ais/log_likelihood`.
        """
        return read_examples(self.file)


def complete_evaluation(cfg: DictConfig, show: bool = True) -> Evaluated:
    """Complete the evaluation that `cfg` describes, and show it."""
    limit_threads()
    evaluation = Evaluation(cfg)
    module, split, own = evaluation.module, cfg.split, evaluation.comparability
    begun = "written" if evaluation.complete() else "evaluated before (rerun=true evaluates again)"
    metrics = module.test_summary(evaluation.data)
    notes, per_dimension = evaluation.notes(metrics), evaluation.kl_per_dimension
    named = {f"{split}/{name}": value for name, value in metrics.items()}
    named |= {"steps": module.steps, "samples_seen": module.samples_seen}
    write(evaluation, named, {"kl_per_dimension": per_dimension, "comparability": own, "notes": notes})
    part = "all" if own["examples"] == own["of"] else f"first {own['examples']:,} of"
    title = f"{own['data']}: {split} split, {part} {own['of']:,} examples, {cfg.checkpoint} weights"
    title += f"\nprior fitted to the training data: {own['fitted_prior']}" if "fitted_prior" in own else ""
    closing = f"samples: {evaluation.prior_samples}\n" if evaluation.fitted else ""
    if show:
        show_evaluation(title, metrics, module, notes, f"{closing}{begun}: {evaluation.folder / 'evaluation.json'}")
    named |= {f"{split}/kl_per_dimension/{i}": kl for i, kl in enumerate(per_dimension)}
    log_evaluation(evaluation.folder, named, own, cfg.wandb_mode)
    return Evaluated(metrics, evaluation.kept.whole)


def write(evaluation: Evaluation, metrics: dict[str, float], more: dict[str, Any]) -> None:
    """Write `evaluation.json`, and the same content under the evaluation's own name in `evaluations/`."""
    numbers = {name: value if math.isfinite(value) else None for name, value in metrics.items()}  # JSON has no NaN
    content = json.dumps(numbers | {"checkpoint": evaluation.cfg.checkpoint} | more, indent=2, default=str)
    for file in (evaluation.kept.whole.with_suffix(".json"), evaluation.folder / "evaluation.json"):
        write_atomically(file, content)


def show_evaluation(title: str, metrics: Metrics, module: EvaluationModule, notes: Sequence[str], closing: str) -> None:
    """Print the metrics of `EvaluationModule.test_summary`, the notes on them, and a last line."""
    in_bits = any(name.endswith("bits_per_dim") for name in metrics)
    columns = [Column(name, justify="right") for name in ("nats", "+-", "bits/dim")[: 2 + in_bits]]
    table = Table("", *columns, "", title=title, caption="+-: one standard error")
    table.title_justify = table.caption_justify = "left"

    def add(of: Metrics, label: str, name: str, error: str = "", bits: str = "", note: str = "") -> None:
        if name in of:
            forms = {name: ".3f", error: ".3f", bits: ".4f"}
            numbers = [format(of[key], forms[key]) if key in of else "" for key in (name, error, bits)]
            label = label.format(metric_of(name, module.objective.metrics).label)
            table.add_row(label, *numbers[: len(columns)], note)

    over_examples = "+- over examples" if "sampling_error" in metrics else ""
    add(metrics, "{}", "elbo", "sampling_error", "bits_per_dim", over_examples)
    add(metrics, "  {}", "distortion", "distortion_error", note="-E log p(x|z)")
    add(metrics, "  {}", "rate", "rate_error", note="KL(q(z|x) || p(z))")
    add(metrics, "{}", "bound")
    add(metrics, "{}", "fitted_elbo", "fitted_elbo_error", note="fitted per example")
    add(metrics, "  {}", "amortization_gap", "amortization_gap_error", note="best q - encoder's")
    for prefix, estimator in module.estimators.items():
        table.add_section()
        own = {name.removeprefix(prefix): value for name, value in metrics.items() if name.startswith(prefix)}
        note = " ".join(text.format(own[name]) for name, text in DIAGNOSTICS.items() if name in own)
        bits = "log_likelihood_bits_per_dim"
        label, error = ("lower bound", "") if is_poor(own) else ("{}", "standard_error")
        add(own, f"{label}, {estimator.name}", "log_likelihood", error, bits, note)
        add(own, "  {}", "approximation_gap", "approximation_gap_error", note="log p(x) - best q")
        add(own, "  {}", "log_mass", "log_mass_standard_error", "log_mass_bits_per_dim", "over dequantisations")
        add(own, "  {}", "simulated_lower", note="of examples that the")
        add(own, "  {}", "simulated_upper", note="model itself drew")
        add(own, "  {}", "simulated_gap", "simulated_gap_error")
    table.add_section()
    limit = "at most log N = {mutual_information_limit:.2f}" if "mutual_information" in metrics else ""
    add(metrics, "{}", "mutual_information", "mutual_information_error", note=limit.format(**metrics))
    active = "{active_units:.0f} of {latent_dim:.0f} units active" if "active_units" in metrics else ""
    add(metrics, "{}", "marginal_kl", "marginal_kl_error", note=active.format(**metrics))
    inside = f"{metrics['coverage_90']:.1%} of the pixels"
    table.add_row(metric_of("coverage_90").label, *("" for _ in columns), inside)
    console = Console()
    console.print(table)
    for line in [*(f"- {note}" for note in notes), closing]:
        console.print(line, highlight=False, soft_wrap=True, markup=False)
