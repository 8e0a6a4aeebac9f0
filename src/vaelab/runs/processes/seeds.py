"""Complete the runs of one configuration with several seeds together: `seeds=16`."""

import logging
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf

from vaelab.errors import ConfigError, RunFolderError
from vaelab.runs.build import build, make_callbacks
from vaelab.runs.cli import WANTS_TRACEBACK, console, is_usage, one_line, show_traceback, speaker
from vaelab.runs.configuration import plain
from vaelab.runs.execute import check_finished, complete
from vaelab.runs.folder.contents import read_metrics
from vaelab.runs.folder.names import folder_of_seed
from vaelab.runs.folder.run_folder import RunFolder
from vaelab.runs.processes.cores import cores
from vaelab.runs.processes.pool import DiedError, Pool
from vaelab.runs.results import Metrics
from vaelab.runs.tracking.wandb_options import name_apart
from vaelab.runs.validate import processes_of
from vaelab.signals import Interrupted, Stop, heeding
from vaelab.training.cuda_graph import stay_on_cpu
from vaelab.training.other_callbacks import IN_STEPS, names_of, others
from vaelab.training.stacked_runs import Ensemble
from vaelab.training.stacked_step import StackedStep
from vaelab.training.step import Step, Together

log = logging.getLogger(__name__)


@dataclass
class Member:
    """The run of one seed, and its error if it failed."""

    cfg: DictConfig
    path: Path
    error: str | None = None
    usage: bool = False
    stop: BaseException | None = None  # the exception that interrupted the run

    def complete(self, group: str | None, stop: Stop, together: Together | None = None, bar: bool = True) -> None:
        """Complete the run. Store an error instead of raising it, so that the runs of the other seeds continue."""
        token = speaker.set(f"seed {self.cfg.seed}: ")
        try:
            complete(self.cfg, self.path, group, stop, together, bar)
        except BaseException as error:
            if WANTS_TRACEBACK:
                show_traceback(error)
            self.error, self.usage = one_line(error), is_usage(error)
            self.stop = None if isinstance(error, Exception) else error
        finally:
            speaker.reset(token)

    @property
    def finished(self) -> bool:
        """Return whether nothing is left to do; False for an unreadable folder, which `complete` will refuse."""
        try:
            return RunFolder(self.path, plain(self.cfg), self.cfg.runtime.rerun).finished
        except RunFolderError:
            return False


def members_of(cfg: DictConfig, path: Path) -> list[Member]:
    """Return the runs that `seeds=` asks for. The first has the seed `cfg.seed` and the folder `path`."""
    found = []
    for seed in range(cfg.seed, cfg.seed + cfg.runtime.seeds):
        # the choices are resolved here, because a spawned process knows nothing of Hydra
        own = OmegaConf.merge(cfg, {"seed": seed, "runtime": {"seeds": 1, "choices": cfg.runtime.get("choices")}})
        assert isinstance(own, DictConfig)
        found.append(Member(own, path if seed == cfg.seed else folder_of_seed(path, cfg, own)))
        if cfg.runtime.seeds > 1:
            name_apart(own, found[-1].path)
    return found


def complete_seeds(cfg: DictConfig, path: Path, group: str | None, stop: Stop) -> tuple[dict[str, Metrics], str]:
    """Complete the run of each seed, in its own folder; return mean and standard deviation, and a text to print.

    Raises:
        ConfigError, RunFolderError: the runs of some seeds failed; all other seeds are done.
        Interrupted: a signal told the program to stop; the runs can go on.
    """
    members, records = members_of(cfg, path), {}
    for member in members:
        if member.finished:
            check_finished(member.cfg, member.path, records)
    way_of(cfg)([member for member in members if not member.finished], group, stop)
    check_all_done(members)
    folders = "\n".join(f"  {os.path.relpath(member.path)}" for member in members)
    return over_seeds([read_metrics(member.path) for member in members]), f"run folders:\n{folders}"


def way_of(cfg: DictConfig) -> Callable[[Sequence[Member], str | None, Stop], None]:
    """Return the function to complete the runs: `in_processes` on a CPU, `stacked` on a GPU, else `one_by_one`.

    Raises:
        ConfigError: stacked=true, and a callback acts within the steps, which stacked runs share.
    """
    acting = others(make_callbacks(cfg, bar=False), IN_STEPS)
    if cfg.runtime.stacked and acting:
        raise ConfigError(f"{names_of(acting)} acts within steps, which stacked seeds share: type stacked=false")
    if cfg.runtime.stacked:
        return stacked
    if processes_of(cfg.runtime) > 1:
        return one_by_one
    # checked last, because the forked children of a process that has looked for GPUs cannot use one
    on_gpu = cfg.runtime.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    if not on_gpu:
        return in_processes
    apart = cfg.runtime.stacked is False or cfg.compile or cfg.on_nan != "stop" or acting
    if not apart and (reason := why_not_stacked(cfg)):
        log.warning("the seeds train one after another, because they cannot share a step: %s", reason)
        return one_by_one
    return one_by_one if apart else stacked


def why_not_stacked(cfg: DictConfig) -> str | None:
    """Take a stacked step of two small minibatches on the CPU; return why it failed, or None."""
    data, module = build(cfg)
    models = module.vae, deepcopy(module.vae)
    steps = [Step(m, module.objective, data, module.optimizer(m.parameters()), module.weight_prior) for m in models]
    for step in steps:
        stay_on_cpu(step.optimizer)
    indices = torch.arange(min(2, data.num_train)).expand(2, -1)
    try:
        StackedStep(steps)(indices, indices.shape[1], (("train", 0, 0, 0, 0), ("train", 1, 0, 0, 0)))
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    return None


def stacked(members: Sequence[Member], group: str | None, stop: Stop) -> None:
    """Complete the runs in this process, with one training step for all of them."""
    ensemble = Ensemble(stop)
    runs = [partial(member.complete, group, stop, ensemble, bar=i == 0) for i, member in enumerate(members)]
    ensemble.conduct(runs)


def one_by_one(members: Sequence[Member], group: str | None, stop: Stop) -> None:
    """Complete the runs one after another."""
    for member in members:
        member.complete(group, stop)
        if member.stop is not None:
            raise member.stop


def in_processes(members: Sequence[Member], group: str | None, stop: Stop) -> None:
    """Complete the runs in single-threaded processes, as many at a time as there are cores; show one progress bar."""
    # after a backward pass, as in a rehearsal, a process that sees GPUs has threads that do not survive a fork
    forks = sys.platform == "linux" and not torch.cuda.is_available()
    context = multiprocessing.get_context("fork" if forks else "spawn")
    bars = [i == 0 for i in range(cores())]
    with Pool(context, partial(_in_process, group), bars) as pool, stop.patiently():
        for ended in pool.run(members):
            if ended is not None:
                member, answer = ended
                died = isinstance(answer, DiedError)
                member.error, member.usage = (f"its process {answer}", False) if died else answer
            if stop.asked is not None:
                pool.stop()


def _in_process(group: str | None, member: Member, bar: bool) -> tuple[str | None, bool]:
    torch.set_num_threads(1)  # one core each; more threads would also be unsafe after a fork
    forked = bool(logging.getLogger().handlers)  # and has the parent's console; a spawned process makes its own
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1):
        if callable(signal.getsignal(number)):  # inherited from the parent by a fork
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    with nullcontext() if forked else console(), suppress(Interrupted), heeding(answerable=False) as stop:
        member.complete(group, stop, bar=bar)
    return member.error, member.usage


def check_all_done(members: Sequence[Member]) -> None:
    """Raise an error with the reasons if some runs failed."""
    failed = [member for member in members if member.error is not None]
    if not failed:
        return
    if len(failed) == len(members) and len({member.error for member in members}) == 1:
        raise (ConfigError if failed[0].usage else RunFolderError)(failed[0].error)
    others = "" if len(failed) == len(members) else ", the others are done"
    reasons = "; ".join(f"seed {member.cfg.seed}: {member.error}" for member in failed)
    raise RunFolderError(f"{len(failed)} of {len(members)} seeds failed{others}: {reasons}")


def over_seeds(metrics: Sequence[Metrics]) -> dict[str, Metrics]:
    """Return mean and standard deviation of each metric that all runs have."""
    names = [name for name in metrics[0] if all(name in found for found in metrics)]
    values = {name: [found[name] for found in metrics] for name in names}
    spread = {name: float(np.std(found, ddof=1)) for name, found in values.items() if len(set(found)) > 1}
    return {
        f"mean of {len(metrics)} seeds": {name: float(np.mean(found)) for name, found in values.items()},
        "standard deviation": spread,
    }
