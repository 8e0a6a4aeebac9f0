"""What processes that share a run are made to do in tests: objectives, and functions for `launch`."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from tests.helpers.commands import wait_until
from vaelab.objectives import ELBO, Terms
from vaelab.randomness import stream
from vaelab.runs.processes.cores import this_process
from vaelab.training.step import add_up_gradients, average
from vaelab.vae import VAE


class Eventful(ELBO):
    """The usual bound, but something happens once: right before a training step of one of the processes.

    Args:
        act: what; `wait` is for somebody to remove the mark.
        mark: a file that says that it has happened.
        rank: of the process.
        step: counted from 1.
    """

    def __init__(self, act: str = "raise", mark: str = "mark", rank: int = 1, step: int = 22, **bound: Any) -> None:
        super().__init__(**bound)
        self.act, self.mark, self.rank, self.at = act, mark, rank, step
        self.calls = 0

    def forward(self, vae: VAE, x: torch.Tensor, step: torch.Tensor) -> Terms:
        self.calls += vae.training
        due = vae.training and self.calls == self.at and this_process()[0] == self.rank
        mark = Path(self.mark)
        if due and not mark.exists():
            mark.touch()
            if self.act == "wait":
                wait_until(lambda: not mark.exists())
                return super().forward(vae, x, step)
            return ACTS[self.act](super().forward(vae, x, step))
        return super().forward(vae, x, step)


class Breaking(ELBO):
    """The usual bound, but that of the first example of process 1 is no number at step 22."""

    def forward(self, vae: VAE, x: torch.Tensor, step: torch.Tensor) -> Terms:
        terms = super().forward(vae, x, step)
        if vae.training and torch.initial_seed() == stream("train", 0, 1, 6, 1):
            terms.loss[0] += float("nan")
        return terms


def fail(terms: Terms) -> Terms:
    raise KeyError("something of the user's own")


ACTS: dict[str, Callable[[Terms], Terms]] = {
    "raise": fail,
    "tell one": lambda terms: (os.kill(os.getpid(), signal.SIGTERM), terms)[1],
}


def exchanging() -> dict[str, Any]:
    """What a gradient and a buffer become of which the second process has nothing."""
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    parameters = [torch.zeros(2, requires_grad=True) for _ in range(3)]
    parameters[0].grad = torch.ones(2)  # as a prior on the weights gives it to all
    if rank == 0:
        parameters[1].grad = torch.tensor([2.0, 3.0])
    add_up_gradients(parameters, some_empty=True)
    mask = torch.tensor([1.0 + rank, -float("inf")])
    average([mask], weight=1.0 - rank)
    gradients = [None if p.grad is None else p.grad.tolist() for p in parameters]
    everyones: list[Any] = [None, None]
    dist.all_gather_object(everyones, (gradients, mask.tolist(), torch.get_num_threads(), os.getcwd()))
    dist.destroy_process_group()
    return {"rank": rank, "found": everyones}


def failing_after_the_first() -> None:
    """The second process fails, and the first because of that."""
    dist.init_process_group("gloo")
    if dist.get_rank() == 1:
        raise ValueError("the cause")
    dist.barrier()


def ended_from_outside() -> None:
    """The second process is killed, and the first fails because of that."""
    dist.init_process_group("gloo")
    dist.barrier()
    if dist.get_rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    dist.barrier()
