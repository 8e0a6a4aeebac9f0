"""Completes the runs of several seeds of one configuration together: `seeds=16`."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.utilities.exceptions import SIGTERMException

from vaelab.checks import ConfigError
from vaelab.cli import USAGE, one_line
from vaelab.complete import complete
from vaelab.ensemble import Ensemble, InterruptedTogether
from vaelab.names import folder_of_seed
from vaelab.results import Metrics
from vaelab.stored import RunFolderError, read_json


@dataclass
class Member:
    """The run of one seed; afterwards, what went wrong with it, if something did."""

    cfg: DictConfig
    path: Path
    error: str = ""
    usage: bool = False

    def fail(self, error: BaseException) -> None:
        self.error, self.usage = one_line(error), isinstance(error, USAGE)


def members_of(cfg: DictConfig, path: Path) -> list[Member]:
    """The runs that `cfg.seeds` asks for, beginning with that of `cfg.seed`, whose folder is `path`."""
    found = []
    for seed in range(cfg.seed, cfg.seed + cfg.seeds):
        own = OmegaConf.merge(cfg, {"seed": seed, "seeds": 1})
        assert isinstance(own, DictConfig)
        found.append(Member(own, path if seed == cfg.seed else folder_of_seed(path, cfg, own)))
    return found


def complete_seeds(cfg: DictConfig, path: Path, group: str | None) -> tuple[dict[str, Metrics], str]:
    """Completes the run of each seed, in its own folder: stacked on a GPU, else in a process for each core.

    Returns:
        Mean and standard deviation over the seeds of what `metrics.json` holds, and a line that names the folders.

    Raises:
        ConfigError: no seed could be run, and all for the same reason.
        RunFolderError: some could not; the others are done.
    """
    members = members_of(cfg, path)
    with terminating_raises():
        complete_together = stacked if is_stacked(cfg) else in_processes
        complete_together(members, group)
    check_all_done(members)
    folders = "\n".join(f"  {os.path.relpath(member.path)}" for member in members)
    return over_seeds([read_json(member.path / "metrics.json") for member in members]), f"run folders:\n{folders}"


def is_stacked(cfg: DictConfig) -> bool:
    """Whether the seeds share their training steps: if `cfg.stacked` leaves it open, where that pays, on a GPU."""
    if cfg.stacked is not None:
        return cfg.stacked
    return torch.cuda.is_available() and cfg.trainer.accelerator in ("auto", "gpu", "cuda") and not cfg.compile


def stacked(members: Sequence[Member], group: str | None) -> None:
    """Completes the runs in this process, with one training step for all of them."""
    ensemble = Ensemble()

    def run(member: Member, bar: bool) -> None:
        try:
            complete(member.cfg, member.path, group, ensemble, bar)
        except (Exception, InterruptedTogether, SystemExit) as error:
            member.fail(error)

    ensemble.conduct([partial(run, member, bar=i == 0) for i, member in enumerate(members)])


def in_processes(members: Sequence[Member], group: str | None) -> None:
    """Completes the runs in processes of one thread each, as many at a time as PyTorch would use threads."""
    context: Any = multiprocessing.get_context("fork" if "fork" in multiprocessing.get_all_start_methods() else None)
    waiting, running = list(members), dict[int, tuple[Member, BaseProcess, Connection]]()
    try:
        while waiting or running:
            while waiting and len(running) < torch.get_num_threads():
                member, (theirs, ours) = waiting.pop(0), context.Pipe(duplex=False)[::-1]
                bar = not any(process.name == "bar" for _, process, _ in running.values())
                process = context.Process(
                    target=_in_process, args=(member, group, bar, theirs), name="bar" if bar else None
                )
                process.start()
                theirs.close()
                running[process.sentinel] = member, process, ours
            for sentinel in wait(list(running)):
                member, process, ours = running.pop(sentinel)  # type: ignore[index]
                _end(member, process, ours)
    except BaseException:
        for _, process, _ in running.values():
            process.terminate()
        for _, process, _ in running.values():
            process.join()
        raise


def _in_process(member: Member, group: str | None, bar: bool, parent: Connection) -> None:
    torch.set_num_threads(1)  # which is also safe after a fork
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        complete(member.cfg, member.path, group, bar=bar)
    except BaseException as error:
        member.fail(error)
        parent.send((member.error, member.usage))


def _end(member: Member, process: BaseProcess, child: Connection) -> None:
    process.join()
    if child.poll():
        with suppress(EOFError):  # it ended without a word
            member.error, member.usage = child.recv()
    if process.exitcode and not member.error:
        member.error = f"its process ended with exit code {process.exitcode}"


def check_all_done(members: Sequence[Member]) -> None:
    """Raises what became of the runs that are not done; see `complete_seeds`."""
    failed = [member for member in members if member.error]
    if not failed:
        return
    if len(failed) == len(members) and len({member.error for member in members}) == 1:
        raise (ConfigError if failed[0].usage else RunFolderError)(failed[0].error)
    reasons = "; ".join(f"seed {member.cfg.seed}: {member.error}" for member in failed)
    raise RunFolderError(f"{len(failed)} of {len(members)} seeds failed, the others are done: {reasons}")


def over_seeds(metrics: Sequence[Metrics]) -> dict[str, Metrics]:
    """Mean and standard deviation of each metric that all have."""
    names = [name for name in metrics[0] if all(name in found for found in metrics)]
    values = {name: [found[name] for found in metrics] for name in names}
    spread = {name: stdev(found) for name, found in values.items() if len(set(found)) > 1}
    return {
        f"mean of {len(metrics)} seeds": {name: mean(found) for name, found in values.items()},
        "standard deviation": spread,
    }


@contextmanager
def terminating_raises() -> Iterator[None]:
    """Turns SIGTERM into an exception, as Lightning does while it trains."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: Any) -> None:
        raise SIGTERMException

    former = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)
