"""What `import vaelab` offers: open a run, train one, train a sweep, compare. Each does what a command line does."""

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex, overload

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from vaelab.errors import ConfigError, SweepError
from vaelab.reporting.comparing import Compared
from vaelab.reporting.comparing import compare_runs as compared
from vaelab.runs.calling import Overrides, composing, like_a_command, raising, run_once, without_main, words_of
from vaelab.runs.command_line import as_typed, hydra_overrides
from vaelab.runs.complete import complete_runs
from vaelab.runs.configuration import contents
from vaelab.runs.opened import Curve, Run, evaluation_words
from vaelab.runs.validate import check_evaluation, processes_of
from vaelab.security.allow_list import own_packages
from vaelab.signals import heeding

if TYPE_CHECKING:  # slow to import
    from vaelab.runs.evaluating.complete import Evaluated

__all__ = ["Compared", "Curve", "Run", "Runs", "compare_runs", "fit", "load", "run_sweep"]
StrPath = str | os.PathLike[str]


class Runs(list[Run]):
    """The runs of a sweep, in its order.

    Attributes:
        folder: the sweep's folder.
        whole: whether these are all runs of a call of `run_sweep`, with the weights that it left.
    """

    def __init__(self, runs: Sequence[Run], folder: Path, whole: bool = False) -> None:
        super().__init__(runs)
        self.folder, self.whole = folder, whole

    @overload
    def __getitem__(self, index: SupportsIndex) -> Run: ...
    @overload
    def __getitem__(self, index: slice) -> "Runs": ...
    def __getitem__(self, index: SupportsIndex | slice) -> "Run | Runs":
        found = super().__getitem__(index)
        return found if isinstance(found, Run) else Runs(found, self.folder)

    def with_weights(self, weights: Literal["last", "best"]) -> "Runs":
        """Return the same runs with other weights."""
        return Runs([run.with_weights(weights) for run in self], self.folder)

    def evaluate(self, overrides: Overrides = ()) -> "list[Evaluated]":
        """Evaluate these runs, and no others of the folder, several at a time, each in a process of its own.

        Each is evaluated as `python -m vaelab.evaluate sweep=FOLDER OVERRIDES` would. The processes do not import your
        script: keep classes of your own in a module.

        Return for each run, in their order, what `Run.evaluate` returns.

        Args:
            overrides: what you would type: `"estimator=ais limit=100"` or a list of these; `hydra/launcher=` too.

        Raises:
            ConfigError: the overrides are wrong, or the runs differ in their kind of weights or folder of data.
            RunFolderError: a run is not finished, or no run of the folder.
            SweepError: some evaluations are not done; the same call tries these again.
            KeyboardInterrupt: what was evaluated is kept; the same call goes on.
        """
        if len({run.weights for run in self}) > 1:
            raise ConfigError('some runs have their last weights and some their best: call runs.with_weights("last")')
        if len(folders := {run.data_dir for run in self}) > 1:
            raise ConfigError(f"the runs have data in {' and '.join(sorted(folders))}: open them with one data_dir")
        if not self:
            return []
        words = evaluation_words(self[0], overrides, sweep=self.folder)
        only = {run.path: run.trusted for run in self}
        with like_a_command(config="evaluate") as hydra, without_main():
            found = run_once(hydra, "evaluate", words, partial(_evaluated, only))
        return [found[run.path] for run in self]

    def __repr__(self) -> str:
        return "\n".join([f"{len(self)} runs in {os.path.relpath(self.folder)}:", *(f"  {run!r}" for run in self)])


def load(
    path: StrPath,
    weights: Literal["last", "best"] = "last",
    data_dir: StrPath | None = None,
    trust: str | Sequence[str] = (),
) -> Run:
    """Open a run folder. It may be a stranger's, because no code of it runs.

    Args:
        path: the run folder, `logs/runs/NAME` or a job of a sweep.
        weights: those after the last step, which `metrics` and figures are of, or those of the best validation.
        data_dir: folder of the data files; by default that in `$VAELAB_DATA_DIR`, or else `data`.
        trust: packages of your own whose classes the model may be made of.

    Raises:
        RunFolderError: the folder is no run folder.
        ConfigError: `weights` or `trust` has another value.
    """
    with raising():
        return Run(path, weights, data_dir, trust)


def fit(overrides: Overrides = (), *, config_dir: StrPath | None = None, **settings: Any) -> Run:
    """Complete the run that `python -m vaelab.train OVERRIDES` would complete, in the same folder; return it.

    A finished run is returned at once, and an interrupted one resumes. A keyboard interrupt, as by a notebook's stop
    button, first writes a checkpoint. `devices=2` is possible in a script, but not in a notebook; the processes do not
    import your script, so keep classes of your own in a module. With `keep=best`, the run has the best weights.

    Args:
        overrides: what you would type: `"data=mnist latent_dim=2"` or `["data=mnist", "latent_dim=2"]`.
        config_dir: a folder with YAML files of your own, as `--config-dir`.
        settings: further overrides of which the key is one word: `fit(data="mnist", latent_dim=2)`.

    Raises:
        ConfigError: the overrides are wrong, or make several runs.
        RunFolderError, DataError, DivergedError: see `vaelab.errors`.
        KeyboardInterrupt: there is a checkpoint; the same call goes on.
    """
    given = [f"{key}={as_typed(value)}" for key, value in settings.items()]
    with like_a_command(config_dir) as hydra:
        return run_once(hydra, "train", hydra_overrides("train", [*words_of(overrides), *given]), _complete)


def run_sweep(overrides: Overrides, *, config_dir: StrPath | None = None, allow_failed: bool = False) -> Runs:
    """Complete the sweep that `python -m vaelab.train -m OVERRIDES` would complete, in the same folder.

    Return its runs.

    Each job has a process of its own, which does not import your script: keep classes of your own in a module.

    Args:
        overrides: what you would type: `"latent_dim=2,5 seed=range(3)"` or `["latent_dim=2,5", "seed=range(3)"]`.
        config_dir: a folder with YAML files of your own, as `--config-dir`.
        allow_failed: also return if jobs have failed, as those that diverge do; their runs have the `state` failed.

    Raises:
        ConfigError: the overrides are wrong.
        SweepError: some jobs are not done; the same call tries these again.
        KeyboardInterrupt: the jobs that ran have checkpoints; the same call goes on.
    """
    with like_a_command(config_dir) as hydra, without_main():
        from vaelab.runs.processes.seeds import members_of  # slow to import

        words = [*hydra_overrides("train", words_of(overrides)), "hydra.mode=MULTIRUN"]
        with composing():
            try:
                sweep: Any = hydra.multirun("train", None, words, with_log_configuration=False)  # type: ignore[arg-type]
            except SweepError as error:
                sweep = error.sweep
                if sweep is None or not allow_failed:
                    raise
        members = {member.path: member.cfg for job in sweep.jobs for member in members_of(job.cfg, job.path)}
        return Runs([_opened(cfg, path) for path, cfg in members.items()], sweep.folder.path, whole=True)


def compare_runs(runs: Runs | Sequence[Run | StrPath]) -> Compared:
    """Compare settings or runs in pairs, example by example, as `python -m vaelab.compare` does.

    The test results of the last weights are compared.

    Args:
        runs: what `run_sweep` returned, of which all settings are compared; or runs, folders and patterns. A run or a
            pattern is one side, and a sweep's folder has a side for each setting.

    Raises:
        ConfigError: there are fewer than two sides, a pattern matches several settings, or a run has its best weights.
        RunFolderError: there is no such folder, or no two sides can be compared.
    """
    sides = [runs.folder] if isinstance(runs, Runs) and runs.whole else [_side(run) for run in runs]
    with raising():
        return compared([os.path.relpath(side) for side in sides])


def _complete(cfg: DictConfig) -> Run:
    if name := cfg.runtime.sweep.name or HydraConfig.get().runtime.choices.get("sweep"):
        raise ConfigError(f"{name} is a sweep, and vaelab.fit makes one run: call vaelab.run_sweep")
    if cfg.runtime.seeds != 1:
        seeds = f"seed=range({cfg.runtime.seeds})"
        raise ConfigError(
            f"vaelab.fit makes one run, found seeds={cfg.runtime.seeds}: call vaelab.run_sweep with {seeds}"
        )
    if (processes := processes_of(cfg.runtime)) > 1 and hasattr(sys, "ps1"):
        instead = "call vaelab.run_sweep with the same overrides, whose job is a process of its own"
        raise ConfigError(f"devices={processes} is not possible in an interactive session: {instead}")
    if processes > 1 and "__main__" in own_packages(contents(cfg)):
        instead = "keep classes of your own in a module, as mine.Head instead of __main__.Head"
        raise ConfigError(f"devices={processes} starts processes that do not import your script: {instead}")
    path = Path(HydraConfig.get().runtime.output_dir)
    with heeding() as stop, without_main() if processes > 1 else nullcontext():
        complete_runs(cfg, path, None, stop)
    return _opened(cfg, path)


def _evaluated(only: Mapping[Path, Sequence[str]], cfg: DictConfig) -> "dict[Path, Evaluated]":
    check_evaluation(cfg)
    from vaelab.sweeps.evaluating import launch_evaluations  # slow to import

    return launch_evaluations(cfg, only)


def _opened(cfg: DictConfig, path: Path) -> Run:
    """Open a run of the caller's own, whose classes are trusted because the caller has named them."""
    kept = [file.name for file in (path / "checkpoints").glob("*.ckpt")]
    weights = "best" if "best.ckpt" in kept and "last.ckpt" not in kept else "last"
    return Run(path, weights, data_dir=cfg.runtime.data_dir, trust=own_packages(contents(cfg)))


def _side(run: Run | StrPath) -> StrPath:
    if isinstance(run, Run) and run.weights == "best":
        raise ConfigError(f"compare_runs compares the last weights, found {run!r}: give its folder, which is run.path")
    return run.path if isinstance(run, Run) else run
