"""Evaluate a run again, or all finished runs of a sweep, from their folders and the data alone.

`python -m vaelab.evaluate run_dir=logs/runs/NAME` or `sweep=logs/sweeps/NAME`. The folders may be untrusted: see
`vaelab.runs.evaluating.reopen`.
"""

from omegaconf import DictConfig

from vaelab.runs.cli import command
from vaelab.runs.validate import check_evaluation


@command("evaluate")
def main(cfg: DictConfig) -> None:
    """Complete the evaluation of a run, or one for each finished run of a sweep."""
    check_evaluation(cfg)
    if cfg.runtime.sweep:
        from vaelab.sweeps.evaluating import launch_evaluations  # after the checks, because it is slow to import

        launch_evaluations(cfg)
    else:
        from vaelab.runs.evaluating.complete import complete_evaluation  # likewise

        complete_evaluation(cfg)


if __name__ == "__main__":
    main()
