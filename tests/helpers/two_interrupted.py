"""A program that each of two processes runs: training that is interrupted, goes on, skips a step, and is killed.

`python -m torch.distributed.run --nproc-per-node=2 -m tests.helpers.two_interrupted FOLDER begin|go_on`
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist

from tests.helpers.objectives import Changed
from tests.helpers.training import configured
from vaelab.objectives import Terms
from vaelab.randomness import stream
from vaelab.runs.build import build, make_callbacks
from vaelab.signals import Interrupted, heeding
from vaelab.training.step import Step

LINE = ("trainer.max_epochs=3", "steps_per_call=5", "lr_schedule=cosine", "checkpoint_every_n_steps=5")


def train(path: Path, *overrides: str, resume: bool = False, prepare: Callable[[Any], Any] = id) -> dict[str, Any]:
    """Trains in two processes, with checkpoints below `path`; a signal ends it early."""
    path.joinpath("checkpoints").mkdir(parents=True, exist_ok=True)
    cfg = configured(*LINE, *overrides)
    data, module = build(cfg)
    prepare(module)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, "num_sanity_val_steps": 0}
    trainer = pl.Trainer(
        max_epochs=3,
        default_root_dir=path,
        callbacks=make_callbacks(cfg, bar=False),
        use_distributed_sampler=False,
        **{"devices": 2, "strategy": "ddp", "accelerator": "cpu"},  # type: ignore[arg-type]
        **quiet,
    )
    last, stopped = path / "checkpoints" / "last.ckpt" if resume else None, False
    try:
        with heeding() as module.stop, module.stop.patiently():
            trainer.fit(module, data, ckpt_path=last, weights_only=True)
    except Interrupted:
        stopped = True
    weights = {name: value.clone() for name, value in module.state_dict().items()}
    return {"weights": weights, "steps": module.steps, "stopped": stopped, "skipped": module.guard.skipped}


def at_step(number: int, rank: int, act: Callable[[], None]) -> None:
    """Has a process do something right before a step of the next training."""
    call, calls = Step.__call__, iter(range(1, 1000))

    def wrapped(self: Step, *minibatch: Any) -> None:
        if next(calls) == number and int(os.environ["RANK"]) == rank:
            act()
        call(self, *minibatch)

    Step.__call__ = wrapped  # type: ignore[method-assign]


def breaking(module: Any) -> None:
    """Has the bound of the first example of this process's share be no number at step 22 of process 1."""
    noise = stream("train", 0, 1, 6, 1)

    def broken(terms: Terms, vae: Any) -> Terms:
        if vae.training and torch.initial_seed() == noise:
            terms.loss[0] += float("nan")
        return terms

    module.objective = Changed(broken)


if __name__ == "__main__":
    folder, act = Path(sys.argv[1]), sys.argv[2]
    plain_call = Step.__call__
    outcome: dict[str, Any] = {}
    if act == "begin":
        outcome["whole"] = train(folder / "whole")
        at_step(22, 1, lambda: os.kill(os.getpid(), signal.SIGTERM))
        outcome["told"] = train(folder / "told")
        Step.__call__ = plain_call  # type: ignore[method-assign]
        outcome["completed"] = train(folder / "told", resume=True)
        outcome["skipping"] = train(folder / "skipping", "on_nan=skip", prepare=breaking)
    else:
        outcome["killed"] = train(folder / "killed", resume=True)
    torch.save(outcome, folder / f"{act}.{dist.get_rank()}")
    if act == "begin":
        at_step(22, 1, lambda: os.kill(os.getpid(), signal.SIGKILL))
        train(folder / "killed")
