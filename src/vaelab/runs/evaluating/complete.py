"""Complete one evaluation of a run folder: evaluate what is left, write and show the results."""

import json
import math
from typing import Any

from omegaconf import DictConfig

from vaelab.files import write_atomically
from vaelab.runs.evaluating.session import Evaluation
from vaelab.runs.evaluating.table import show_evaluation
from vaelab.runs.tracking.loggers import log_evaluation


def complete_evaluation(cfg: DictConfig) -> dict[str, float]:
    """Complete the evaluation that `cfg` describes; return the metrics of the split, without a prefix."""
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
    show_evaluation(title, metrics, module, notes, f"{begun}: {evaluation.folder / 'evaluation.json'}")
    named |= {f"{split}/kl_per_dimension/{i}": kl for i, kl in enumerate(per_dimension)}
    log_evaluation(evaluation.folder, named, own, cfg.wandb_mode)
    return metrics


def write(evaluation: Evaluation, metrics: dict[str, float], more: dict[str, Any]) -> None:
    """Write `evaluation.json`, and the same content under the evaluation's own name in `evaluations/`."""
    numbers = {name: value if math.isfinite(value) else None for name, value in metrics.items()}  # JSON has no NaN
    content = json.dumps(numbers | {"checkpoint": evaluation.cfg.checkpoint} | more, indent=2, default=str)
    for file in (evaluation.kept.whole.with_suffix(".json"), evaluation.folder / "evaluation.json"):
        write_atomically(file, content)
