"""Complete one run, or the runs of several seeds."""

from collections.abc import Mapping
from pathlib import Path

from omegaconf import DictConfig

from vaelab.runs.arguments import check_arguments
from vaelab.runs.validate import MODEL_PARTS, check
from vaelab.signals import Stop

Metrics = dict[str, float]
WITHOUT_LIGHTNING = (*(part for part in MODEL_PARTS if part != "data"), "optimizer", "initialization", "weight_prior")


def complete_runs(cfg: DictConfig, path: Path, group: str | None, stop: Stop) -> tuple[dict[str, Metrics], str]:
    """Complete the run that `cfg` describes, or one run for each of its seeds.

    Wrong values are refused before PyTorch is imported, and wrong arguments of vaelab's classes before Lightning is.

    Returns:
        Columns for `results.show`, and a line that says what was done.
    """
    check(cfg, several=group is not None)
    from vaelab.runs.model import check_parts
    from vaelab.runs.processes.cores import limit_threads

    limit_threads()
    check_arguments(cfg, *WITHOUT_LIGHTNING)
    check_parts(cfg)
    check_arguments(cfg)  # of the others, whose classes import Lightning
    from vaelab.runs.execute import complete
    from vaelab.runs.processes.seeds import complete_seeds, members_of
    from vaelab.runs.rehearsal import rehearse
    from vaelab.runs.results import both

    if not all(member.finished for member in members_of(cfg, path)):
        rehearse(cfg)
    if cfg.runtime.seeds > 1:
        return complete_seeds(cfg, path, group, stop)
    metrics, closing = complete(cfg, path, group, stop)
    return both(metrics), closing


def value_of(columns: Mapping[str, Metrics]) -> float:
    """Return the value that a search maximises: the validation bound of the first column, in nats."""
    return next(iter(columns.values()))["val/elbo"]
