"""Evaluate a run again, from its folder and the data alone: `python -m vaelab.evaluate run_dir=logs/runs/NAME`.

The folder may be a stranger's: see `vaelab.runs.evaluating.reopen`.
"""

import json
import math
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from vaelab.files import write_atomically
from vaelab.runs.cli import command
from vaelab.runs.configuration import contents
from vaelab.runs.evaluating.cache import KeptEvaluation
from vaelab.runs.evaluating.session import Evaluated, Evaluation, evaluate_share
from vaelab.runs.evaluating.table import show_evaluation
from vaelab.runs.processes.distributed import launch
from vaelab.runs.tracking.loggers import log_evaluation
from vaelab.runs.validate import check_evaluation, processes_of


@command("evaluate")
def main(cfg: DictConfig) -> float:
    """Complete the evaluation that `cfg` describes; return the bound in nats."""
    check_evaluation(cfg)
    evaluation, num_processes = Evaluation(cfg), processes_of(cfg.runtime)
    with KeptEvaluation(evaluation.folder, evaluation.name).held(anew=cfg.runtime.rerun):
        evaluated = evaluation.run() if num_processes == 1 else launch(evaluate_share, num_processes, contents(cfg))
    file = write(evaluation, evaluated)
    split, own = cfg.split, evaluated.comparability
    metrics = {name.removeprefix(f"{split}/"): value for name, value in evaluated.metrics.items()}
    part = "all" if own["examples"] == own["of"] else f"first {own['examples']:,} of"
    title = f"{own['data']}: {split} split, {part} {own['of']:,} examples, {cfg.checkpoint} weights"
    closing = f"evaluated before (rerun=true evaluates again): {file}" if evaluated.found_before else f"written: {file}"
    show_evaluation(title, metrics, evaluated.estimators, evaluated.notes, closing)
    per_dimension = {f"{split}/kl_per_dimension/{i}": kl for i, kl in enumerate(evaluated.kl_per_dimension)}
    log_evaluation(evaluation.folder, evaluated.metrics | per_dimension, cfg.wandb_mode)
    return metrics["elbo"]


def write(evaluation: Evaluation, evaluated: Evaluated) -> Path:
    """Write `evaluation.json`, and the same content under the evaluation's own name in `evaluations/`."""
    content: dict[str, Any] = {
        name: value if math.isfinite(value) else None for name, value in evaluated.metrics.items()
    }
    content |= {"checkpoint": evaluation.cfg.checkpoint, "kl_per_dimension": evaluated.kl_per_dimension}
    content |= {"comparability": evaluated.comparability, "notes": evaluated.notes}
    for name in (f"evaluations/{evaluation.name}.json", "evaluation.json"):
        write_atomically(evaluation.folder / name, json.dumps(content, indent=2, default=str))
    return evaluation.folder / "evaluation.json"


if __name__ == "__main__":
    main()
