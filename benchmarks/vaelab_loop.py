"""vaelab's contenders, built as `python -m vaelab.train` builds them: a worker of `run.py`."""

import dataclasses
import logging
import multiprocessing
from functools import partial
from multiprocessing.connection import Connection

import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from usual import SKIP, Timer, quiet_trainer
from worker import SEEDS, Job, Loop, serve

from vaelab.data import ImageData
from vaelab.runs.build import build
from vaelab.runs.command_line import hydra_overrides
from vaelab.runs.configuration import CONF
from vaelab.signals import Stop
from vaelab.training import VAEModule
from vaelab.training.other_callbacks import ON_GPU
from vaelab.training.stacked_runs import Ensemble

OVERRIDES = {
    "vaelab-step": ["steps_per_call=1", "cuda_graphs=false"],
    "vaelab-scan": ["cuda_graphs=false"],
    "vaelab-compile": ["compile=true", "cuda_graphs=false"],
    "vaelab-graph": ["cuda_graphs=true"],
    "vaelab-compile-graph": ["compile=true", "cuda_graphs=true"],
    "vaelab-stacked": [],
}
notes: list[str] = []


class WarningNotes(logging.Handler):
    """Copy vaelab's warnings into the notes, such as that a step could not be captured."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage() not in notes:
            notes.append(record.getMessage())


def overrides(job: Job) -> list[str]:
    sizes = job.network
    network = [f"hidden_features={sizes.hidden}", f"latent_dim={sizes.latent}", f"batch_size={sizes.batch_size}"]
    return [f"data={job.data}", *network, *OVERRIDES[job.contender]]


def built(job: Job, *more: str) -> tuple[ImageData, VAEModule]:
    with initialize_config_dir(CONF, version_base="1.3"):
        return build(compose("train", hydra_overrides("train", [*overrides(job), *more])))


def trained(job: Job, data: ImageData, module: VAEModule) -> Loop:
    """Return a loop that continues the training of one model, with a new trainer for each call."""

    def loop(steps: int) -> tuple[int, float]:
        module.max_steps = module.steps + warm_up(data) + steps
        timer = Timer(lambda: module.steps, job.device)
        module.on_train_batch_end = timer.tick  # not a callback's hook, which would end each call after one step
        quiet_trainer(job.device, timer).fit(module, data)
        if module.steps != module.max_steps:
            raise RuntimeError(f"training stopped at step {module.steps}, not {module.max_steps}")
        return timer.result

    return loop


def warm_up(data: ImageData) -> int:
    """Return how many steps a fit takes before the timer starts, which it does at the end of a Lightning step."""
    return SKIP + (data.batches_per_chunk or ON_GPU)


def stacked(job: Job) -> Loop:
    """Return a loop that trains a model for each seed together; one joint step counts as a step of each seed."""
    seeds = SEEDS[job.device]
    models = [built(job, f"seed={seed}") for seed in range(seeds)]
    first = models[0][1]

    def loop(steps: int) -> tuple[int, float]:
        ensemble = Ensemble(Stop())
        timer = Timer(lambda: first.steps, job.device)
        first.on_train_batch_end = timer.tick

        def fit(data: ImageData, module: VAEModule) -> None:
            module.together = ensemble
            module.max_steps = module.steps + warm_up(data) + steps // seeds
            quiet_trainer(job.device, timer if module is first else pl.Callback()).fit(module, data)

        ensemble.conduct([partial(fit, *pair) for pair in models])
        if any(module.steps != module.max_steps for _, module in models):
            raise RuntimeError("training stopped before its last step")
        return timer.result[0] * seeds, timer.result[1]

    return loop


def in_processes(job: Job) -> Loop:
    """Return a loop that trains a model in each of as many single-threaded processes as there are threads."""
    context = multiprocessing.get_context("fork")
    pipes = [context.Pipe() for _ in range(job.threads or torch.get_num_threads())]
    alone = dataclasses.replace(job, contender="vaelab-scan")
    for _, child_end in pipes:
        context.Process(target=_answer, args=(alone, child_end), daemon=True).start()

    def loop(steps: int) -> tuple[int, float]:
        for parent_end, _ in pipes:
            parent_end.send(steps // len(pipes))
        results = [parent_end.recv() for parent_end, _ in pipes]
        return sum(taken for taken, _ in results), max(seconds for _, seconds in results)

    return loop


def _answer(job: Job, parent: Connection) -> None:
    torch.set_num_threads(1)
    loop = trained(job, *built(job))
    while True:
        parent.send(loop(parent.recv()))


def make(job: Job) -> Loop:
    logging.getLogger("vaelab").addHandler(WarningNotes(logging.WARNING))
    multiple = {"vaelab-stacked": stacked, "vaelab-processes": in_processes}
    return multiple[job.contender](job) if job.contender in multiple else trained(job, *built(job))


if __name__ == "__main__":
    serve(make, notes)
